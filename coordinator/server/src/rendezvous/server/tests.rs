//! Real QUIC clients over loopback.

mod unproved;

use std::collections::BTreeSet;
use std::time::Duration;

use overlay_core::control::codec::{FrameReader, encode};
use overlay_core::control::relays::{FromRelay, ToRelay};
use overlay_core::control::{MAX_MESSAGE, PairReport, PathReport, ToCoordinator, ToNode};
use overlay_core::wire::tunnel::{self, Target};
use overlay_core::{MeshId, Pattern, WireGuardKey};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ClientHello;
use rustls::sign::CertifiedKey;

use super::*;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(10);

const MESH: MeshId = MeshId { job: 7, generation: 1 };

#[derive(Debug)]
struct OneCertificate(Arc<CertifiedKey>);

impl ResolvesServerCert for OneCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

struct Known(BTreeSet<NodeId>);

impl Enrolled for Known {
    fn enrolled(&self, node: NodeId) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(std::future::ready(self.0.contains(&node)))
    }
}

/// Lets relays in that show the token.
struct OneRelay;

impl AdmitsRelays for OneRelay {
    fn admit<'a>(
        &'a self,
        _: NodeId,
        token: Option<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Option<RelayKeys>> + Send + 'a>> {
        let keys = RelayKeys { ticket_key: [8; 32], reflector_key: [9; 32] };
        Box::pin(std::future::ready((token != Some("another")).then_some(keys)))
    }
}

/// A running rendezvous and what clients need to reach it.
struct Bench {
    handle: RendezvousHandle,
    events: mpsc::Receiver<RendezvousEvent>,
    root: CertificateDer<'static>,
}

/// A node's key.
struct Identity(KeyPair);

/// A node's connection with its stream.
struct Client {
    connection: Connection,
    send: SendStream,
    receive: RecvStream,
    reader: FrameReader<ToNode>,
    _endpoint: Endpoint,
}

fn bench(known: &[&Identity]) -> Bench {
    bench_of(known, [7; 32])
}

fn bench_of(known: &[&Identity], reset_secret: [u8; 32]) -> Bench {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
    bench_with(known, reset_secret, Gateway::new(nowhere, nowhere))
}

fn bench_with(known: &[&Identity], reset_secret: [u8; 32], gateway: Gateway) -> Bench {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let root = CertifiedIssuer::self_signed(params, key).unwrap();
    let key = PrivateKeyDer::try_from(root.key().serialize_der()).unwrap();
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let certificate = root.der().clone();
    let certified = CertifiedKey::new(vec![certificate.clone()], key);
    let (handle, events) = Rendezvous::start(RendezvousConfig {
        socket: UdpSocket::bind("127.0.0.1:0").unwrap(),
        certificate: Arc::new(OneCertificate(Arc::new(certified))),
        relay_keys: RelayKeys::generate(),
        relay_endpoints: vec!["192.0.2.200:6444".parse().unwrap()],
        enrolled: Arc::new(Known(known.iter().map(|identity| identity.node()).collect())),
        relays: Arc::new(OneRelay),
        gateway,
        reset_secret,
    })
    .unwrap();
    Bench { handle, events, root: certificate }
}

impl Identity {
    fn new() -> Self {
        Self(KeyPair::generate_for(&PKCS_ED25519).unwrap())
    }

    fn node(&self) -> NodeId {
        NodeId(self.0.public_key_raw().try_into().unwrap())
    }
}

impl Bench {
    async fn dial(&self, identity: Option<&KeyPair>) -> (Endpoint, Connection) {
        let (endpoint, connection) = self.dial_from("127.0.0.1:0", identity).await;
        (endpoint, connection.unwrap())
    }

    async fn dial_from(
        &self,
        address: &str,
        identity: Option<&KeyPair>,
    ) -> (Endpoint, Result<Connection, ConnectionError>) {
        self.dial_at(self.handle.local_addr().unwrap(), address, identity).await
    }

    async fn dial_at(
        &self,
        server: SocketAddr,
        address: &str,
        identity: Option<&KeyPair>,
    ) -> (Endpoint, Result<Connection, ConnectionError>) {
        self.dial_by(ALPN, server, address, identity).await
    }

