//! What survives a restart: one SQLite file in the data directory.
//!
//! WAL lets the command line's `token` and `user` write while the server runs, and readers never wait.
//! `synchronous=FULL`: a job number that was given out and a token that was used up must survive a power
//! cut, and commits are rare here (polls do not write).

mod audit;
mod jobs;
mod nodes;
mod relays;
pub(crate) mod rows;
mod tokens;
mod users;

use std::path::Path;
use std::time::Duration;

use coordinator_core::UnixMillis;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};

pub use self::audit::AuditRow;
pub use self::jobs::JobFilter;
pub use self::nodes::EnrolledNode;
pub use self::rows::{EnrolRefusal, EnrolRow, NodeRow};
pub use self::tokens::{TokenMakes, TokenRow, TokenState};
pub use self::users::{AddUserError, UserRow};

/// The database's file in the data directory.
pub(crate) const DATABASE: &str = "coordinator.sqlite";

/// How long a writer waits for another one. Chosen: longer than any transaction of ours by far.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections for readers. Chosen: finished jobs and unknown tokens are all that is read from disk.
const READERS: u32 = 4;

/// Opening the database failed.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// The folder cannot be made, or nothing can be made in it.
    #[error("cannot make the data directory {path}, or the database in it")]
    Folder {
        /// Which.
        path: String,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be opened.
    #[error("cannot open the database in {path}: check the directory's permissions and free space")]
    Open {
        /// The data directory.
        path: String,
        /// What SQLite says.
        #[source]
        source: sqlx::Error,
    },
    /// The tables are not this program's.
    #[error("cannot bring the database in {path} up to date: was it written by a newer version?")]
    Migrate {
        /// The data directory.
        path: String,
        /// What SQLite says.
        #[source]
        source: sqlx::migrate::MigrateError,
    },
}

/// A row could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused.
    #[error("the database did not answer")]
    Database(#[from] sqlx::Error),
    /// A row's object cannot be read: the file was changed from outside.
    #[error("a stored object cannot be read")]
    Body(#[from] serde_json::Error),
    /// A number or hash in a row is out of range.
    #[error("a stored {0} cannot be read")]
    Column(&'static str),
}

/// The database.
#[derive(Clone, Debug)]
pub struct Store {
    pool: SqlitePool,
}

impl Store {
    /// Opens or makes the database in the data directory, and the directory itself.
    ///
    /// # Errors
    ///
    /// See [`OpenStoreError`].
    pub async fn open(data: &Path) -> Result<Self, OpenStoreError> {
        let path = data.display().to_string();
        let file = data.join(DATABASE);
        make_private_folder(data)
            .and_then(|()| make_private_file(&file))
            .map_err(|source| OpenStoreError::Folder { path: path.clone(), source })?;
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true);
        let pool = SqlitePoolOptions::new().max_connections(READERS).connect_with(options).await;
        let pool = pool.map_err(|source| OpenStoreError::Open { path: path.clone(), source })?;
        let migrated = sqlx::migrate!("./migrations").run(&pool).await;
        migrated.map_err(|source| OpenStoreError::Migrate { path, source })?;
        Ok(Self { pool })
    }

    /// A stored setting.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn setting(&self, key: &str) -> Result<Option<String>, StoreError> {
        let query = sqlx::query_scalar("SELECT value FROM setting WHERE key = ?").bind(key);
        Ok(query.fetch_optional(&self.pool).await?)
    }

    /// Stores a setting.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn set_setting(&self, key: &str, value: &str) -> Result<(), StoreError> {
        sqlx::query("INSERT OR REPLACE INTO setting (key, value) VALUES (?, ?)")
            .bind(key)
            .bind(value)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Writes a copy of the whole database, as it is at one moment, to a file that is not there yet. Others go
    /// on reading and writing.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn copy_to(&self, file: &Path) -> Result<(), StoreError> {
        let name = file.to_str().ok_or(StoreError::Column("file name"))?;
        // Made first, for its permissions; SQLite takes an empty file.
        make_private_file(file).map_err(sqlx::Error::from)?;
        sqlx::query("VACUUM INTO ?").bind(name).execute(&self.pool).await?;
        let written = tokio::fs::File::open(file).await.map_err(sqlx::Error::from)?;
        Ok(written.sync_all().await.map_err(sqlx::Error::from)?)
    }

    /// What SQLite finds wrong with the file; nothing, as a rule.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn damage(&self) -> Result<Vec<String>, StoreError> {
        let lines = sqlx::query_scalar("PRAGMA integrity_check(10)").fetch_all(&self.pool).await?;
        Ok(lines.into_iter().filter(|line: &String| line != "ok").collect())
    }

    /// For tests: what no method of the program writes.
    #[cfg(test)]
    pub(crate) async fn run(&self, statement: &'static str) -> Result<(), StoreError> {
        sqlx::query(statement).execute(&self.pool).await?;
        Ok(())
    }

    /// Closes all connections, so that the write-ahead log is folded into the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Only the owner may look: the database holds hashes of secrets, the folder the root's key.
fn make_private_folder(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// SQLite would let everybody read, and the folder may have been made by somebody else. Its log gets the
/// same permissions as the file.
fn make_private_file(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::File::options().append(true).create(true).mode(0o600).open(path).map(drop)
}

/// SQLite's integers are signed; ours never get near the limit.
fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A stored time.
fn time_from_sql(value: i64) -> Result<UnixMillis, StoreError> {
    u64::try_from(value).map(UnixMillis).map_err(|_| StoreError::Column("time"))
}

fn hash_from_sql(bytes: &[u8]) -> Result<[u8; 32], StoreError> {
    bytes.try_into().map_err(|_| StoreError::Column("hash"))
}
