//! Nodes as the administrator sees them.

use coordinator_core::{NodeNumber, UnixMillis};
use sqlx::Row;

use super::{Store, StoreError, time_from_sql, to_sql};

/// A node that was enrolled.
#[derive(Clone, Debug)]
pub struct EnrolledNode {
    /// Its number and host name.
    pub number: NodeNumber,
    /// The program that it said it is.
    pub software: String,
    /// When it came.
    pub enrolled: UnixMillis,
    /// Since when its credential is worth nothing.
    pub revoked: Option<UnixMillis>,
}

impl Store {
    /// All nodes that were ever enrolled, by number.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn enrolled_nodes(&self) -> Result<Vec<EnrolledNode>, StoreError> {
        let select = "SELECT number, software, enrolled, revoked FROM node ORDER BY number";
        let rows = sqlx::query(select).fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                let revoked = row.try_get::<Option<i64>, _>("revoked")?;
                Ok(EnrolledNode {
                    number: number_from(row.try_get("number")?)?,
                    software: row.try_get("software")?,
                    enrolled: time_from_sql(row.try_get("enrolled")?)?,
                    revoked: revoked.map(time_from_sql).transpose()?,
                })
            })
            .collect()
    }

    /// Ends a node's credential. False: there is no such node, or it was revoked before.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn revoke_node(&self, node: NodeNumber, now: UnixMillis) -> Result<bool, StoreError> {
        let update = "UPDATE node SET revoked = ? WHERE number = ? AND revoked IS NULL";
        let query = sqlx::query(update).bind(to_sql(now.0)).bind(to_sql(node.0));
        Ok(query.execute(&self.pool).await?.rows_affected() > 0)
    }

    /// Ends the credential of the node that a join token made, by the token's id. None: there is no such
    /// node, or it was revoked before.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn revoke_node_of_token(
        &self,
        token_id: &str,
        now: UnixMillis,
    ) -> Result<Option<NodeNumber>, StoreError> {
        let update = "UPDATE node SET revoked = ? WHERE revoked IS NULL AND key IN (SELECT used_by \
                      FROM join_token WHERE lower(substr(hex(token_sha256), 1, 12)) = ? \
                      AND makes = 'node') RETURNING number";
        let query = sqlx::query_scalar(update).bind(to_sql(now.0)).bind(token_id.to_lowercase());
        query.fetch_optional(&self.pool).await?.map(number_from).transpose()
    }

    /// The nodes whose credentials are worth nothing.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn revoked_nodes(&self) -> Result<Vec<NodeNumber>, StoreError> {
        let select = "SELECT number FROM node WHERE revoked IS NOT NULL";
        let numbers: Vec<i64> = sqlx::query_scalar(select).fetch_all(&self.pool).await?;
        numbers.into_iter().map(number_from).collect()
    }
}

fn number_from(value: i64) -> Result<NodeNumber, StoreError> {
    u64::try_from(value).map(NodeNumber).map_err(|_| StoreError::Column("node number"))
}
