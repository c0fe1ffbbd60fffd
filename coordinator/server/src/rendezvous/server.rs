//! The rendezvous' shell: the QUIC endpoint, the clock, and the lock around the registry.

mod connection;
mod pace;
mod relay;
mod shared;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use overlay_core::control::ALPN;
use overlay_core::control::relays::RELAY_ALPN;
use overlay_core::wire::tunnel::DATAGRAM_ALPN;
use overlay_core::{MeshId, NodeId, Pattern};
use overlay_relay::gateway::Gateway;
use overlay_relay::{Moment, RelayKeys};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, IdleTimeout, TransportConfig,
    VarInt,
};
use ring::hmac;
use rustls::server::ResolvesServerCert;
use tokio::sync::mpsc;

use self::shared::Shared;
use super::identity::AnyNode;
use super::registry::{LaunchError, LaunchMember, MeshView, Registry, RelaySite, RendezvousEvent};
use crate::places::Places;

/// How long the end of the connections may take, and for each of them besides. Chosen: the word is sent
/// at once; what a QUIC endpoint waits for besides, three probe timeouts of each connection (RFC 9000
/// §10.2), answers the late packets of nodes that have been told or have left, and over slow lines takes
/// seconds.
const GOODBYE: Duration = Duration::from_millis(200);
const GOODBYE_EACH: Duration = Duration::from_micros(100);

/// A connection without a packet for so long has ended. Chosen: three lost keep-alives.
const IDLE_TIMEOUT: VarInt = VarInt::from_u32(30_000);

/// Packets that keep a quiet connection, and the NAT's mapping below it, alive. Chosen: below the
/// 30 s that home routers hold a UDP mapping at the least.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Handshakes at a time; beyond half of them, clients must prove their address first.
const MAX_HANDSHAKES: usize = 512;

/// Handshakes at a time from one address, or from one IPv6 /64: the others are for others. Chosen: a
/// laboratory's volunteers behind one NAT, all coming back at once; who is refused tries again.
const MAX_HANDSHAKES_OF_ADDRESS: usize = 128;

/// Connections at a time. Chosen: above the largest cluster that one coordinator is meant for.
const MAX_CONNECTIONS: usize = 32_768;

/// Events that wait for the coordinator. It reads them at once or is beyond rescue.
const EVENT_QUEUE: usize = 65_536;

/// Decides who may come in.
pub trait Enrolled: Send + Sync + 'static {
    /// Whether that node is enrolled and not revoked.
    fn enrolled(&self, node: NodeId) -> Pin<Box<dyn Future<Output = bool> + Send + '_>>;
}

/// Decides which relays may come in.
pub trait AdmitsRelays: Send + Sync + 'static {
    /// The keys of that relay, if it is enrolled and not revoked, or is by that token from now on.
    fn admit<'a>(
        &'a self,
        relay: NodeId,
        token: Option<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Option<RelayKeys>> + Send + 'a>>;
}

/// What a [`Rendezvous`] needs.
pub struct RendezvousConfig {
    /// The bound UDP socket of the control channel.
    pub socket: UdpSocket,
    /// The server's certificate, asked for at each handshake, so that it can be rotated.
    pub certificate: Arc<dyn ResolvesServerCert>,
    /// Shared with the coordinator's own relay.
    pub relay_keys: RelayKeys,
    /// That relay's public endpoints, at least one; they are also the second reflector.
    pub relay_endpoints: Vec<SocketAddr>,
    /// Who may come in.
    pub enrolled: Arc<dyn Enrolled>,
    /// Which relays that run alone may come in.
    pub relays: Arc<dyn AdmitsRelays>,
    /// Where the datagrams of nodes go whose relay frames do not get through otherwise.
    pub gateway: Gateway,
    /// The same after every start: with it a coordinator that was killed and started again can tell
    /// nodes at once that their connections are gone (RFC 9000 §10.3).
    pub reset_secret: [u8; 32],
}

