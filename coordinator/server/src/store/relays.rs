//! Relays that run alone: each comes with a token of its own kind, once.

use coordinator_core::UnixMillis;
use overlay_core::NodeId;
use sqlx::Row;

use super::{Store, StoreError, hash_from_sql, to_sql};
use crate::secret::SecretHash;

impl Store {
    /// Whether that relay may come in: it is enrolled and not revoked, or the token makes it so now.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn admit_relay(
        &self,
        relay: NodeId,
        token: Option<SecretHash>,
        now: UnixMillis,
    ) -> Result<bool, StoreError> {
        let key = relay.0.to_vec();
        let query = sqlx::query("SELECT revoked FROM relay WHERE key = ?").bind(&key);
        if let Some(row) = query.fetch_optional(&self.pool).await? {
            return Ok(row.try_get::<Option<i64>, _>("revoked")?.is_none());
        }
        let Some(token) = token else { return Ok(false) };
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let select = "SELECT token_sha256 FROM join_token WHERE token_sha256 = ? AND makes = 'relay' \
                      AND revoked IS NULL AND used_by IS NULL AND expires > ?";
        let query = sqlx::query(select).bind(token.0.to_vec()).bind(to_sql(now.0));
        let Some(row) = query.fetch_optional(&mut *transaction).await? else { return Ok(false) };
        let stored = SecretHash(hash_from_sql(row.try_get("token_sha256")?)?);
        if !stored.matches(&token) {
            return Ok(false);
        }
        sqlx::query("UPDATE join_token SET used_by = ?, used = ? WHERE token_sha256 = ?")
            .bind(&key)
            .bind(to_sql(now.0))
            .bind(token.0.to_vec())
            .execute(&mut *transaction)
            .await?;
        sqlx::query("INSERT INTO relay (key, token_sha256, enrolled) VALUES (?, ?, ?)")
            .bind(&key)
            .bind(token.0.to_vec())
            .bind(to_sql(now.0))
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Takes the right of the relay back that came with that token, by the token's id. False if there is
    /// none.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn revoke_relay(&self, token_id: &str, now: UnixMillis) -> Result<bool, StoreError> {
        let update = "UPDATE relay SET revoked = ? WHERE revoked IS NULL \
                      AND lower(substr(hex(token_sha256), 1, 12)) = ?";
        let query = sqlx::query(update).bind(to_sql(now.0)).bind(token_id.to_lowercase());
        Ok(query.execute(&self.pool).await?.rows_affected() > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::secret::make_secret;
    use crate::store::TokenMakes;

    const NOW: UnixMillis = UnixMillis(1_000_000);
    const LIFE: Duration = Duration::from_secs(60);

    fn relay(number: u8) -> NodeId {
        NodeId([number; 32])
    }

    #[tokio::test]
    async fn a_relay_comes_in_with_a_token_of_its_own_kind_once() {
        let data = tempfile::tempdir().unwrap();
        let store = Store::open(data.path()).await.unwrap();
        let (_, hash) = make_secret().unwrap();
        let (_, of_node) = make_secret().unwrap();
        let (_, unknown) = make_secret().unwrap();
        store.add_token(hash, TokenMakes::Relay, NOW, LIFE).await.unwrap();
        store.add_token(of_node, TokenMakes::Node, NOW, LIFE).await.unwrap();
        for wrong in [None, Some(of_node), Some(unknown)] {
            assert!(!store.admit_relay(relay(1), wrong, NOW).await.unwrap());
        }
        assert!(!store.admit_relay(relay(1), Some(hash), NOW + LIFE).await.unwrap(), "expired");
        assert!(store.admit_relay(relay(1), Some(hash), NOW).await.unwrap());
        assert!(!store.admit_relay(relay(2), Some(hash), NOW).await.unwrap(), "it is used up");
        for token in [None, Some(hash), Some(unknown)] {
            assert!(
                store.admit_relay(relay(1), token, NOW + LIFE).await.unwrap(),
                "it is enrolled"
            );
        }
        let id = store.tokens(NOW).await.unwrap();
        let id = id.iter().find(|row| row.makes == TokenMakes::Relay).unwrap().id.clone();
        assert!(store.revoke_relay(&id, NOW).await.unwrap());
        assert!(!store.revoke_relay(&id, NOW).await.unwrap());
        for token in [None, Some(hash)] {
            assert!(!store.admit_relay(relay(1), token, NOW).await.unwrap(), "it is revoked");
        }
    }
}
