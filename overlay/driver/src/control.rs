//! The control session with the coordinator: one QUIC stream of framed JSON, reconnected for ever.

mod board;
mod outgoing;

use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use overlay_core::RelayOffer;
use overlay_core::control::codec::{self, DecodeMessageError, EncodeMessageError, FrameReader};
use overlay_core::control::{CONTROL_VERSION, ToCoordinator, ToNode};
use overlay_core::ladder::Rung;
use overlay_core::netmap::MAX_RELAYS;
use overlay_core::wire::parse_reflector_token;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, sleep_until, timeout};

pub(crate) use board::Board;
use outgoing::Outgoing;

use crate::quic::QuicQueue;
use crate::socket::plain;
use crate::tunnel::{Detour, SiteHandle, TunnelConfig};
use crate::view::Seen;
use crate::worker::{Command, WorkerHandle};

/// First and longest pause between two attempts. Chosen: a restarted coordinator is found again at
/// once, an absent one costs a packet exchange in 30 s.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// How long one address of the coordinator may take to shake hands.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the coordinator may be silent after the machine's addresses have changed. Chosen: QUIC asks
/// three times meanwhile on a line of 200 ms.
const MOVE_PATIENCE: Duration = Duration::from_secs(2);

/// An endpoint that is of no use to anybody.
pub(crate) const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Bytes taken from the stream at a time.
const READ_BYTES: usize = 16 * 1024;

/// Where the coordinator is and how to trust it.
pub struct ControlConfig {
    /// Host name or address, and port: `coordinator.example:6443`. Resolved anew for every attempt.
    pub server: String,
    /// The name that the coordinator's certificate must carry.
    pub server_name: String,
    /// The pinned root and this node's certificate. The ALPN is set by the overlay.
    pub tls: rustls::ClientConfig,
    /// Name and version of the program, for people.
    pub software: String,
    /// The way for networks that let no UDP through; none: such networks get no session.
    pub tunnel: Option<TunnelConfig>,
}

/// Keeps the coordinator informed and passes on what it says.
pub(crate) struct ControlTask {
    pub(crate) endpoint: Endpoint,
    /// What `endpoint` reads from.
    pub(crate) queue: Arc<QuicQueue>,
    /// The machine's addresses have changed.
    pub(crate) moved: Arc<Notify>,
    pub(crate) client: ClientConfig,
    pub(crate) server: String,
    pub(crate) server_name: String,
    pub(crate) software: String,
    /// The socket has no IPv6: such addresses of the coordinator are skipped.
    pub(crate) ipv4_only: bool,
    pub(crate) detour: Arc<Detour>,
    /// What carries packets to the coordinator.
    pub(crate) site: SiteHandle,
    /// The relays that run alone and take tunnels.
    pub(crate) offers: watch::Sender<Vec<RelayOffer>>,
    /// How the last session came about.
    pub(crate) was_tunnelled: AtomicBool,
    pub(crate) board: Arc<Board>,
    pub(crate) worker: WorkerHandle,
    pub(crate) connected: watch::Sender<bool>,
}

