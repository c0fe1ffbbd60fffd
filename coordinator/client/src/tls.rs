//! TLS towards the coordinator: trust its root by pin, and nobody else.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use crate::pin::RootPin;

/// Certificates that are looked at in a chain. The coordinator sends two: leaf and root.
const MAX_CHAIN: usize = 8;

/// The presented chain does not hold the pinned root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's certificate does not descend from the root that the token names")]
pub struct ForeignRoot;

/// A client's certificate and its key.
pub struct Identity {
    /// The certificate, DER.
    pub certificate: CertificateDer<'static>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
}

/// Trusts servers whose chain holds the pinned root. No ALPN is set: that is the caller's.
///
/// The name and the validity of the leaf are checked as usual. TLS 1.2 and 1.3.
pub fn pinned_tls(pin: RootPin) -> ClientConfig {
    builder(pin).with_no_client_auth()
}

/// As [`pinned_tls`], and shows `identity` to the server. For QUIC.
///
/// # Errors
///
/// The key is not one that TLS can sign with, or it does not fit the certificate.
pub fn pinned_tls_with_identity(pin: RootPin, identity: Identity) -> Result<ClientConfig, Error> {
    builder(pin).with_client_auth_cert(vec![identity.certificate], identity.key)
}

fn builder(pin: RootPin) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = PinnedRoot { pin, provider: provider.clone() };
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .expect("ring speaks TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
}

#[derive(Debug)]
struct PinnedRoot {
    pin: RootPin,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedRoot {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let root = intermediates
            .iter()
            .take(MAX_CHAIN)
            .find(|certificate| RootPin::of_certificate(certificate) == self.pin)
            .ok_or_else(foreign_root)?;
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned()).map_err(|_| foreign_root())?;

        let leaf = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&leaf, &roots, intermediates, now, algorithms)
            .map_err(|error| if is_foreign(&error) { foreign_root() } else { error })?;
        verify_server_name(&leaf, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A leaf of somebody else, with the public root put beside it.
fn is_foreign(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)
    )
}

fn foreign_root() -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(ForeignRoot))))
}

#[cfg(test)]
mod tests;
