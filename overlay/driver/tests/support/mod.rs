//! A coordinator for two nodes: certificates, control sessions and a real relay.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use overlay_core::control::codec::{FrameReader, encode};
use overlay_core::control::{ALPN, PairReport, PathReport, ToCoordinator, ToNode};
use overlay_core::netmap::{CandidateKind, NETMAP_VERSION, ObservedMapping};
use overlay_core::wire::format_hex;
use overlay_core::wire::tunnel;
use overlay_core::{
    Candidate, Member, MeshId, Netmap, NodeCandidates, NodeId, RelayTicket, RttTable, WireGuardKey,
};
use overlay_driver::{ControlConfig, Overlay, OverlayConfig, TunnelConfig};
use overlay_relay::gateway::Gateway;
use overlay_relay::{Relay, RelayHandle, RelayKeys, issue_ticket, reflector_token};
use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use quinn::{Connection, Endpoint, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub(crate) const MESH: MeshId = MeshId { job: 1, generation: 1 };
/// The first byte of the pairs' channels at the relay.
const CHANNEL: u8 = 7;

/// The id of a node; the lower number is the lower id.
pub(crate) fn node_id(number: u8) -> NodeId {
    NodeId([number; 32])
}

/// What the coordinator knows; outlives its server.
pub(crate) struct Coordinator {
    pub(crate) address: SocketAddr,
    /// Where nodes are told that the relay is.
    pub(crate) advertised: Mutex<SocketAddr>,
    relay: RelayHandle,
    keys: RelayKeys,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sessions: BTreeMap<NodeId, mpsc::UnboundedSender<ToNode>>,
    candidates: BTreeMap<NodeId, NodeCandidates>,
    joined: BTreeMap<NodeId, WireGuardKey>,
    reports: BTreeMap<NodeId, Vec<PairReport>>,
    left: BTreeMap<NodeId, Vec<PairReport>>,
    hellos: usize,
    shares_candidates: bool,
    has_stranger: bool,
    /// Members that the mesh waits for.
    expected: usize,
}

/// A running server of a [`Coordinator`]. Dropping it cuts every session.
pub(crate) struct Server {
    endpoint: Endpoint,
    _tasks: JoinSet<()>,
}

impl Coordinator {
    /// One whose mesh has two members.
    pub(crate) fn new() -> Arc<Self> {
        Self::of_nodes(2)
    }

    /// One whose mesh has that many members, numbered from 1.
    pub(crate) fn of_nodes(expected: usize) -> Arc<Self> {
        rustls::crypto::ring::default_provider().install_default().ok();
        let generated = rcgen::generate_simple_self_signed(["coordinator".to_owned()]).unwrap();
        let keys = RelayKeys::generate();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let relay = Relay::spawn(socket, keys.clone()).unwrap();
        let advertised = Mutex::new(relay.local_addr());
        let reserved = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        Arc::new(Self {
            address: reserved.local_addr().unwrap(),
            advertised,
            relay,
            keys,
            certificate: generated.cert.der().clone(),
            key: PrivateKeyDer::try_from(generated.signing_key.serialize_der()).unwrap(),
            state: Mutex::new(State { expected, ..State::default() }),
        })
    }

    /// Serves the control protocol until the result is dropped.
    pub(crate) async fn serve(self: &Arc<Self>) -> Server {
        self.serve_at(self.address).await
    }

    /// Serves TLS tunnels until the test ends; gives the port's address.
    pub(crate) async fn serve_tunnels(&self) -> SocketAddr {
        let mut tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            .unwrap();
        tls.alpn_protocols = vec![b"h2".to_vec(), tunnel::ALPN.to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gateway = Gateway::new(self.address, self.relay.local_addr());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move { gateway.serve(acceptor.accept(stream).await?).await });
            }
        });
        address
    }

    /// Serves the control protocol there, too.
    pub(crate) async fn serve_at(self: &Arc<Self>, address: SocketAddr) -> Server {
        let mut tls =
            rustls::ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
                .with_no_client_auth()
                .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
                .unwrap();
        tls.alpn_protocols = vec![ALPN.to_vec(), tunnel::DATAGRAM_ALPN.to_vec()];
        let tls = QuicServerConfig::try_from(tls).unwrap();
        let config = ServerConfig::with_crypto(Arc::new(tls));
        let mut endpoint = None;
        // After a restart the former server's tasks may hold the port for a moment.
        wait_for("the coordinator's port", async || {
            endpoint = Endpoint::server(config.clone(), address).ok();
            endpoint.is_some()
        })
        .await;
        let endpoint = endpoint.unwrap();
        let mut tasks = JoinSet::new();
        let (coordinator, accepting) = (Arc::clone(self), endpoint.clone());
        tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            while let Some(incoming) = accepting.accept().await {
                let coordinator = Arc::clone(&coordinator);
                sessions.spawn(async move {
                    let Ok(connection) = incoming.await else { return };
                    let data = connection.handshake_data().unwrap();
                    let protocol = data.downcast::<HandshakeData>().unwrap().protocol;
                    if protocol.as_deref() == Some(tunnel::DATAGRAM_ALPN) {
                        let gateway = Gateway::new(address, coordinator.relay.local_addr());
                        gateway.serve_datagrams(connection).await.ok();
                    } else {
                        coordinator.session(connection).await;
                    }
                });
            }
        });
        Server { endpoint, _tasks: tasks }
    }

    /// Starts a node whose socket is on loopback.
    pub(crate) async fn node(&self, number: u8) -> Overlay {
        self.node_at(number, "127.0.0.1:0").await
    }

    /// Starts a node whose socket is bound to `bind`.
    pub(crate) async fn node_at(&self, number: u8, bind: &str) -> Overlay {
        self.node_with(number, bind, self.address, None).await
    }

    /// Starts a node that looks for the coordinator at `server`.
    pub(crate) async fn node_with(
        &self,
        number: u8,
        bind: &str,
        server: SocketAddr,
        tunnel: Option<TunnelConfig>,
    ) -> Overlay {
        let config = self.config(number, bind.parse().unwrap(), server, tunnel);
        Overlay::start(config).await.unwrap()
    }

    /// What such a node is made from.
    pub(crate) fn config(
        &self,
        number: u8,
        bind: SocketAddr,
        server: SocketAddr,
        tunnel: Option<TunnelConfig>,
    ) -> OverlayConfig {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let tls =
            rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let control = ControlConfig {
            server: server.to_string(),
            server_name: "coordinator".to_owned(),
            tls,
            // Stands for the client certificate, which names the node outside of tests.
            software: number.to_string(),
            tunnel,
        };
        OverlayConfig {
            node: node_id(number),
            bind,
            advertise: Vec::new(),
            control,
            observer: None,
            port_mapping: None,
            birthday_probing: false,
            workers: NonZeroU16::MIN,
            limit: Arc::default(),
        }
    }

    /// The one node will meet a member that no agent runs: it has that key, is at that endpoint, and no
    /// relay reaches it.
    pub(crate) fn expect_stranger(&self, number: u8, key: WireGuardKey, endpoint: SocketAddr) {
        let node = node_id(number);
        let mut state = self.state.lock().unwrap();
        state.joined.insert(node, key);
        let candidates = vec![Candidate { endpoint, kind: CandidateKind::Host }];
        state.candidates.insert(
            node,
            NodeCandidates {
                node,
                sequence: 1,
                mapping: ObservedMapping::None,
                nat: Default::default(),
                activity: Default::default(),
                candidates,
            },
        );
        state.shares_candidates = true;
        state.has_stranger = true;
    }

    /// From now on nodes learn each other's candidates, so that they may find a direct path.
    pub(crate) fn share_candidates(&self) {
        let mut state = self.state.lock().unwrap();
        state.shares_candidates = true;
        state.offer_candidates();
    }

    /// A relay with the same keys there.
    pub(crate) fn relay_at(&self, address: SocketAddr) -> RelayHandle {
        Relay::spawn(std::net::UdpSocket::bind(address).unwrap(), self.keys.clone()).unwrap()
    }

    pub(crate) fn sessions(&self) -> usize {
        self.state.lock().unwrap().hellos
    }

    pub(crate) fn final_report(&self, node: NodeId) -> Option<Vec<PairReport>> {
        self.state.lock().unwrap().left.get(&node).cloned()
    }

    pub(crate) fn relay_address(&self) -> SocketAddr {
        *self.advertised.lock().unwrap()
    }

    async fn session(&self, connection: Connection) {
        let Ok((mut send, mut receive)) = connection.accept_bi().await else { return };
        let mut frames = FrameReader::<ToCoordinator>::new();
        let (sender, mut outgoing) = mpsc::unbounded_channel::<ToNode>();
        let mut piece = vec![0u8; 16 * 1024];
        let mut node = None;
        loop {
            tokio::select! {
                Some(message) = outgoing.recv() => {
                    if send.write_all(&encode(&message).unwrap()).await.is_err() {
                        return;
                    }
                }
                read = receive.read(&mut piece) => {
                    let Ok(Some(len)) = read else { return };
                    frames.extend(&piece[..len]);
                    while let Some(message) = frames.next_message().unwrap() {
                        if let ToCoordinator::Hello { software, .. } = &message {
                            let id = node_id(software.parse().unwrap());
                            node = Some(id);
                            self.welcome(id, &connection, sender.clone());
                        } else {
                            self.state.lock().unwrap().hear(node.unwrap(), message, self);
                        }
                    }
                }
            }
        }
    }

    fn welcome(
        &self,
        node: NodeId,
        connection: &Connection,
        sender: mpsc::UnboundedSender<ToNode>,
    ) {
        let welcome = ToNode::Welcome {
            observed: connection.remote_address(),
            reflector: self.relay_address(),
            reflector_token: format_hex(&reflector_token(&self.keys, node)),
            other_reflector: None,
        };
        sender.send(welcome).unwrap();
        let mut state = self.state.lock().unwrap();
        state.sessions.insert(node, sender);
        state.hellos += 1;
    }

    fn ticket(&self, node: NodeId, peer: NodeId) -> RelayTicket {
        let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let expires_unix = now + 3600;
        let (low, high) = (node.min(peer), node.max(peer));
        let channel = u32::from_be_bytes([0, CHANNEL, low.0[0], high.0[0]]);
        let side = u8::from(node > peer);
        RelayTicket {
            peer,
            relay: self.relay_address(),
            channel,
            expires_unix,
            sealed: format_hex(&issue_ticket(&self.keys, channel, side, expires_unix)),
        }
    }
}