/// Why a control session ended.
#[derive(Debug, thiserror::Error)]
enum SessionError {
    #[error("resolve the coordinator's name")]
    Resolve(#[source] std::io::Error),
    #[error("the coordinator's name has no usable address")]
    NoAddress,
    #[error("reach the coordinator")]
    Connect(#[from] quinn::ConnectError),
    #[error("talk to the coordinator")]
    Connection(#[from] quinn::ConnectionError),
    #[error("no answer from the coordinator within {CONNECT_TIMEOUT:?}")]
    Timeout,
    #[error("read from the control stream")]
    Read(#[from] quinn::ReadError),
    #[error("write to the control stream")]
    Write(#[from] quinn::WriteError),
    #[error("the control stream ended")]
    Ended,
    #[error("understand the coordinator")]
    Decode(#[from] DecodeMessageError),
    #[error("make a control message")]
    Encode(#[from] EncodeMessageError),
    #[error("the way to the coordinator is another one from now on")]
    OtherWay,
    #[error("the connection did not come along when the machine's addresses changed")]
    LeftBehind,
    #[error("the data plane has stopped")]
    WorkerStopped,
}

impl ControlTask {
    /// Runs until it is dropped or the data plane stops.
    pub(crate) async fn run(self) {
        let (first, longest) = BACKOFF;
        let backoff = ExponentialBuilder::new()
            .with_min_delay(first)
            .with_max_delay(longest)
            .without_max_times()
            .with_jitter();
        let mut delays = backoff.build();
        loop {
            let error = match self.connect().await {
                Ok((connection, is_tunnelled)) => {
                    let error = self.session(&connection, is_tunnelled).await;
                    self.detour.note_session_by_udp(false);
                    // The coordinator need not wait for the silence, and what comes late is of no use.
                    connection.close(0u32.into(), b"starting over");
                    error
                }
                Err(error) => error,
            };
            if matches!(error, SessionError::WorkerStopped) {
                return;
            }
            if self.connected.send_replace(false) {
                delays = backoff.build();
            }
            if matches!(error, SessionError::OtherWay) {
                tracing::info!("the control session starts over: {error}");
                continue;
            }
            let delay = delays.next().unwrap_or(longest);
            tracing::info!(error = %chain(&error), ?delay, "no control session, trying again");
            let is_tunnelled = self.detour.is_stream();
            tokio::select! {
                () = sleep(delay) => {}
                () = self.other_way(is_tunnelled) => {}
            }
        }
    }

    /// By the way that carries packets, which may become another one meanwhile. Whether it is a tunnel.
    async fn connect(&self) -> Result<(Connection, bool), SessionError> {
        loop {
            let is_tunnelled = self.detour.is_stream();
            tokio::select! {
                connected = self.connect_once() => return Ok((connected?, is_tunnelled)),
                () = self.other_way(is_tunnelled) => {}
            }
        }
    }

    /// Completes when the way to the coordinator is not of that kind any more.
    async fn other_way(&self, is_tunnelled: bool) {
        let mut used = self.site.used.clone();
        let is_other = |used: &Option<Rung>| used.is_some_and(Rung::is_stream) != is_tunnelled;
        if used.wait_for(is_other).await.is_err() {
            pending::<()>().await;
        }
    }

    /// One attempt, by the way that the socket takes.
    async fn connect_once(&self) -> Result<Connection, SessionError> {
        let addresses = tokio::net::lookup_host(&self.server)
            .await
            .map_err(SessionError::Resolve)?
            .filter(|address| address.is_ipv4() || !self.ipv4_only);
        let mut last = SessionError::NoAddress;
        for address in by_use(addresses.collect()) {
            self.detour.set_control(address);
            let connecting =
                self.endpoint.connect_with(self.client.clone(), address, &self.server_name)?;
            last = match timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => error.into(),
                Err(_) => SessionError::Timeout,
            };
        }
        Err(last)
    }

    /// Talks until the connection ends; never returns without a reason.
    async fn session(&self, connection: &Connection, is_tunnelled: bool) -> SessionError {
        let result = async {
            let (mut send, receive) = connection.open_bi().await?;
            let software = self.software.clone();
            let hello = ToCoordinator::Hello { version: CONTROL_VERSION, software };
            send.write_all(&codec::encode(&hello)?).await?;
            tokio::try_join!(self.listen(receive, is_tunnelled), self.speak(send)).map(|_| ())
        };
        let result = tokio::select! {
            result = result => result,
            () = self.other_way(is_tunnelled) => Err(SessionError::OtherWay),
            error = self.follow_moves(connection, is_tunnelled) => Err(error),
        };
        match result {
            Err(error) => error,
            Ok(()) => SessionError::Connection(quinn::ConnectionError::LocallyClosed),
        }
    }

    /// Takes the connection along whenever the machine's addresses change; completes when it did not
    /// come along.
    async fn follow_moves(&self, connection: &Connection, is_tunnelled: bool) -> SessionError {
        loop {
            self.moved.notified().await;
            self.detour.note_change();
            if is_tunnelled {
                continue;
            }
            let before = connection.stats().udp_rx.datagrams;
            // The same socket again: what counts is that QUIC asks on the new way at once.
            if let Err(error) = self.endpoint.rebind_abstract(Arc::clone(&self.queue) as _) {
                tracing::warn!(%error, "QUIC does not take its socket again");
            }
            sleep(MOVE_PATIENCE).await;
            if connection.stats().udp_rx.datagrams == before {
                return SessionError::LeftBehind;
            }
        }
    }

    async fn listen(
        &self,
        mut receive: RecvStream,
        is_tunnelled: bool,
    ) -> Result<(), SessionError> {
        let mut frames = FrameReader::<ToNode>::new();
        let mut piece = vec![0u8; READ_BYTES];
        loop {
            let len = receive.read(&mut piece).await?.ok_or(SessionError::Ended)?;
            frames.extend(&piece[..len]);
            while let Some(mut message) = frames.next_message()? {
                if matches!(message, ToNode::Welcome { .. }) {
                    self.detour.note_session_by_udp(!is_tunnelled);
                }
                self.note_relays(&message);
                if is_tunnelled && let ToNode::Welcome { observed, .. } = &mut message {
                    // The coordinator sees the tunnel's other end.
                    *observed = NOWHERE;
                }
                if matches!(message, ToNode::Welcome { .. }) {
                    tracing::info!("control session is up");
                    self.connected.send_replace(true);
                }
                let is_welcome = matches!(message, ToNode::Welcome { .. });
                if is_welcome
                    && self.was_tunnelled.swap(is_tunnelled, Ordering::Relaxed) != is_tunnelled
                {
                    // Before the coordinator's word, which is to be understood accordingly.
                    let changed = Command::WayChanged { tunnelled: is_tunnelled };
                    let changed = self.worker.send(changed).await;
                    changed.map_err(|_| SessionError::WorkerStopped)?;
                }
                let command = Command::Coordinator(Box::new(message));
                self.worker.send(command).await.map_err(|_| SessionError::WorkerStopped)?;
            }
        }
    }

    /// The coordinator's own relay is reached by the detour, too: it is the reflector.
    fn note_relays(&self, message: &ToNode) {
        match message {
            ToNode::Welcome { observed, reflector, reflector_token, other_reflector: _ } => {
                let (observed, reflector) = (plain(*observed), plain(*reflector));
                self.detour.add_relay(reflector);
                if let Ok(token) = parse_reflector_token(reflector_token) {
                    self.site.seen.send_replace(Some(Seen { observed, reflector, token }));
                }
            }
            ToNode::Relays { relays } => {
                let lone = relays.iter().filter(|relay| relay.tunnel.is_some()).take(MAX_RELAYS);
                self.offers.send_replace(lone.cloned().collect());
            }
            ToNode::Ticket(_)
            | ToNode::Netmap(_)
            | ToNode::Candidates(_)
            | ToNode::MeshOpen { .. }
            | ToNode::Member { .. }
            | ToNode::MeshClosed { .. } => {}
        }
    }

    async fn speak(&self, mut send: SendStream) -> Result<(), SessionError> {
        let mut outgoing = Outgoing::default();
        loop {
            let (messages, again) = outgoing.due(Instant::now(), &mut self.board.lock());
            for message in &messages {
                send.write_all(&codec::encode(message)?).await?;
            }
            let timer = async {
                match again {
                    Some(at) => sleep_until(at.into()).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = self.board.changed() => {}
                () = timer => {}
            }
        }
    }
}

/// In the order in which they are tried. What the coordinator sees of a node helps peers with IPv4
/// only, where addresses are translated, so that comes first; but before it waits for answers, the
/// kernel is asked whether there is a way at all.
pub(crate) fn by_use(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    addresses.sort_by_key(|address| (!has_way_to(*address), address.is_ipv6()));
    addresses
}

/// Whether the kernel knows a way there. Nothing is sent.
fn has_way_to(address: SocketAddr) -> bool {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(address)).is_ok()
}

/// An error with its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_is_tried_first_unless_there_is_no_way_to_it() {
        let of = |addresses: [&str; 2]| by_use(addresses.map(|a| a.parse().unwrap()).to_vec());
        let [six, four]: [SocketAddr; 2] = ["[::1]:1", "127.0.0.1:1"].map(|a| a.parse().unwrap());
        assert_eq!(of(["[::1]:1", "127.0.0.1:1"]), [four, six]);
        // The kernel connects nobody to everybody.
        let nowhere: SocketAddr = "255.255.255.255:1".parse().unwrap();
        assert_eq!(of(["255.255.255.255:1", "[::1]:1"]), [six, nowhere]);
    }
}
