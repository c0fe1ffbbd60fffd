//! Tokens and credentials: 32 random bytes, stored as their SHA-256.
//!
//! A fast hash is enough: there is nothing to guess in 256 random bits.

use data_encoding::BASE64URL_NOPAD;
use rand::TryRngCore;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The longest text that is looked at as a secret, bytes (a real one has 43).
const MAX_SECRET: usize = 128;

/// The SHA-256 of a secret.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretHash(pub [u8; 32]);

impl SecretHash {
    /// Of a secret's text; none if the text is too long to be one.
    pub fn of(secret: &str) -> Option<Self> {
        (secret.len() <= MAX_SECRET).then(|| Self(Sha256::digest(secret).into()))
    }

    /// Compares in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Makes a secret: its text (base64url, 43 characters) and its hash.
///
/// # Errors
///
/// The system has no randomness to give.
pub fn make_secret() -> Result<(String, SecretHash), rand::rand_core::OsError> {
    let mut bytes = [0; 32];
    rand::rngs::OsRng.try_fill_bytes(&mut bytes)?;
    let text = BASE64URL_NOPAD.encode(&bytes);
    let hash = SecretHash(Sha256::digest(&text).into());
    Ok((text, hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_again_by_its_hash() {
        let (text, hash) = make_secret().unwrap();
        assert_eq!(text.len(), 43);
        assert!(SecretHash::of(&text).unwrap().matches(&hash));
        assert!(!SecretHash::of("other").unwrap().matches(&hash));
        assert!(SecretHash::of(&"x".repeat(MAX_SECRET + 1)).is_none());
    }
}
