//! Join tokens: each makes one node, or one relay.

use std::fmt;
use std::time::Duration;

use coordinator_core::{NodeNumber, UnixMillis};
use data_encoding::HEXLOWER;
use sqlx::Row;

use super::{Store, StoreError, hash_from_sql, time_from_sql, to_sql};
use crate::secret::SecretHash;

/// A join token as the operator sees it.
#[derive(Clone, Debug)]
pub struct TokenRow {
    /// Names the token: the first 12 digits of its hash.
    pub id: String,
    /// What it is good for.
    pub makes: TokenMakes,
    /// When it was made.
    pub created: UnixMillis,
    /// When it expires.
    pub expires: UnixMillis,
    /// What became of it.
    pub state: TokenState,
}

/// What a join token makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenMakes {
    /// A volunteer's machine a node.
    Node,
    /// A machine a relay.
    Relay,
}

impl TokenMakes {
    fn in_sql(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Relay => "relay",
        }
    }
}

/// What became of a join token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// It can be used.
    Open,
    /// It made this node; none: a relay.
    Used(Option<NodeNumber>),
    /// It is too old.
    Expired,
    /// The operator took it back.
    Revoked,
}

impl fmt::Display for TokenState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open => f.write_str("open"),
            Self::Used(Some(node)) => write!(f, "used by {node}"),
            Self::Used(None) => f.write_str("used"),
            Self::Expired => f.write_str("expired"),
            Self::Revoked => f.write_str("revoked"),
        }
    }
}

impl Store {
    /// Adds a join token with this hash.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn add_token(
        &self,
        token: SecretHash,
        makes: TokenMakes,
        now: UnixMillis,
        lifetime: Duration,
    ) -> Result<(), StoreError> {
        let insert = "INSERT INTO join_token (token_sha256, makes, created, expires) \
                      VALUES (?, ?, ?, ?)";
        sqlx::query(insert)
            .bind(token.0.to_vec())
            .bind(makes.in_sql())
            .bind(to_sql(now.0))
            .bind(to_sql((now + lifetime).0))
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// All join tokens, oldest first.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn tokens(&self, now: UnixMillis) -> Result<Vec<TokenRow>, StoreError> {
        let select = "SELECT t.token_sha256, t.makes, t.created, t.expires, t.revoked, t.used_by, n.number \
                      FROM join_token t LEFT JOIN node n ON n.key = t.used_by ORDER BY t.created";
        let rows = sqlx::query(select).fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                let time = |column| time_from_sql(row.try_get(column)?);
                let node = row.try_get::<Option<i64>, _>("number")?;
                let node = node.and_then(|number| u64::try_from(number).ok()).map(NodeNumber);
                let state = if row.try_get::<Option<Vec<u8>>, _>("used_by")?.is_some() {
                    TokenState::Used(node)
                } else if row.try_get::<Option<i64>, _>("revoked")?.is_some() {
                    TokenState::Revoked
                } else if time("expires")? <= now {
                    TokenState::Expired
                } else {
                    TokenState::Open
                };
                let hash = hash_from_sql(row.try_get("token_sha256")?)?;
                let id = HEXLOWER.encode(&hash)[..12].to_owned();
                let makes = match row.try_get::<String, _>("makes")?.as_str() {
                    "relay" => TokenMakes::Relay,
                    _ => TokenMakes::Node,
                };
                let (created, expires) = (time("created")?, time("expires")?);
                Ok(TokenRow { id, makes, created, expires, state })
            })
            .collect()
    }

    /// Takes an unused join token back, by its id or its secret. False if there is no such token.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn revoke_token(&self, id: &str, now: UnixMillis) -> Result<bool, StoreError> {
        let hash = SecretHash::of(id).map(|hash| hash.0.to_vec());
        let update = "UPDATE join_token SET revoked = ? WHERE used_by IS NULL AND revoked IS NULL \
                      AND (lower(substr(hex(token_sha256), 1, 12)) = ? OR token_sha256 = ?)";
        let query = sqlx::query(update).bind(to_sql(now.0)).bind(id.to_lowercase()).bind(hash);
        Ok(query.execute(&self.pool).await?.rows_affected() > 0)
    }
}
