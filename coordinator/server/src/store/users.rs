//! Scientists.

use coordinator_core::UnixMillis;
use sqlx::Row;

use super::{Store, StoreError, hash_from_sql, to_sql};
use crate::secret::SecretHash;

/// Adding a user failed.
#[derive(Debug, thiserror::Error)]
pub enum AddUserError {
    /// Not a login name.
    #[error(
        "cannot use `{0}` as a user name: 1 to 32 letters, digits, dots, dashes and underscores"
    )]
    Name(String),
    /// OAR's administrator submits no jobs.
    #[error("the name `oar` is the administrator's: choose another one")]
    Reserved,
    /// The name is taken.
    #[error("there is already a user `{0}`")]
    Taken(String),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn is_login(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    (1..=32).contains(&name.len()) && name.chars().all(allowed)
}

impl Store {
    /// Adds a user whose token has this hash.
    ///
    /// # Errors
    ///
    /// See [`AddUserError`].
    pub async fn add_user(
        &self,
        name: &str,
        token: SecretHash,
        now: UnixMillis,
    ) -> Result<(), AddUserError> {
        if !is_login(name) {
            return Err(AddUserError::Name(name.chars().take(40).collect()));
        }
        if name == "oar" {
            return Err(AddUserError::Reserved);
        }
        let insert = "INSERT INTO user (name, token_sha256, created) VALUES (?, ?, ?) \
                      ON CONFLICT (name) DO NOTHING";
        let query = sqlx::query(insert).bind(name).bind(token.0.to_vec()).bind(to_sql(now.0));
        let done = query.execute(&self.pool).await.map_err(StoreError::from)?;
        if done.rows_affected() == 0 {
            return Err(AddUserError::Taken(name.to_owned()));
        }
        Ok(())
    }

    /// The users' names and when they were added.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn users(&self) -> Result<Vec<(String, UnixMillis)>, StoreError> {
        let rows = sqlx::query("SELECT name, created FROM user ORDER BY name");
        let rows = rows.fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                let created = u64::try_from(row.try_get::<i64, _>("created")?);
                let created = created.map_err(|_| StoreError::Column("time"))?;
                Ok((row.try_get("name")?, UnixMillis(created)))
            })
            .collect()
    }

    /// The user whose token has this hash.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn user_of(&self, token: &SecretHash) -> Result<Option<String>, StoreError> {
        let query = sqlx::query("SELECT name, token_sha256 FROM user WHERE token_sha256 = ?");
        let Some(row) = query.bind(token.0.to_vec()).fetch_optional(&self.pool).await? else {
            return Ok(None);
        };
        let stored = SecretHash(hash_from_sql(row.try_get("token_sha256")?)?);
        Ok(if stored.matches(token) { Some(row.try_get("name")?) } else { None })
    }
}
