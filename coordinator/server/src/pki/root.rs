//! The root key and its self-signed certificate, made once.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use overlay_core::NodeId;
use overlay_relay::RelayKeys;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use ring::hmac;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::PkiError;

/// Key and certificate in one file, so that no crash leaves one without the other.
const FILE: &str = "root.pem";

/// The years of the root's validity. Clients trust it by its pin, not by its age, and the clock of a
/// volunteer's machine may be wrong: wide on purpose.
const VALID: (i32, i32) = (2020, 2120);

/// What the secrets are derived with; they say nothing of the key.
const RESET_LABEL: &[u8] = b"clouds-at-home quic stateless reset 1";
const TICKET_LABEL: &[u8] = b"clouds-at-home relay tickets 1";
const REFLECTOR_LABEL: &[u8] = b"clouds-at-home relay reflector 1";

/// The root: signs leaves.
pub(super) struct Root {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    reset_secret: [u8; 32],
    relay_keys: RelayKeys,
    /// Derives secrets: it says nothing of the root's key.
    derivation: hmac::Key,
}

impl Root {
    /// Reads the root in `dir`, or makes it.
    pub(super) fn open(dir: &Path) -> Result<Self, PkiError> {
        let path = dir.join(FILE);
        let failed = |source| PkiError::File { path: path.display().to_string(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let pem = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                write_once(dir, &path, &generate()?).map_err(failed)?;
                // Another process may have been faster: what lies there now is the root.
                fs::read_to_string(&path).map_err(failed)?
            }
            read => read.map_err(failed)?,
        };
        Self::parse(&pem).ok_or_else(|| PkiError::DamagedRoot { path: path.display().to_string() })
    }

    /// The certificate, DER.
    pub(super) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A secret of its own for QUIC's stateless resets: the same after every start.
    pub(super) fn reset_secret(&self) -> [u8; 32] {
        self.reset_secret
    }

    /// The keys of the relay that runs in the coordinator: the same after every start, so that the tickets
    /// that were given before are good for the relay that runs now.
    pub(super) fn relay_keys(&self) -> &RelayKeys {
        &self.relay_keys
    }

    /// The keys of that other relay.
    pub(super) fn keys_of_relay(&self, relay: NodeId) -> RelayKeys {
        let derived = |label: &[u8]| {
            let tag = hmac::sign(&self.derivation, &[label, b" of ", &relay.0].concat());
            let mut key = [0; 32];
            key.iter_mut().zip(tag.as_ref()).for_each(|(byte, tag)| *byte = *tag);
            key
        };
        RelayKeys { ticket_key: derived(TICKET_LABEL), reflector_key: derived(REFLECTOR_LABEL) }
    }

    /// What signs leaves.
    pub(super) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    fn parse(pem: &str) -> Option<Self> {
        let key = KeyPair::from_pem(pem).ok()?;
        let own = hmac::Key::new(hmac::HMAC_SHA256, &key.serialize_der());
        let derived = |label| hmac::sign(&own, label).as_ref().try_into().ok();
        let reset_secret = derived(RESET_LABEL)?;
        let relay_keys = RelayKeys {
            ticket_key: derived(TICKET_LABEL)?,
            reflector_key: derived(REFLECTOR_LABEL)?,
        };
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).ok()?;
        Some(Self { certificate, issuer, reset_secret, relay_keys, derivation: own })
    }
}

/// ECDSA P-256: every TLS and QUIC client verifies it (Ed25519 is missing from some).
fn generate() -> Result<String, PkiError> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Clouds@home coordinator root");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.not_before = date_time_ymd(VALID.0, 1, 1);
    params.not_after = date_time_ymd(VALID.1, 1, 1);
    let certificate = params.self_signed(&key)?;
    Ok(format!("{}{}", key.serialize_pem(), certificate.pem()))
}

/// Writes the file whole and durably (mode 0600), unless there is one by now.
fn write_once(dir: &Path, path: &Path, pem: &str) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(pem.as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => fs::File::open(dir)?.sync_all(),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
    }
}

#[cfg(test)]
mod tests {
    use overlay_core::wire::Ticket;
    use overlay_relay::{issue_ticket, verify_ticket};

    use super::*;

    fn secrets(root: &Root) -> [[u8; 32]; 3] {
        let RelayKeys { ticket_key, reflector_key } = *root.relay_keys();
        [ticket_key, reflector_key, root.reset_secret()]
    }

    #[test]
    fn secrets_are_the_same_after_every_start_and_another_root_has_others() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = Root::open(dir.path()).unwrap();
        let again = Root::open(dir.path()).unwrap();
        assert_eq!(first.certificate(), again.certificate());
        assert_eq!(secrets(&first), secrets(&again));
        let stranger = secrets(&Root::open(other.path()).unwrap());
        let mut all = [secrets(&first), stranger].concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 6, "each use has a secret of its own");
    }

    #[test]
    fn a_ticket_given_before_a_restart_is_good_after_it() {
        let dir = tempfile::tempdir().unwrap();
        let (before, after) = (Root::open(dir.path()).unwrap(), Root::open(dir.path()).unwrap());
        let given = issue_ticket(before.relay_keys(), 7, 1, 2_000_000_000);
        let ticket = Ticket::from_bytes(&given);
        assert_eq!(verify_ticket(after.relay_keys(), &ticket, 1_000_000_000), Ok(()));
        let other = Root::open(tempfile::tempdir().unwrap().path()).unwrap();
        assert!(verify_ticket(other.relay_keys(), &ticket, 1_000_000_000).is_err());
    }
}
