//! Who is turned out is out at once, with what it has open.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use coordinator::args::{Arguments, Command};
use coordinator_client::pinned_tls;
use overlay_core::control::codec::encode;
use overlay_core::control::{ALPN, ToCoordinator};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, Endpoint};
use rcgen::{CertificateParams, KeyPair};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::site::{PATIENCE, Site};

/// The head of an Ed25519 private key in PKCS #8 (RFC 8410 §7); the 32 bytes of the seed follow.
const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// The control connection of the node whose key is made from `seed`, which has said hello.
async fn connect(site: &Site, seed: u8) -> (Endpoint, Connection) {
    let der = PrivatePkcs8KeyDer::from([&PKCS8_HEAD[..], &[seed; 32]].concat());
    let key = KeyPair::try_from(&der).unwrap();
    let certificate = CertificateParams::default().self_signed(&key).unwrap();
    let key = rustls::crypto::ring::sign::any_supported_type(&PrivateKeyDer::from(der)).unwrap();
    let certified = CertifiedKey::new(vec![certificate.der().clone()], key);
    let mut tls = pinned_tls(site.server.root);
    tls.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(certified));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let server = site.server.rendezvous().local_addr().unwrap();
    let connection = endpoint.connect_with(config, server, "127.0.0.1").unwrap().await.unwrap();
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let hello = ToCoordinator::Hello { version: 1, software: "test".to_owned() };
    send.write_all(&encode(&hello).unwrap()).await.unwrap();
    let welcome = tokio::time::timeout(PATIENCE, receive.read_chunk(1, true)).await.unwrap();
    assert!(welcome.unwrap().is_some(), "the coordinator answers the hello");
    // The stream's end would be a message.
    let open = connection.clone();
    tokio::spawn(async move {
        open.closed().await;
        drop(send);
    });
    (endpoint, connection)
}

async fn end_of(connection: &Connection) -> String {
    let end = tokio::time::timeout(PATIENCE, connection.closed()).await.unwrap();
    if let ConnectionError::ApplicationClosed(close) = &end {
        return String::from_utf8_lossy(&close.reason).into_owned();
    }
    end.to_string()
}

#[tokio::test]
async fn a_node_that_was_revoked_loses_its_control_connection() {
    let (site, agents) = Site::with_agents(2).await;
    let (_first, revoked) = connect(&site, 0).await;
    let (_second, other) = connect(&site, 1).await;
    let store = &site.server.app.store;
    assert!(store.revoke_node(Site::number(&agents[0]), site.clock.now()).await.unwrap());
    assert_eq!(end_of(&revoked).await, "this node was revoked");
    assert_eq!(other.close_reason(), None);
}

/// By the command, beside the running server.
#[tokio::test]
async fn a_token_that_is_revoked_takes_the_node_along_that_it_made() {
    let site = Site::start().await;
    let token = site.add_token(Duration::from_secs(3600)).await;
    site.enrol(&token, 7).await;
    let (_endpoint, connection) = connect(&site, 7).await;
    let store = &site.server.app.store;
    let rows = store.tokens(site.clock.now()).await.unwrap();
    // The first start has made one besides, which nobody has used.
    let used = rows.iter().find(|row| row.state.to_string() == "used by vol-1").unwrap();
    let data = site.data().to_str().unwrap();
    for (id, is_good) in [("0123456789ab", false), (&used.id, true), (&used.id, false)] {
        let line = ["coordinator", "token", "revoke", id, "--data", data];
        let Command::Token(command) = Arguments::parse_from(line).command else {
            unreachable!("the line says token");
        };
        let done = coordinator::commands::token(command).await;
        assert_eq!(done.is_ok(), is_good, "{done:?}");
    }
    assert_eq!(end_of(&connection).await, "this node was revoked");
}
