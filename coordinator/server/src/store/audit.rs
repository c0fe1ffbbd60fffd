//! Who changed what about users, nodes and other users' jobs.

use coordinator_core::UnixMillis;
use serde::Serialize;
use sqlx::Row;

use super::{Store, StoreError, time_from_sql, to_sql};

/// The longest subject that is kept, characters. Chosen: a node's longest property.
const MAX_SUBJECT: usize = 500;

/// Something that was done.
#[derive(Clone, Debug, Serialize)]
pub struct AuditRow {
    /// When, milliseconds since the Unix epoch.
    pub time: UnixMillis,
    /// By whom: a user's name, or whose account ran the command on the server.
    pub actor: String,
    /// What was done.
    pub action: String,
    /// To what.
    pub subject: String,
}

impl Store {
    /// Notes that something was done.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn audit(
        &self,
        now: UnixMillis,
        actor: &str,
        action: &str,
        subject: &str,
    ) -> Result<(), StoreError> {
        let subject: String = subject.chars().take(MAX_SUBJECT).collect();
        sqlx::query("INSERT INTO audit (time, actor, action, subject) VALUES (?, ?, ?, ?)")
            .bind(to_sql(now.0))
            .bind(actor)
            .bind(action)
            .bind(subject)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The last `limit` of what was done, oldest first.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn audits(&self, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let select = "SELECT time, actor, action, subject FROM audit ORDER BY number DESC LIMIT ?";
        let rows = sqlx::query(select).bind(limit).fetch_all(&self.pool).await?;
        let row = |row: &sqlx::sqlite::SqliteRow| {
            Ok(AuditRow {
                time: time_from_sql(row.try_get("time")?)?,
                actor: row.try_get("actor")?,
                action: row.try_get("action")?,
                subject: row.try_get("subject")?,
            })
        };
        rows.iter().rev().map(row).collect()
    }
}
