//! A node's private WireGuard key in one mesh.

use boringtun::x25519::{PublicKey, StaticSecret};
use overlay_core::{HostKey, WireGuardKey};
use rand::TryRngCore;
use zeroize::Zeroizing;

/// A private X25519 key, made for one mesh and gone with it.
///
/// The bytes are wiped when the value is dropped. There is no `Debug`, so that no log can show them.
#[derive(Clone)]
pub struct WireGuardSecret(StaticSecret);

/// What a node makes for one mesh, public and not.
#[derive(Clone)]
pub struct MeshKeys {
    /// Its packets' key.
    pub secret: WireGuardSecret,
    /// The public key of the programs in the mesh, for the other members; the overlay only hands it on.
    pub host: Option<HostKey>,
}

/// No key for programs.
impl From<WireGuardSecret> for MeshKeys {
    fn from(secret: WireGuardSecret) -> Self {
        Self { secret, host: None }
    }
}

impl WireGuardSecret {
    /// Makes a fresh key from the operating system's random numbers.
    ///
    /// # Panics
    ///
    /// When the operating system has none to give, which no caller could mend.
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0u8; 32]);
        rand::rngs::OsRng.try_fill_bytes(&mut *bytes).expect("the system's random numbers");
        Self(StaticSecret::from(*bytes))
    }

    /// Restores a key that [`to_bytes`](Self::to_bytes) gave.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(StaticSecret::from(bytes))
    }

    /// The key's bytes, for a process that must take the mesh over. The caller keeps them secret.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public part, which the netmap carries.
    pub fn public(&self) -> WireGuardKey {
        WireGuardKey(PublicKey::from(&self.0).to_bytes())
    }

    pub(crate) fn inner(&self) -> &StaticSecret {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_bytes() {
        let secret = WireGuardSecret::generate();
        let again = WireGuardSecret::from_bytes(*secret.to_bytes());
        assert_eq!(secret.public(), again.public());
        assert_ne!(secret.public(), WireGuardSecret::generate().public());
    }
}