impl State {
    fn hear(&mut self, node: NodeId, message: ToCoordinator, coordinator: &Coordinator) {
        match message {
            ToCoordinator::Hello { .. } | ToCoordinator::Relays { .. } => {}
            ToCoordinator::Candidates(candidates) => {
                self.candidates.insert(node, candidates);
                self.offer_candidates();
            }
            ToCoordinator::JoinMesh { wireguard_key, .. } => {
                self.joined.insert(node, wireguard_key);
                if self.joined.len() == self.expected {
                    self.introduce(coordinator);
                }
            }
            ToCoordinator::Pairs { pairs, .. } => {
                self.reports.insert(node, pairs);
                let established = |p: &Vec<PairReport>| p.iter().filter(|p| p.established).count();
                let ready = self.reports.values().filter(|p| established(p) + 1 >= self.expected);
                if ready.count() == self.expected {
                    self.tell_all(|_| {
                        vec![ToNode::MeshOpen { mesh: MESH, rtt: RttTable::default() }]
                    });
                }
            }
            ToCoordinator::LeaveMesh { pairs, .. } => {
                self.left.insert(node, pairs);
            }
        }
    }

    fn introduce(&self, coordinator: &Coordinator) {
        let nodes: Vec<NodeId> = self.joined.keys().copied().collect();
        if !self.has_stranger {
            self.tell_all(|node| {
                let peers = nodes.iter().filter(|other| **other != node);
                peers.map(|peer| ToNode::Ticket(coordinator.ticket(node, *peer))).collect()
            });
        }
        let member = |(index, (node, key)): (usize, (&NodeId, &WireGuardKey))| Member {
            index: index as u16,
            node: *node,
            name: format!("vol-{index}"),
            wireguard_key: *key,
            host_key: None,
        };
        let members: Vec<Member> = self.joined.iter().enumerate().map(member).collect();
        self.tell_all(|_| {
            vec![ToNode::Netmap(Netmap {
                version: NETMAP_VERSION,
                mesh: MESH,
                epoch: 1,
                members: members.clone(),
                era: 0,
                pattern: None,
                signature: None,
            })]
        });
    }

    fn offer_candidates(&self) {
        if !self.shares_candidates {
            return;
        }
        for (owner, candidates) in &self.candidates {
            for (node, session) in &self.sessions {
                if node != owner {
                    session.send(ToNode::Candidates(candidates.clone())).ok();
                }
            }
        }
    }

    fn tell_all(&self, messages: impl Fn(NodeId) -> Vec<ToNode>) {
        for (node, session) in &self.sessions {
            for message in messages(*node) {
                session.send(message).ok();
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.endpoint.close(1u32.into(), b"restart");
    }
}

/// Asks again and again until the answer is yes; fails after 20 s.
pub(crate) async fn wait_for(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let attempts = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(20), attempts).await;
    assert!(done.is_ok(), "{what}: not within 20 s");
}

/// The path of the only pair.
pub(crate) fn path_of(pairs: &[PairReport]) -> PathReport {
    pairs.first().map_or(PathReport::None, |pair| pair.path)
}
