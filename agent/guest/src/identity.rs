//! The node's one key: its name everywhere, and the key of its certificate.

use std::fs;
use std::io;
use std::path::Path;

use data_encoding::HEXLOWER;
use ed25519_dalek::{Signer, SigningKey};
use overlay_core::ids::NodeId;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ED25519};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

use crate::state_dir::write_private;

/// The file of the key: PKCS #8, DER.
pub const KEY_FILE: &str = "identity.key";

/// PKCS #8 version 1 around an Ed25519 seed (RFC 8410 section 7): the seed's 32 bytes follow.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("the key file {KEY_FILE} cannot be used")]
    Io(#[from] io::Error),
    /// The file holds no key.
    #[error("the key file {KEY_FILE} is damaged: restore it, or remove it and enrol as a new node")]
    Damaged,
    /// The certificate could not be made.
    #[error("making the node's certificate failed: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// The node's Ed25519 key. There is no `Debug`.
pub struct Identity {
    key: SigningKey,
}

impl Identity {
    /// Reads the key from the state directory, or makes one at first use (0600).
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn load_or_create(state: &Path) -> Result<Self, IdentityError> {
        let path = state.join(KEY_FILE);
        match fs::read(&path).map(Zeroizing::new) {
            Ok(der) => {
                let seed = der.strip_prefix(&PKCS8_PREFIX).and_then(|seed| seed.try_into().ok());
                let seed = seed.ok_or(IdentityError::Damaged)?;
                Ok(Self { key: SigningKey::from_bytes(seed) })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let seed = Zeroizing::new(rand::random::<[u8; 32]>());
                let identity = Self { key: SigningKey::from_bytes(&seed) };
                write_private(&path, &identity.pkcs8())?;
                Ok(identity)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new([PKCS8_PREFIX.as_slice(), self.key.as_bytes()].concat())
    }

    /// The node's name.
    pub fn node(&self) -> NodeId {
        NodeId(self.key.verifying_key().to_bytes())
    }

    /// Signs a text; hexadecimal.
    pub fn sign(&self, text: &str) -> String {
        HEXLOWER.encode(&self.key.sign(text.as_bytes()).to_bytes())
    }

    /// A self-signed certificate of the key, for mutual TLS. The coordinator looks at the key alone.
    ///
    /// # Errors
    /// [`IdentityError::Certificate`].
    pub fn certificate(&self) -> Result<coordinator_client::Identity, IdentityError> {
        let pkcs8 = PrivatePkcs8KeyDer::from(self.pkcs8().to_vec());
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&pkcs8, &PKCS_ED25519)?;
        let mut params = CertificateParams::new(Vec::new())?;
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, self.node().to_string());
        params.distinguished_name = name;
        let certificate: CertificateDer<'static> = params.self_signed(&pair)?.der().clone();
        Ok(coordinator_client::Identity { certificate, key: PrivateKeyDer::Pkcs8(pkcs8) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let first = Identity::load_or_create(folder.path()).unwrap();
        let again = Identity::load_or_create(folder.path()).unwrap();
        assert_eq!(first.node(), again.node());
        let mode = fs::metadata(folder.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_key_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(KEY_FILE), b"x").unwrap();
        assert!(matches!(Identity::load_or_create(folder.path()), Err(IdentityError::Damaged)));
    }

    #[test]
    fn the_certificate_holds_the_nodes_key() {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_create(folder.path()).unwrap();
        let certificate = identity.certificate().unwrap().certificate;
        let key = identity.node().0;
        assert!(certificate.windows(32).any(|window| window == key));
    }
}
