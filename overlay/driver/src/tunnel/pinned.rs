//! TLS with a relay that runs alone: its certificate is of the key that is its name.

use std::sync::Arc;

use overlay_core::NodeId;
use overlay_tunnel::identity::node_of;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, PeerIncompatible, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// TLS 1.3 that trusts nobody but that relay, and shows nothing of this node.
pub(super) fn pinned_to(relay: NodeId) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Pinned { relay, provider: Arc::clone(&provider) };
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(builder.with_no_client_auth())
}

/// Names and dates in the certificate mean nothing; the handshake proves that the relay holds the key.
#[derive(Debug)]
struct Pinned {
    relay: NodeId,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match node_of(end_entity) {
            Some(relay) if relay == self.relay => Ok(ServerCertVerified::assertion()),
            Some(_) | None => {
                Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
            }
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
        let algorithms = &self.provider.signature_verification_algorithms;
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
    fn nobody_but_the_relay_of_that_name_is_trusted() {
        let judged = |key: &KeyPair, relay: NodeId| {
            let certificate = CertificateParams::default().self_signed(key).unwrap();
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let name = ServerName::try_from("relay.example").unwrap();
            let (der, now) = (certificate.der(), UnixTime::now());
            Pinned { relay, provider }.verify_server_cert(der, &[], &name, &[], now).is_ok()
        };
        let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let relay = NodeId(key.public_key_raw().try_into().unwrap());
        assert!(judged(&key, relay));
        assert!(!judged(&key, NodeId([1; 32])));
        let other = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        assert!(!judged(&other, relay));
        let weak = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        assert!(!judged(&weak, relay));
    }
}