    async fn dial_as(&self, alpn: &[u8], identity: &Identity) -> (Endpoint, Connection) {
        let server = self.handle.local_addr().unwrap();
        let (endpoint, connection) =
            self.dial_by(alpn, server, "127.0.0.1:0", Some(&identity.0)).await;
        (endpoint, connection.unwrap())
    }

    async fn dial_by(
        &self,
        alpn: &[u8],
        server: SocketAddr,
        address: &str,
        identity: Option<&KeyPair>,
    ) -> (Endpoint, Result<Connection, ConnectionError>) {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut tls = match identity {
            Some(key) => {
                let certificate = CertificateParams::default().self_signed(key).unwrap();
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![alpn.to_vec()];
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let endpoint = Endpoint::client(address.parse().unwrap()).unwrap();
        let connection = endpoint.connect_with(config, server, "localhost").unwrap();
        (endpoint, connection.await)
    }

    async fn connect(&self, identity: &Identity) -> Client {
        let (endpoint, connection) = self.dial(Some(&identity.0)).await;
        let (send, receive) = connection.open_bi().await.unwrap();
        let reader = FrameReader::new();
        let mut client = Client { connection, send, receive, reader, _endpoint: endpoint };
        client.say(&ToCoordinator::Hello { version: 1, software: "test".to_owned() }).await;
        let welcome = client.hear().await;
        assert!(matches!(welcome, ToNode::Welcome { .. }), "{welcome:?}");
        client
    }

    async fn event(&mut self) -> RendezvousEvent {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap()
    }
}

impl Client {
    async fn say(&mut self, message: &ToCoordinator) {
        self.send.write_all(&encode(message).unwrap()).await.unwrap();
    }

    async fn join(&mut self, number: u8) {
        let wireguard_key = WireGuardKey([number; 32]);
        self.say(&ToCoordinator::JoinMesh { mesh: MESH, wireguard_key, host_key: None }).await;
    }

    async fn hear(&mut self) -> ToNode {
        loop {
            if let Some(message) = self.reader.next_message().unwrap() {
                return message;
            }
            let chunk = self.receive.read_chunk(usize::MAX, true);
            let chunk = tokio::time::timeout(PATIENCE, chunk).await.unwrap().unwrap().unwrap();
            self.reader.extend(&chunk.bytes);
        }
    }

    async fn hear_kinds(&mut self, count: usize) -> Vec<&'static str> {
        let mut kinds = Vec::new();
        for _ in 0..count {
            kinds.push(match self.hear().await {
                ToNode::Welcome { .. } => "welcome",
                ToNode::Netmap(_) => "netmap",
                ToNode::Candidates(_) => "candidates",
                ToNode::Ticket(_) => "ticket",
                ToNode::Relays { .. } => "relays",
                ToNode::MeshOpen { .. } => "open",
                ToNode::Member { .. } => "member",
                ToNode::MeshClosed { .. } => "closed",
            });
        }
        kinds
    }
}

async fn end_of(connection: &Connection) -> String {
    let end = tokio::time::timeout(PATIENCE, connection.closed()).await.unwrap();
    if let ConnectionError::ApplicationClosed(close) = &end {
        return format!("{}: {}", close.error_code, String::from_utf8_lossy(&close.reason));
    }
    end.to_string()
}

fn members(identities: &[&Identity]) -> Vec<LaunchMember> {
    let named = (1..).zip(identities);
    named.map(|(n, id)| LaunchMember { node: id.node(), name: format!("vol-{n}") }).collect()
}

fn settled(peer: &Identity) -> ToCoordinator {
    let report = PairReport {
        peer: peer.node(),
        established: true,
        settled: true,
        path: PathReport::None,
        rtt_us: None,
        sent_bytes: 0,
        received_bytes: 0,
        established_after_ms: None,
        explain: String::new(),
        activity: Default::default(),
    };
    ToCoordinator::Pairs { mesh: MESH, pairs: vec![report] }
}

#[tokio::test]
async fn a_node_that_is_not_enrolled_is_turned_away_with_a_reason() {
    let bench = bench(&[&Identity::new()]);
    let (_endpoint, connection) = bench.dial(Some(&Identity::new().0)).await;
    let end = end_of(&connection).await;
    assert_eq!(end, "1: this node is not enrolled: join with a new token");
}

#[tokio::test]
async fn without_an_ed25519_certificate_there_is_no_connection() {
    let bench = bench(&[]);
    let other_kind = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    for identity in [None, Some(&other_kind)] {
        let (_endpoint, connection) = bench.dial(identity).await;
        let end = end_of(&connection).await;
        assert!(end.contains("cryptographic handshake failed"), "{end}");
    }
}

#[tokio::test]
async fn a_message_that_is_too_long_ends_the_connection() {
    let alice = Identity::new();
    let bench = bench(&[&alice]);
    let mut client = bench.connect(&alice).await;
    let len = u32::try_from(MAX_MESSAGE).unwrap() + 1;
    client.send.write_all(&len.to_be_bytes()).await.unwrap();
    let end = end_of(&client.connection).await;
    assert_eq!(end, "2: control message of 524289 bytes is longer than 524288");
}

#[tokio::test]
async fn nodes_are_introduced_and_the_network_opens_and_closes() {
    let (alice, bob) = (Identity::new(), Identity::new());
    let mut bench = bench(&[&alice, &bob]);
    let mut client_a = bench.connect(&alice).await;
    assert_eq!(bench.event().await, RendezvousEvent::Connected(alice.node()));
    let mut client_b = bench.connect(&bob).await;
    assert_eq!(bench.event().await, RendezvousEvent::Connected(bob.node()));
    assert!(bench.handle.connected(alice.node()));

    bench.handle.launch(MESH, members(&[&alice, &bob]), Pattern::All).unwrap();
    client_a.join(1).await;
    client_b.join(2).await;
    assert_eq!(client_a.hear_kinds(2).await, ["ticket", "netmap"]);
    assert_eq!(client_b.hear_kinds(2).await, ["ticket", "netmap"]);
    client_a.say(&settled(&bob)).await;
    client_b.say(&settled(&alice)).await;
    assert_eq!(bench.event().await, RendezvousEvent::Open { mesh: MESH });
    assert_eq!(client_a.hear_kinds(1).await, ["open"]);
    assert_eq!(client_b.hear_kinds(1).await, ["open"]);
    assert_eq!(bench.handle.blockers(MESH), "");

    bench.handle.close(MESH, "done");
    let end = ToNode::MeshClosed { mesh: MESH, reason: "done".to_owned() };
    assert_eq!(client_a.hear().await, end);
    client_b.connection.close(0u8.into(), b"bye");
    assert_eq!(bench.event().await, RendezvousEvent::Disconnected(bob.node()));
    assert!(!bench.handle.connected(bob.node()));
}

#[tokio::test]
async fn a_node_that_connects_again_gets_its_state_again_and_the_old_connection_ends() {
    let (alice, bob) = (Identity::new(), Identity::new());
    let mut bench = bench(&[&alice, &bob]);
    let mut client_a = bench.connect(&alice).await;
    let mut client_b = bench.connect(&bob).await;
    bench.handle.launch(MESH, members(&[&alice, &bob]), Pattern::All).unwrap();
    client_a.join(1).await;
    client_b.join(2).await;
    assert_eq!(client_a.hear_kinds(2).await, ["ticket", "netmap"]);

    let mut again = bench.connect(&alice).await;
    assert_eq!(end_of(&client_a.connection).await, "3: this node has connected again");
    again.join(1).await;
    assert_eq!(again.hear_kinds(2).await, ["ticket", "netmap"]);

    assert_eq!(bench.event().await, RendezvousEvent::Connected(alice.node()));
    assert_eq!(bench.event().await, RendezvousEvent::Connected(bob.node()));
    bench.handle.revoke(alice.node());
    assert_eq!(end_of(&again.connection).await, "5: this node was revoked");
    assert_eq!(bench.event().await, RendezvousEvent::Disconnected(alice.node()));
}

#[tokio::test]
async fn a_network_that_never_comes_is_refused_by_the_clock() {
    let alice = Identity::new();
    let bench = bench(&[&alice]);
    let mut client = bench.connect(&alice).await;
    client.join(1).await;
    assert_eq!(client.hear_kinds(1).await, ["closed"]);
}

#[tokio::test]
async fn shutting_down_tells_the_nodes() {
    let alice = Identity::new();
    let bench = bench(&[&alice]);
    let client = bench.connect(&alice).await;
    bench.handle.shutdown().await;
    assert_eq!(end_of(&client.connection).await, "0: the coordinator is shutting down");
}

#[tokio::test]
async fn one_address_cannot_keep_the_others_from_shaking_hands() {
    let identity = Identity::new();
    let bench = bench(&[&identity]);
    let key = Some(&identity.0);
    // Connections whose first stream never comes hold their places for a while.
    let silent = (0..MAX_HANDSHAKES_OF_ADDRESS).map(|_| bench.dial_from("127.0.0.1:0", key));
    let silent = futures_util::future::join_all(silent).await;
    assert!(silent.iter().all(|(_, connection)| connection.is_ok()));
    let (_endpoint, one_more) = bench.dial_from("127.0.0.1:0", key).await;
    assert!(one_more.is_err(), "{one_more:?}");
    let (_endpoint, elsewhere) = bench.dial_from("127.0.0.2:0", key).await;
    assert!(elsewhere.is_ok(), "{elsewhere:?}");
}

#[tokio::test]
async fn nodes_hear_at_once_from_a_coordinator_that_was_killed_and_is_back() {
    let identity = Identity::new();
    let [killed, back] = [(); 2].map(|()| bench(&[&identity]));
    // Packets for the one reach the other from some moment on, as after a restart on the same port.
    let (way, switch) = tokio::sync::watch::channel(killed.handle.local_addr().unwrap());
    let front = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let inner = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let server = front.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut there, mut here, mut client) = ([0; 2048], [0; 2048], None);
        loop {
            tokio::select! {
                Ok((len, from)) = front.recv_from(&mut there) => {
                    client = Some(from);
                    let to = *switch.borrow();
                    let _ = inner.send_to(&there[..len], to).await;
                }
                Ok((len, from)) = inner.recv_from(&mut here) => {
                    let is_current = *switch.borrow() == from;
                    if let Some(client) = client.filter(|_| is_current) {
                        let _ = front.send_to(&here[..len], client).await;
                    }
                }
            }
        }
    });
    let (_endpoint, connection) = killed.dial_at(server, "127.0.0.1:0", Some(&identity.0)).await;
    let connection = connection.unwrap();
    way.send_replace(back.handle.local_addr().unwrap());
    // The next packet is answered by a reset; the idle timeout would be 30 s.
    let (mut send, _) = connection.open_bi().await.unwrap();
    send.write_all(&[0; 1000]).await.unwrap();
    let closed = tokio::time::timeout(PATIENCE, connection.closed()).await;
    assert_eq!(closed, Ok(ConnectionError::Reset));
}

