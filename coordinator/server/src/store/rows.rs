//! The cluster's rows: loaded at the start, written by the ledger alone.

use coordinator_core::{
    Change, Cluster, Counters, Job, Node, NodeNumber, Policy, UnixMillis, Usage, UsageKey, Used,
};
use overlay_core::ids::NodeId;
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use sqlx::{Connection, Row, Sqlite, Transaction};

use super::{Store, StoreError, hash_from_sql, to_sql};
use crate::secret::SecretHash;

/// What the server knows of a node beside what the scheduler does.
pub struct NodeRow {
    /// The node.
    pub number: NodeNumber,
    /// Its public key.
    pub key: NodeId,
    /// The hash of its credential.
    pub credential: SecretHash,
}

/// A node that asks to join, as stored.
pub struct EnrolRow {
    /// The hash of the join token that it shows.
    pub token: SecretHash,
    /// Its public key.
    pub key: NodeId,
    /// The hash of the credential that it will get.
    pub credential: SecretHash,
    /// Name and version of its program.
    pub software: String,
    /// Memory that the volunteer gives, MiB.
    pub memory_mib: u64,
}

/// Why a join token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnrolRefusal {
    /// Never made, or taken back.
    #[error("join token unknown")]
    Unknown,
    /// Another key has used it.
    #[error("join token already used")]
    Used,
    /// Too old.
    #[error("join token expired")]
    Expired,
}

impl Store {
    /// Loads all nodes and the jobs that have not ended.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn load(
        &self,
        now: UnixMillis,
        policy: &Policy,
    ) -> Result<(Cluster, Vec<NodeRow>), StoreError> {
        let mut nodes: Vec<Node> = Vec::new();
        let mut rows = Vec::new();
        for row in sqlx::query("SELECT * FROM node ORDER BY number").fetch_all(&self.pool).await? {
            let node: Node = serde_json::from_str(row.try_get("body")?)?;
            rows.push(NodeRow {
                number: node.number,
                key: NodeId(hash_from_sql(row.try_get("key")?)?),
                credential: SecretHash(hash_from_sql(row.try_get("credential_sha256")?)?),
            });
            nodes.push(node);
        }
        let select = "SELECT body FROM job WHERE state NOT IN ('Terminated', 'Error') ORDER BY id";
        let bodies: Vec<String> = sqlx::query_scalar(select).fetch_all(&self.pool).await?;
        let jobs = bodies.iter().map(|body| serde_json::from_str(body));
        let jobs = jobs.collect::<Result<Vec<Job>, _>>()?;
        let counters: Option<String> =
            sqlx::query_scalar("SELECT body FROM counters").fetch_optional(&self.pool).await?;
        let counters = counters.as_deref().map(serde_json::from_str).transpose()?;
        let counters: Counters = counters.unwrap_or_default();
        let usage = Usage::load(self.accounting(UsageKey::window_start(now), u64::MAX).await?);
        Ok((Cluster::load(nodes, jobs, counters, usage, now, policy), rows))
    }

    /// What was used on the days from `first` to `last`, by user and project.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn accounting(
        &self,
        first: u64,
        last: u64,
    ) -> Result<Vec<(UsageKey, Used)>, StoreError> {
        let select =
            "SELECT * FROM accounting WHERE day BETWEEN ? AND ? ORDER BY day, user, project";
        let query = sqlx::query(select).bind(to_sql(first)).bind(to_sql(last));
        let rows = query.fetch_all(&self.pool).await?;
        let row = |row: &sqlx::sqlite::SqliteRow| {
            let number = |column: &str| {
                let number: i64 = row.try_get(column)?;
                u64::try_from(number).map_err(|_| StoreError::Column("count"))
            };
            let (user, project) = (row.try_get("user")?, row.try_get("project")?);
            let key = UsageKey { day: number("day")?, user, project };
            Ok((key, Used { asked: number("asked")?, used: number("used")? }))
        };
        rows.iter().map(row).collect()
    }

    /// The ledger's own connection.
    pub(crate) async fn writer(&self) -> Result<Writer, StoreError> {
        let connection = self.pool.acquire().await?.detach();
        Ok(Writer { pool: self.pool.clone(), connection, is_settled: true })
    }
}

/// The one connection that writes the cluster's rows.
pub(crate) struct Writer {
    pool: SqlitePool,
    connection: SqliteConnection,
    /// No transaction is under way, as far as is known.
    is_settled: bool,
}

impl Writer {
    /// Begins a transaction that no other process's write can come between. Whoever ends it well says so
    /// with [`settle`](Self::settle).
    ///
    /// A transaction that ended badly costs its connection: after a full disk SQLite has rolled back by
    /// itself, and sqlx would believe for ever that the transaction goes on.
    pub(crate) async fn begin(&mut self) -> Result<Transaction<'_, Sqlite>, StoreError> {
        if !self.is_settled {
            self.connection = self.pool.acquire().await?.detach();
        }
        self.is_settled = false;
        Ok(self.connection.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// The last transaction was committed or rolled back without an error.
    pub(crate) fn settle(&mut self) {
        self.is_settled = true;
    }

    /// Stores the changes, all or none.
    pub(crate) async fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut transaction = self.begin().await?;
        write_changes(&mut transaction, changes).await?;
        transaction.commit().await?;
        self.settle();
        Ok(())
    }

    pub(crate) async fn close(self) -> Result<(), StoreError> {
        Ok(self.connection.close().await?)
    }
}

