//! The verifier against chains made on the spot.

use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};

use super::*;

/// 2026-01-01, inside every validity used here.
const NOW: u64 = 1_767_225_600;

struct Chain {
    leaf: CertificateDer<'static>,
    root: CertificateDer<'static>,
}

impl Chain {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = date_time_ymd(2027, 1, 1);
        let leaf = params.signed_by(&KeyPair::generate().unwrap(), &root).unwrap();
        Self { leaf: leaf.der().clone(), root: root.der().clone() }
    }

    fn pin(&self) -> RootPin {
        RootPin::of_certificate(&self.root)
    }
}

fn verify(
    pin: RootPin,
    leaf: &CertificateDer<'static>,
    others: &[CertificateDer<'static>],
    name: &str,
    now: u64,
) -> Result<(), Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let name = ServerName::try_from(name).unwrap();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
    PinnedRoot { pin, provider }.verify_server_cert(leaf, others, &name, &[], now).map(|_| ())
}

#[test]
fn accepts_the_pinned_chain_by_name_and_by_address() {
    for name in ["coordinator.example", "192.0.2.7", "::1"] {
        let chain = Chain::new(name);
        let root = chain.root.clone();
        verify(chain.pin(), &chain.leaf, &[root], name, NOW).unwrap();
    }
}

#[test]
fn refuses_another_root() {
    let (ours, theirs) = (Chain::new("c.example"), Chain::new("c.example"));
    let root = theirs.root.clone();
    let error = verify(ours.pin(), &theirs.leaf, &[root], "c.example", NOW).unwrap_err();
    assert!(is_foreign_root(&error), "{error}");
}

#[test]
fn refuses_a_foreign_leaf_beside_the_pinned_root() {
    let (ours, theirs) = (Chain::new("c.example"), Chain::new("c.example"));
    let root = ours.root.clone();
    let error = verify(ours.pin(), &theirs.leaf, &[root], "c.example", NOW).unwrap_err();
    assert!(is_foreign_root(&error), "{error}");
}

#[test]
fn refuses_another_name() {
    let chain = Chain::new("c.example");
    let root = chain.root.clone();
    let error = verify(chain.pin(), &chain.leaf, &[root], "d.example", NOW).unwrap_err();
    assert!(error.to_string().contains("d.example"), "{error}");
}

#[test]
fn refuses_an_expired_leaf() {
    let chain = Chain::new("c.example");
    let root = chain.root.clone();
    let error = verify(chain.pin(), &chain.leaf, &[root], "c.example", NOW + 366 * 86_400);
    assert!(error.unwrap_err().to_string().contains("expired"));
}

fn is_foreign_root(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(OtherError(source))) = error else {
        return false;
    };
    source.downcast_ref() == Some(&ForeignRoot)
}