/// The rendezvous did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The socket cannot be used.
    #[error("serve the control channel's socket")]
    Socket(#[source] io::Error),
    /// The TLS library lacks what QUIC needs.
    #[error("set up tls for the control channel")]
    Tls(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Nodes could not be told of a relay.
    #[error("no public endpoint of the relay is known: give a public address")]
    NoRelay,
}

/// Starts rendezvous.
#[derive(Clone, Copy, Debug)]
pub struct Rendezvous;

/// A running rendezvous. It ends when the last clone is dropped.
#[derive(Clone)]
pub struct RendezvousHandle(Arc<Running>);

struct Running {
    shared: Arc<Shared>,
    endpoint: Endpoint,
}

impl Rendezvous {
    /// Serves the control channel. To be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`StartError`] when the socket or the TLS set-up is of no use.
    pub fn start(
        config: RendezvousConfig,
    ) -> Result<(RendezvousHandle, mpsc::Receiver<RendezvousEvent>), StartError> {
        if config.relay_endpoints.is_empty() {
            return Err(StartError::NoRelay);
        }
        let server = server_config(config.certificate)?;
        let mut endpoint_config = endpoint_config(config.reset_secret);
        // Agents tell the protocols on their socket apart by that bit.
        endpoint_config.grease_quic_bit(false);
        let endpoint = overlay_tunnel::endpoint(endpoint_config, Some(server), config.socket)
            .map_err(StartError::Socket)?;
        let relay = RelaySite {
            keys: config.relay_keys,
            endpoints: config.relay_endpoints,
            // Its gateway is the API's.
            tunnel: None,
        };
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let shared =
            Arc::new(Shared::new(Registry::new(Moment::read(), relay, rand::random()), events));
        let RendezvousConfig { enrolled, relays, gateway, .. } = config;
        let doors = Doors { enrolled, relays, gateway };
        tokio::spawn(accept(endpoint.clone(), Arc::clone(&shared), doors));
        tokio::spawn(keep_time(Arc::clone(&shared)));
        Ok((RendezvousHandle(Arc::new(Running { shared, endpoint })), receiver))
    }
}

impl RendezvousHandle {
    /// Announces the network of a launch; members in the order of their ranks.
    ///
    /// Once all of them have joined they are introduced to each other; once the pairs of `pattern` have paths
    /// the network opens. The same launch announced
    /// again (after a restart, say) changes nothing.
    ///
    /// # Errors
    ///
    /// [`LaunchError`] when there cannot be such a network.
    pub fn launch(
        &self,
        mesh: MeshId,
        members: Vec<LaunchMember>,
        pattern: Pattern,
    ) -> Result<(), LaunchError> {
        self.shared().change(|registry| registry.launch(Moment::read(), mesh, members, pattern))
    }

    /// A member has done its part of the job: its peers are told. Said again it changes nothing.
    pub fn part_ended(&self, mesh: MeshId, node: NodeId) {
        self.shared().change(|registry| registry.part_ended(mesh, node));
    }

    /// Ends a network and tells its members why. Its view stays for a while.
    pub fn close(&self, mesh: MeshId, reason: &str) {
        self.shared().change(|registry| registry.close(mesh, reason));
    }

    /// A network as it stands, or stood when it closed; none when it is not known (any more).
    pub fn view(&self, mesh: MeshId) -> Option<MeshView> {
        self.shared().read(|registry| registry.view(mesh))
    }

    /// Why a network is not open, for people: who has not joined, which pairs have no path.
    pub fn blockers(&self, mesh: MeshId) -> String {
        self.shared().read(|registry| registry.blockers(mesh))
    }

    /// The members whose fault it is that a network is not open, where that can be told.
    pub fn blocking_nodes(&self, mesh: MeshId) -> Vec<NodeId> {
        self.shared().read(|registry| registry.blocking_nodes(mesh))
    }

    /// Whether a node's control connection is up.
    pub fn connected(&self, node: NodeId) -> bool {
        self.shared().read(|registry| registry.is_connected(node))
    }

    /// The relays that run alone and are connected, with their endpoints.
    pub fn relays(&self) -> Vec<(NodeId, Vec<SocketAddr>)> {
        self.shared().read(Registry::lone_relays)
    }

    /// Closes a node's connection. That it cannot come back is for [`Enrolled`] to say.
    pub fn revoke(&self, node: NodeId) {
        self.shared().change(|registry| registry.revoke(node));
    }

    /// The address of the socket.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.endpoint.local_addr()
    }

    /// Closes all connections, and gives the word a moment to leave.
    pub async fn shutdown(&self) {
        let connections = u32::try_from(self.0.endpoint.open_connections()).unwrap_or(u32::MAX);
        let patience = GOODBYE + GOODBYE_EACH.saturating_mul(connections);
        self.0.end();
        let _ = tokio::time::timeout(patience, self.0.endpoint.wait_idle()).await;
    }

    fn shared(&self) -> &Shared {
        &self.0.shared
    }
}

