//! The leaf: the certificate that the servers show, for a day.

use std::collections::BTreeSet;
use std::sync::Arc;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use time::{Duration, OffsetDateTime};

use super::PkiError;
use super::root::Root;

/// How long a leaf is valid: a stolen one is worth a day.
const LIFE: Duration = Duration::hours(24);

/// A leaf is renewed after two thirds of its life: eight hours are left to notice a failure.
const RENEW_AFTER: Duration = Duration::hours(16);

/// A leaf is valid from this long before it was made, for clients whose clocks are late.
const CLOCK_SKEW: Duration = Duration::hours(1);

/// Names that every leaf holds, for whoever works on the coordinator's machine.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// A leaf and its key.
pub(super) struct Leaf {
    made: OffsetDateTime,
    /// What rustls shows: leaf, root.
    pub(super) certified: Arc<CertifiedKey>,
}

impl Leaf {
    /// Makes a leaf for `names` that is valid from `now`.
    pub(super) fn make(
        root: &Root,
        names: &[String],
        now: OffsetDateTime,
    ) -> Result<Self, PkiError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Clouds@home coordinator");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        params.not_before = now - CLOCK_SKEW;
        params.not_after = now + LIFE;
        let certificate = params.signed_by(&key, root.issuer())?;

        let chain = vec![certificate.der().clone(), root.certificate().clone()];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = rustls::crypto::ring::sign::any_supported_type(&key)?;
        Ok(Self { made: now, certified: Arc::new(CertifiedKey::new(chain, key)) })
    }

    /// Old enough to be renewed; or made in the future, by a clock that has been set back since.
    pub(super) fn is_due(&self, now: OffsetDateTime) -> bool {
        now - self.made >= RENEW_AFTER || self.made - now > CLOCK_SKEW
    }
}

/// The names of the leaf: those given and the local ones, once each.
pub(super) fn complete(names: &[String]) -> Result<Vec<String>, PkiError> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for name in names.iter().map(String::as_str).chain(LOCAL_NAMES) {
        let name = name.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if ServerName::try_from(name.as_str()).is_err() {
            return Err(PkiError::BadName { name });
        }
        if seen.insert(name.clone()) {
            all.push(name);
        }
    }
    Ok(all)
}
