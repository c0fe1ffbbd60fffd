//! The root stays, the leaf changes in time, and clients accept both.

use std::os::unix::fs::PermissionsExt;

use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::server::ParsedCertificate;
use rustls_pki_types::{ServerName, UnixTime};
use time::Duration;

use super::*;

/// 2026-01-01T00:00:00Z.
fn start() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_767_225_600).unwrap()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What a client does that has pinned the root.
fn verify(
    pki: &Pki,
    at: OffsetDateTime,
    now: OffsetDateTime,
    name: &str,
) -> Result<(), rustls::Error> {
    let chain = pki.leaf_at(at).certified.cert.clone();
    assert_eq!(RootPin::of_certificate(&chain[1]), pki.root_pin());
    let mut roots = RootCertStore::empty();
    roots.add(chain[1].clone()).unwrap();
    let leaf = ParsedCertificate::try_from(&chain[0]).unwrap();
    let now = u64::try_from(now.unix_timestamp()).unwrap();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&leaf, &roots, &chain[1..], now, algorithms)?;
    verify_server_name(&leaf, &ServerName::try_from(name).unwrap())
}

#[test]
fn the_root_survives_and_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let pki_dir = dir.path().join("pki");
    let first = Pki::open_at(&pki_dir, &[], start()).unwrap().root_sha256();
    let second = Pki::open_at(&pki_dir, &[], start()).unwrap().root_sha256();
    assert_eq!(first, second);

    for (path, mode) in [(pki_dir.join("root.pem"), 0o600), (pki_dir, 0o700)] {
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
    }
}

#[test]
fn many_processes_agree_on_one_root() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Pki::open_at(dir.path(), &[], start()).unwrap().root_sha256();
    let roots: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(roots.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn clients_accept_every_name_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let given = names(&["Coordinator.example", "192.0.2.7", "[2001:db8::7]", "localhost"]);
    let pki = Pki::open_at(dir.path(), &given, start()).unwrap();
    for name in ["coordinator.example", "192.0.2.7", "2001:db8::7", "localhost", "127.0.0.1", "::1"]
    {
        verify(&pki, start(), start(), name).unwrap();
    }
    verify(&pki, start(), start(), "192.0.2.8").unwrap_err();
}

#[test]
fn the_leaf_is_renewed_after_two_thirds_of_its_life() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open_at(dir.path(), &[], start()).unwrap();
    let leaf_after =
        |hours| pki.leaf_at(start() + Duration::hours(hours)).certified.cert[0].clone();

    let first = leaf_after(0);
    assert_eq!(leaf_after(15), first);
    let second = leaf_after(16);
    assert_ne!(second, first);
    assert_eq!(leaf_after(31), second);
    assert_ne!(leaf_after(32), second);

    let old = start() + Duration::hours(32);
    verify(&pki, old, old + Duration::hours(23), "localhost").unwrap();
    verify(&pki, old, old + Duration::hours(25), "localhost").unwrap_err();
}

#[test]
fn a_clock_that_is_set_back_renews_the_leaf() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open_at(dir.path(), &[], start()).unwrap();
    let earlier = start() - Duration::days(400);
    verify(&pki, earlier, earlier, "localhost").unwrap();
}

#[test]
fn bad_names_and_damaged_roots_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let refused = Pki::open_at(dir.path(), &names(&["https://x"]), start()).err().unwrap();
    assert_eq!(refused.to_string(), "`https://x` is neither a host name nor an IP address");

    std::fs::write(dir.path().join("root.pem"), "hello").unwrap();
    let refused = Pki::open_at(dir.path(), &[], start()).err().unwrap();
    assert!(matches!(refused, PkiError::DamagedRoot { .. }));
}