pub(crate) async fn write_changes(
    connection: &mut SqliteConnection,
    changes: &[Change],
) -> Result<(), StoreError> {
    for change in changes {
        match change {
            Change::Node(node) => {
                sqlx::query("UPDATE node SET body = ? WHERE number = ?")
                    .bind(serde_json::to_string(&**node)?)
                    .bind(to_sql(node.number.0))
                    .execute(&mut *connection)
                    .await?;
            }
            Change::Job(job) => write_job(connection, job).await?,
            Change::Usage(key, used) => write_usage(connection, key, *used).await?,
            Change::Counters(counters) => {
                sqlx::query("INSERT OR REPLACE INTO counters (only, body) VALUES (1, ?)")
                    .bind(serde_json::to_string(counters)?)
                    .execute(&mut *connection)
                    .await?;
            }
        }
    }
    Ok(())
}

async fn write_usage(
    connection: &mut SqliteConnection,
    key: &UsageKey,
    used: Used,
) -> Result<(), StoreError> {
    let insert = "INSERT OR REPLACE INTO accounting (day, user, project, asked, used) \
                  VALUES (?, ?, ?, ?, ?)";
    sqlx::query(insert)
        .bind(to_sql(key.day))
        .bind(&key.user)
        .bind(&key.project)
        .bind(to_sql(used.asked))
        .bind(to_sql(used.used))
        .execute(connection)
        .await?;
    Ok(())
}

async fn write_job(connection: &mut SqliteConnection, job: &Job) -> Result<(), StoreError> {
    let insert = "INSERT INTO job (id, state, owner, submitted, array_id, body) VALUES (?, ?, ?, ?, ?, ?) \
                  ON CONFLICT (id) DO UPDATE SET state = excluded.state, body = excluded.body";
    sqlx::query(insert)
        .bind(to_sql(job.id.0))
        .bind(super::jobs::state_name(job.state))
        .bind(&job.owner)
        .bind(to_sql(job.submitted.0))
        .bind(to_sql(job.array_id().0))
        .bind(serde_json::to_string(job)?)
        .execute(connection)
        .await?;
    Ok(())
}

/// The node that a key already is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KnownNode {
    pub(crate) number: NodeNumber,
    /// It was turned out, and comes back with a new token.
    pub(crate) was_revoked: bool,
}

/// Uses a join token up for a key. The node that the key already is, if it is one.
pub(crate) async fn use_token(
    connection: &mut SqliteConnection,
    asked: &EnrolRow,
    now: UnixMillis,
) -> Result<Result<Option<KnownNode>, EnrolRefusal>, StoreError> {
    let key = asked.key.0.to_vec();
    let known = known_node(connection, &key).await?;
    let select = "SELECT token_sha256, expires, revoked, used_by FROM join_token \
                  WHERE token_sha256 = ? AND makes = 'node'";
    let query = sqlx::query(select).bind(asked.token.0.to_vec());
    let Some(row) = query.fetch_optional(&mut *connection).await? else {
        return Ok(Err(EnrolRefusal::Unknown));
    };
    let stored = SecretHash(hash_from_sql(row.try_get("token_sha256")?)?);
    if !stored.matches(&asked.token) || row.try_get::<Option<i64>, _>("revoked")?.is_some() {
        return Ok(Err(EnrolRefusal::Unknown));
    }
    match row.try_get::<Option<Vec<u8>>, _>("used_by")? {
        // The answer was lost: the same key may ask again, however late, unless it was turned out since.
        Some(used_by) if used_by == key && known.is_some_and(|node| node.was_revoked) => {
            return Ok(Err(EnrolRefusal::Used));
        }
        Some(used_by) if used_by == key => {}
        Some(_) => return Ok(Err(EnrolRefusal::Used)),
        None if row.try_get::<i64, _>("expires")? <= to_sql(now.0) => {
            return Ok(Err(EnrolRefusal::Expired));
        }
        None => {
            sqlx::query("UPDATE join_token SET used_by = ?, used = ? WHERE token_sha256 = ?")
                .bind(&key)
                .bind(to_sql(now.0))
                .bind(asked.token.0.to_vec())
                .execute(&mut *connection)
                .await?;
        }
    }
    Ok(Ok(known))
}

async fn known_node(
    connection: &mut SqliteConnection,
    key: &[u8],
) -> Result<Option<KnownNode>, StoreError> {
    let query = sqlx::query("SELECT number, revoked FROM node WHERE key = ?").bind(key);
    let Some(row) = query.fetch_optional(connection).await? else { return Ok(None) };
    let number = u64::try_from(row.try_get::<i64, _>("number")?);
    let number = NodeNumber(number.map_err(|_| StoreError::Column("node number"))?);
    let was_revoked = row.try_get::<Option<i64>, _>("revoked")?.is_some();
    Ok(Some(KnownNode { number, was_revoked }))
}

/// Adds a node's row, or gives a known node its new credential.
pub(crate) async fn write_enrolled(
    connection: &mut SqliteConnection,
    asked: &EnrolRow,
    node: &Node,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let insert = "INSERT INTO node \
                  (number, key, credential_sha256, software, memory_mib, enrolled, body) \
                  VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (number) DO UPDATE SET \
                  credential_sha256 = excluded.credential_sha256, software = excluded.software, \
                  revoked = NULL";
    sqlx::query(insert)
        .bind(to_sql(node.number.0))
        .bind(asked.key.0.to_vec())
        .bind(asked.credential.0.to_vec())
        .bind(&asked.software)
        .bind(to_sql(asked.memory_mib))
        .bind(to_sql(now.0))
        .bind(serde_json::to_string(node)?)
        .execute(connection)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests;