impl Running {
    fn end(&self) {
        self.shared.ended.cancel();
        self.endpoint.close(connection::CLOSE_SHUTDOWN, b"the coordinator is shutting down");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// Resets by that secret, which outlives the process.
fn endpoint_config(secret: [u8; 32]) -> EndpointConfig {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
    let mut config = EndpointConfig::new(Arc::new(key));
    config.cid_generator(|| Box::new(AnyId));
    config
}

/// Connection ids that are not checked: those of a former process must not be dropped before they are
/// answered by a reset. How often that is done, QUIC limits.
struct AnyId;

impl ConnectionIdGenerator for AnyId {
    fn generate_cid(&mut self) -> ConnectionId {
        ConnectionId::new(&rand::random::<[u8; 8]>())
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

fn server_config(
    certificate: Arc<dyn ResolvesServerCert>,
) -> Result<quinn::ServerConfig, StartError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| StartError::Tls(error.into()))?
        .with_client_cert_verifier(Arc::new(AnyNode(provider)))
        .with_cert_resolver(certificate);
    tls.alpn_protocols = vec![ALPN.to_vec(), RELAY_ALPN.to_vec(), DATAGRAM_ALPN.to_vec()];
    // A resumed session would not prove anew that the node holds its key.
    tls.send_tls13_tickets = 0;
    let tls = QuicServerConfig::try_from(tls).map_err(|error| StartError::Tls(error.into()))?;
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(1u8.into())
        .max_concurrent_uni_streams(0u8.into())
        .max_idle_timeout(Some(IdleTimeout::from(IDLE_TIMEOUT)))
        .keep_alive_interval(Some(KEEP_ALIVE));
    overlay_tunnel::prepare(&mut transport);
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(tls));
    server.transport_config(Arc::new(transport));
    Ok(server)
}

/// Who decides about the two kinds of clients.
#[derive(Clone)]
struct Doors {
    enrolled: Arc<dyn Enrolled>,
    relays: Arc<dyn AdmitsRelays>,
    gateway: Gateway,
}

async fn accept(endpoint: Endpoint, shared: Arc<Shared>, doors: Doors) {
    let handshakes = Places::new(MAX_HANDSHAKES, MAX_HANDSHAKES_OF_ADDRESS);
    while let Some(incoming) = endpoint.accept().await {
        // Before an address is proved, no answer is longer than the question: the certificate would be three times that.
        if !incoming.remote_address_validated() && incoming.may_retry() {
            // It fails only where a retry is not due.
            let _ = incoming.retry();
            continue;
        }
        let Some(place) = handshakes.take(incoming.remote_address().ip()) else {
            incoming.refuse();
            continue;
        };
        if endpoint.open_connections() > MAX_CONNECTIONS {
            incoming.refuse();
            continue;
        }
        tokio::spawn(connection::serve(incoming, place, Arc::clone(&shared), doors.clone()));
    }
}

/// Wakes the registry when it wants to be woken.
async fn keep_time(shared: Arc<Shared>) {
    loop {
        let alarm = shared.alarm();
        let ring = async {
            match alarm {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = ring => shared.change(|registry| registry.handle_wakeup(Moment::read())),
            () = shared.alarm_changed.notified() => {}
            () = shared.ended.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests;
