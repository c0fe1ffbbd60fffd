//! Who a connection's other end is: the Ed25519 key of its self-signed certificate.
//!
//! Names and dates in the certificate mean nothing; the handshake proves that the node holds the key,
//! and whether that key may come in is asked afterwards.

use std::sync::Arc;

use overlay_core::NodeId;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
    SignatureScheme,
};
use webpki::EndEntityCert;

/// The head of an Ed25519 SubjectPublicKeyInfo (RFC 8410 §4); the 32 bytes of the key follow.
const ED25519_HEAD: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The node that a certificate is of; none unless its key is an Ed25519 key.
pub(super) fn node_of(certificate: &CertificateDer<'_>) -> Option<NodeId> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let key = certificate.subject_public_key_info();
    let key = key.as_ref().strip_prefix(&ED25519_HEAD)?;
    Some(NodeId(key.try_into().ok()?))
}

/// Lets every Ed25519 key in that signs the handshake.
#[derive(Debug)]
pub(super) struct AnyNode(pub(super) Arc<CryptoProvider>);

impl ClientCertVerifier for AnyNode {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match node_of(end_entity) {
            Some(_) => Ok(ClientCertVerified::assertion()),
            None => Err(Error::InvalidCertificate(CertificateError::BadEncoding)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
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
    }
}
