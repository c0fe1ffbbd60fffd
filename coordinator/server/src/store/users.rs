//! Users: what proves who they are, and what they may do.

use coordinator_core::UnixMillis;
use sqlx::Row;

use super::{Store, StoreError, hash_from_sql, time_from_sql, to_sql};
use crate::role::{ADMINISTRATOR, Role, User};
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
    #[error(
        "the name `oar` is the administrator's: choose another one, or add it with --role admin"
    )]
    Reserved,
    /// The name is taken.
    #[error("there is already a user `{0}`")]
    Taken(String),
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A user as the administrator sees them.
#[derive(Clone, Debug)]
pub struct UserRow {
    /// Name and role.
    pub user: User,
    /// When they were added.
    pub created: UnixMillis,
    /// They can use Basic authentication.
    pub has_password: bool,
    /// Since when their secrets are worth nothing.
    pub revoked: Option<UnixMillis>,
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
        role: Role,
        token: SecretHash,
        now: UnixMillis,
    ) -> Result<(), AddUserError> {
        if !is_login(name) {
            return Err(AddUserError::Name(name.chars().take(40).collect()));
        }
        if name == ADMINISTRATOR && role != Role::Admin {
            return Err(AddUserError::Reserved);
        }
        let insert = "INSERT INTO user (name, role, token_sha256, created) VALUES (?, ?, ?, ?) \
                      ON CONFLICT (name) DO NOTHING";
        let query = sqlx::query(insert).bind(name).bind(role.name());
        let query = query.bind(token.0.to_vec()).bind(to_sql(now.0));
        let done = query.execute(&self.pool).await.map_err(StoreError::from)?;
        if done.rows_affected() == 0 {
            return Err(AddUserError::Taken(name.to_owned()));
        }
        Ok(())
    }

    /// All users, by name.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn users(&self) -> Result<Vec<UserRow>, StoreError> {
        let select = "SELECT name, role, created, password IS NOT NULL AS has_password, revoked \
                      FROM user ORDER BY name";
        let rows = sqlx::query(select).fetch_all(&self.pool).await?;
        rows.iter()
            .map(|row| {
                let revoked = row.try_get::<Option<i64>, _>("revoked")?;
                Ok(UserRow {
                    user: user_from(row)?,
                    created: time_from_sql(row.try_get("created")?)?,
                    has_password: row.try_get("has_password")?,
                    revoked: revoked.map(time_from_sql).transpose()?,
                })
            })
            .collect()
    }

    /// Gives a user a new token; the old one ends. It lets a revoked user in again. False: no such user.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn set_user_token(&self, name: &str, token: SecretHash) -> Result<bool, StoreError> {
        let update = "UPDATE user SET token_sha256 = ?, revoked = NULL WHERE name = ?";
        let query = sqlx::query(update).bind(token.0.to_vec()).bind(name);
        Ok(query.execute(&self.pool).await?.rows_affected() > 0)
    }

    /// Gives a user another role. False: no such user.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn set_role(&self, name: &str, role: Role) -> Result<bool, StoreError> {
        let query = sqlx::query("UPDATE user SET role = ? WHERE name = ?");
        let done = query.bind(role.name()).bind(name).execute(&self.pool).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Stores Argon2's text of a user's password, or takes the password away. False: no such user.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn set_password(&self, name: &str, hash: Option<&str>) -> Result<bool, StoreError> {
        let query = sqlx::query("UPDATE user SET password = ? WHERE name = ?");
        let done = query.bind(hash).bind(name).execute(&self.pool).await?;
        Ok(done.rows_affected() > 0)
    }

    /// Ends a user's token and password. False: no such user.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn revoke_user(&self, name: &str, now: UnixMillis) -> Result<bool, StoreError> {
        let query = sqlx::query("UPDATE user SET revoked = ?, password = NULL WHERE name = ?");
        let done = query.bind(to_sql(now.0)).bind(name).execute(&self.pool).await?;
        Ok(done.rows_affected() > 0)
    }

    /// The user whose token has this hash.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn user_of(&self, token: &SecretHash) -> Result<Option<User>, StoreError> {
        let select = "SELECT name, role, token_sha256 FROM user \
                      WHERE token_sha256 = ? AND revoked IS NULL";
        let query = sqlx::query(select).bind(token.0.to_vec());
        let Some(row) = query.fetch_optional(&self.pool).await? else { return Ok(None) };
        let stored = SecretHash(hash_from_sql(row.try_get("token_sha256")?)?);
        if stored.matches(token) { user_from(&row).map(Some) } else { Ok(None) }
    }

    /// A user by name, with Argon2's text of their password if they have one. None: unknown or revoked.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub async fn user_named(
        &self,
        name: &str,
    ) -> Result<Option<(User, Option<String>)>, StoreError> {
        let select = "SELECT name, role, password FROM user WHERE name = ? AND revoked IS NULL";
        let row = sqlx::query(select).bind(name).fetch_optional(&self.pool).await?;
        row.map(|row| Ok((user_from(&row)?, row.try_get("password")?))).transpose()
    }
}

fn user_from(row: &sqlx::sqlite::SqliteRow) -> Result<User, StoreError> {
    let role = Role::from_name(row.try_get("role")?).ok_or(StoreError::Column("role"))?;
    Ok(User { name: row.try_get("name")?, role })
}
