//! Passwords: Argon2id (RFC 9106), for clients that know nothing but Basic authentication.
//!
//! A check is dear on purpose (19 MiB and two passes, the crate's defaults after OWASP's advice), so a right
//! one is remembered, one is made at a time, and who waits too long is told to come again.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

/// The longest password, bytes. Chosen: longer than any that people or password managers make.
const MAX_PASSWORD: usize = 1_024;

/// The shortest that is taken, bytes (NIST SP 800-63B).
const MIN_PASSWORD: usize = 8;

/// Checks that wait for their turn. Chosen: about a second's work.
const WAITING: usize = 32;

/// Right passwords that are remembered. Chosen: more than users poll at the same time.
const REMEMBERED: usize = 1_024;

/// How long a check may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// A password is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordRefusal {
    /// Too easy to guess.
    #[error("a password has at least {MIN_PASSWORD} characters")]
    Short,
    /// Too long.
    #[error("a password has at most {MAX_PASSWORD} bytes")]
    Long,
    /// The system has no randomness.
    #[error("the password could not be hashed")]
    Hash,
}

/// Refuses passwords that are too easy to guess.
///
/// # Errors
///
/// See [`PasswordRefusal`].
pub fn judge_password(password: &str) -> Result<(), PasswordRefusal> {
    let is_short = password.chars().count() < MIN_PASSWORD;
    if is_short { Err(PasswordRefusal::Short) } else { Ok(()) }
}

/// Argon2's text of a password.
///
/// # Errors
///
/// See [`PasswordRefusal`].
pub fn hash_password(password: &str) -> Result<String, PasswordRefusal> {
    if password.len() > MAX_PASSWORD {
        return Err(PasswordRefusal::Long);
    }
    let salt = SaltString::generate(&mut OsRng);
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt);
    hash.map(|hash| hash.to_string()).map_err(|_| PasswordRefusal::Hash)
}

/// Too many checks wait already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

/// Checks passwords, one at a time.
pub struct PasswordDesk {
    places: Semaphore,
    turn: Semaphore,
    /// Right ones by a keyed hash of stored text and password: a new password is another entry.
    remembered: Mutex<HashSet<[u8; 32]>>,
    key: [u8; 32],
    /// What a stranger's password is held against: the answer takes as long as a user's.
    nobody: String,
}

impl PasswordDesk {
    /// With a key of its own.
    ///
    /// # Errors
    ///
    /// The system has no randomness.
    pub fn new() -> Result<Self, PasswordRefusal> {
        use rand::TryRngCore;
        let mut key = [0; 32];
        rand::rngs::OsRng.try_fill_bytes(&mut key).map_err(|_| PasswordRefusal::Hash)?;
        Ok(Self {
            places: Semaphore::new(WAITING),
            turn: Semaphore::new(1),
            remembered: Mutex::default(),
            key,
            nobody: hash_password("a password of nobody")?,
        })
    }

    /// Whether `password` is the one that was stored; none was: never.
    pub(crate) async fn check(&self, stored: Option<&str>, password: &str) -> Result<bool, Busy> {
        if password.len() > MAX_PASSWORD {
            return Ok(false);
        }
        let name = self.name_of(stored.unwrap_or_default(), password);
        if stored.is_some() && self.is_remembered(&name) {
            return Ok(true);
        }
        let _place = self.places.try_acquire().map_err(|_| Busy)?;
        let turn = tokio::time::timeout(PATIENCE, self.turn.acquire()).await;
        let _turn = turn.map_err(|_| Busy)?.map_err(|_| Busy)?;
        let text = stored.unwrap_or(&self.nobody).to_owned();
        let password = password.to_owned();
        let verify = move || {
            let hash = PasswordHash::new(&text).ok();
            hash.is_some_and(|hash| {
                Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
            })
        };
        let right = tokio::task::spawn_blocking(verify).await.unwrap_or(false) && stored.is_some();
        if right {
            self.remember(name);
        }
        Ok(right)
    }

    fn name_of(&self, stored: &str, password: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [&self.key[..], stored.as_bytes(), &[0], password.as_bytes()] {
            hash.update(part);
        }
        hash.finalize().into()
    }

    fn is_remembered(&self, name: &[u8; 32]) -> bool {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    fn remember(&self, name: [u8; 32]) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_stored_password_is_right() {
        let desk = PasswordDesk::new().unwrap();
        let stored = hash_password("correct horse").unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        for _again in 0..2 {
            assert_eq!(desk.check(Some(&stored), "correct horse").await, Ok(true));
            assert_eq!(desk.check(Some(&stored), "correct mouse").await, Ok(false));
        }
        assert_eq!(desk.check(None, "a password of nobody").await, Ok(false));
        let changed = hash_password("battery staple").unwrap();
        assert_eq!(desk.check(Some(&changed), "correct horse").await, Ok(false));
    }

    #[test]
    fn short_and_endless_passwords_are_refused() {
        assert_eq!(judge_password("seven77"), Err(PasswordRefusal::Short));
        assert_eq!(hash_password(&"x".repeat(1_025)), Err(PasswordRefusal::Long));
    }
}