/// A relay's connection that has said hello; what it was answered.
async fn relay_hello(
    bench: &Bench,
    identity: &Identity,
    token: &str,
) -> (Endpoint, Connection, Option<ToRelay>) {
    let (endpoint, connection) = bench.dial_as(RELAY_ALPN, identity).await;
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    let hello = FromRelay::Hello {
        version: 1,
        software: "test".to_owned(),
        token: Some(token.to_owned()),
        endpoints: vec!["0.0.0.0:7000".parse().unwrap()],
        tunnel: None,
    };
    send.write_all(&encode(&hello).unwrap()).await.unwrap();
    let mut reader = FrameReader::<ToRelay>::new();
    let answer = loop {
        if let Some(message) = reader.next_message().unwrap() {
            break Some(message);
        }
        match tokio::time::timeout(PATIENCE, receive.read_chunk(usize::MAX, true)).await.unwrap() {
            Ok(Some(chunk)) => reader.extend(&chunk.bytes),
            Ok(None) | Err(_) => break None,
        }
    };
    // Both halves live as long as the connection does.
    std::mem::forget((send, receive));
    (endpoint, connection, answer)
}

async fn until(holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap();
}

#[tokio::test]
async fn a_relay_says_hello_gets_its_keys_and_is_told_to_nodes_while_it_lives() {
    let [node, relay] = [Identity::new(), Identity::new()];
    let bench = bench(&[&node]);
    let mut client = bench.connect(&node).await;
    let (_endpoint, connection, answer) = relay_hello(&bench, &relay, "good").await;
    let expected = ToRelay::Welcome { ticket_key: "08".repeat(32), reflector_key: "09".repeat(32) };
    assert_eq!(answer, Some(expected));
    let offers = |message: ToNode| {
        let ToNode::Relays { relays } = message else { panic!("{message:?}") };
        relays.into_iter().map(|o| (o.relay, o.endpoint)).collect()
    };
    let own = (NodeId([0; 32]), "192.0.2.200:6444".parse().unwrap());
    let lone = (relay.node(), "127.0.0.1:7000".parse().unwrap());
    let offered: Vec<(NodeId, SocketAddr)> = offers(client.hear().await);
    assert_eq!(offered.iter().find(|(id, _)| *id == relay.node()), Some(&lone));
    assert_eq!(offered.len(), 2);
    assert_eq!(bench.handle.relays(), [(lone.0, vec![lone.1])]);

    connection.close(0u32.into(), b"");
    let offered: Vec<(NodeId, SocketAddr)> = offers(client.hear().await);
    assert_eq!(offered, [own]);
    assert_eq!(bench.handle.relays(), []);
}

