//! Who the other end of a connection is: the Ed25519 key of its self-signed certificate.
//!
//! Names and dates in the certificate mean nothing; the handshake proves that the other end holds the key.

use overlay_core::NodeId;
use rustls::server::ParsedCertificate;
use rustls_pki_types::CertificateDer;

/// The head of an Ed25519 SubjectPublicKeyInfo (RFC 8410 §4); the 32 bytes of the key follow.
const ED25519_HEAD: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The node or relay that a certificate is of; none unless its key is an Ed25519 key.
pub fn node_of(certificate: &CertificateDer<'_>) -> Option<NodeId> {
    let key = ParsedCertificate::try_from(certificate).ok()?.subject_public_key_info();
    let key = key.as_ref().strip_prefix(&ED25519_HEAD)?;
    Some(NodeId(key.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};

    use super::*;

    #[test]
    fn a_node_is_its_ed25519_key() {
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        let raw: [u8; 32] = key.public_key_raw().try_into().unwrap();
        assert_eq!(node_of(certificate.der()), Some(NodeId(raw)));
    }

    #[test]
    fn other_keys_and_other_bytes_are_no_node() {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        assert_eq!(node_of(certificate.der()), None);
        assert_eq!(node_of(&CertificateDer::from(vec![0x30; 64])), None);
        assert_eq!(node_of(&CertificateDer::from(Vec::new())), None);
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let whole = CertificateParams::default().self_signed(&key).unwrap();
        for len in 0..whole.der().len() {
            assert_eq!(node_of(&CertificateDer::from(&whole.der()[..len])), None, "{len}");
        }
    }
}