#[tokio::test]
async fn a_relay_without_a_right_is_turned_away_and_a_newer_connection_replaces_the_old() {
    let relay = Identity::new();
    let bench = bench(&[]);
    let (_endpoint, connection, answer) = relay_hello(&bench, &relay, "another").await;
    assert_eq!(answer, None);
    assert!(end_of(&connection).await.starts_with("1: its token is used up"));

    let (_first_endpoint, first, _) = relay_hello(&bench, &relay, "good").await;
    until(|| bench.handle.relays().len() == 1).await;
    let (_second_endpoint, second, _) = relay_hello(&bench, &relay, "good").await;
    assert_eq!(end_of(&first).await, "3: this relay has connected again");
    assert_eq!(bench.handle.relays().len(), 1, "the old one's end is not the relay's");
    second.close(0u32.into(), b"");
    until(|| bench.handle.relays().is_empty()).await;
}

#[tokio::test]
async fn datagrams_of_enrolled_nodes_reach_the_relay_and_those_of_strangers_nobody() {
    let relay = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = relay.local_addr().unwrap();
    let (node, stranger) = (Identity::new(), Identity::new());
    let bench = bench_with(&[&node], [7; 32], Gateway::new(at, at));
    let (_endpoint, refused) = bench.dial_as(DATAGRAM_ALPN, &stranger).await;
    let reason = tokio::time::timeout(PATIENCE, refused.closed()).await.unwrap();
    assert!(matches!(reason, ConnectionError::ApplicationClosed(_)), "{reason}");

    let (_endpoint, connection) = bench.dial_as(DATAGRAM_ALPN, &node).await;
    let mut buffer = [0; 64];
    let arrived = async {
        // The sockets of the gateway are made while the first ones are on the way.
        for number in 0u32.. {
            // Number, no rest of the one before, and a frame.
            let mut packed = [&number.to_be_bytes()[..], &[0, 0]].concat();
            tunnel::encode(Target::Relay, b"frame", &mut packed);
            connection.send_datagram(packed.into()).unwrap();
            let patience = Duration::from_millis(100);
            if let Ok(received) = tokio::time::timeout(patience, relay.recv_from(&mut buffer)).await
            {
                return received.unwrap();
            }
        }
        unreachable!("somebody lost patience before")
    };
    let (len, from) = tokio::time::timeout(PATIENCE, arrived).await.unwrap();
    assert_eq!(&buffer[..len], b"frame");
    relay.send_to(b"answer", from).await.unwrap();
    let back = tokio::time::timeout(PATIENCE, connection.read_datagram()).await.unwrap().unwrap();
    let frame = tunnel::decode(&back[6..]).unwrap().unwrap();
    assert_eq!((frame.target, frame.datagram), (Target::Relay, &b"answer"[..]));
}
