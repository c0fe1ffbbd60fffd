//! The handles that an agent holds: the overlay and its meshes.

use std::io;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroUsize};
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use overlay_core::control::PairReport;
use overlay_core::{Activity, MeshId, Netmap, NodeId, RttTable};
use overlay_tunnel::OwnThread;
use quinn::Endpoint;
use quinn::crypto::rustls::NoInitialCipherSuite;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::MeshKeys;
use crate::control::{Board, ControlConfig, ControlTask};
use crate::interfaces;
use crate::limit::RateLimit;
use crate::observe::Observer;
use crate::port_mapping::{self, Leases};
use crate::quic::{self, QuicQueue};
use crate::socket::Socket;
use crate::stats::Stats;
use crate::tunnel::{Detour, Dialer, LoneSites, QuicPlace, Site, SiteHandle, Way};
use crate::view::{Answered, PingError, Via, View};
use crate::worker::{self, Command, WorkerHandle};

/// Events of a mesh that may wait for their reader: each member ends once, and there are a handful of others.
const EVENT_LIMIT: usize = 64 + overlay_core::netmap::MAX_MEMBERS;

/// How long the last messages may take at the end.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(1);

/// How long the end of the control session may take. Chosen: the word is sent at once; what a QUIC
/// endpoint waits for besides (RFC 9000 §10.2) takes seconds over slow lines, and serves nobody here.
const GOODBYE: Duration = Duration::from_millis(200);

/// What an overlay is made from.
pub struct OverlayConfig {
    /// This node's identity.
    pub node: NodeId,
    /// Where the UDP socket is bound: dual stack for an IPv6 address, IPv4 only for an IPv4 one. Port 0
    /// lets the system choose. A specific address makes it the only host candidate.
    pub bind: SocketAddr,
    /// Endpoints that lead to that socket from outside, such as a port that a router forwards: peers are told
    /// them as they are.
    pub advertise: Vec<SocketAddr>,
    /// The coordinator.
    pub control: ControlConfig,
    /// Told of what happens to meshes and pairs, if anybody wants to know.
    pub observer: Option<Observer>,
    /// How a home's router is asked for a port (PCP, NAT-PMP, UPnP) where that is harmless, if it shall be.
    pub port_mapping: Option<Leases>,
    /// Whether the volunteer allows to meet peers by trying many ports, where nothing else leads to a direct path.
    pub birthday_probing: bool,
    /// Threads of the data plane, among which the peers are divided; see [`default_workers`].
    pub workers: NonZeroU16,
    /// What the owner grants all meshes together, both ways, with the headers of the line. May be shared with others
    /// that take from the same grant, and changed at any time.
    pub limit: Arc<RateLimit>,
}

/// One worker for every two of this machine's cores, at least one: jobs need the others.
pub fn default_workers() -> NonZeroU16 {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    u16::try_from(cores / 2).ok().and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MIN)
}

/// The overlay could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The UDP socket could not be bound.
    #[error("bind the overlay's UDP socket to {address}")]
    Bind {
        /// The wanted address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The TLS configuration has no TLS 1.3 cipher that QUIC can start with.
    #[error("use the TLS configuration for QUIC")]
    Tls(#[from] NoInitialCipherSuite),
    /// The coordinator's name is no TLS server's.
    #[error("use the coordinator's name: {0}")]
    Name(String),
    /// The data plane's thread or QUIC's endpoint could not be made.
    #[error("start the data plane")]
    Worker(#[source] io::Error),
}

/// A mesh could not be joined.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// This node is in that mesh already.
    #[error("{0} is joined already")]
    AlreadyJoined(MeshId),
    /// The device's descriptor could not be made nonblocking.
    #[error("prepare the mesh device")]
    Device(#[source] io::Error),
    /// The overlay was shut down.
    #[error("the overlay has stopped")]
    Stopped,
}

/// One node of the overlay. Clones are handles to the same one.
#[derive(Clone)]
pub struct Overlay {
    shared: Arc<Shared>,
}

struct Shared {
    worker: WorkerHandle,
    local_addr: SocketAddr,
    endpoint: Endpoint,
    board: Arc<Board>,
    connected: watch::Receiver<bool>,
    server: String,
    detour: Arc<Detour>,
    site: SiteHandle,
    running: Mutex<Option<Running>>,
    /// Where QUIC and the control session run.
    _thread: OwnThread,
}

struct Running {
    thread: thread::JoinHandle<()>,
    /// Aborted when dropped.
    tasks: JoinSet<()>,
    /// Ends when `stopping` says so, or is gone.
    mapping: Option<JoinHandle<()>>,
    stopping: watch::Sender<bool>,
}

impl Overlay {
    /// Binds the socket and starts the data plane and the control session.
    ///
    /// The control session is then made, and made again, for ever; see [`connected`](Self::connected).
    /// Must be called in a tokio runtime.
    #[expect(clippy::unused_async, reason = "makes the need for a runtime visible to the caller")]
    pub async fn start(config: OverlayConfig) -> Result<Self, StartError> {
        let address = config.bind;
        let socket =
            Socket::bind(address).map_err(|source| StartError::Bind { address, source })?;
        let socket = Arc::new(socket);
        let local_addr = socket.local_addr();
        let tunnel = config.control.tunnel;
        let dialer = tunnel.clone().map(|tunnel| {
            Dialer::new(tunnel, &config.control.server_name, config.control.tls.clone())
        });
        let dialer = dialer.transpose().map_err(|error| StartError::Name(error.to_string()))?;
        let detour = Arc::clone(socket.detour());
        let client = quic::client_config(config.control.tls.clone())?;
        let queue = QuicQueue::new(Arc::clone(&socket));
        let own_thread = OwnThread::start("quic").map_err(StartError::Worker)?;
        let runtime = own_thread.handle();
        let endpoint = {
            let _entered = runtime.enter();
            quic::endpoint(Arc::clone(&queue)).map_err(StartError::Worker)?
        };
        let board = Arc::new(Board::default());
        let ipv4_only = !socket.is_ipv6();
        let site_socket = Arc::clone(&socket);
        let (worker, thread) = worker::spawn(
            config.node,
            socket,
            Arc::clone(&queue),
            Arc::clone(&board),
            config.observer,
            config.workers,
            config.limit,
        )
        .map_err(StartError::Worker)?;
        if !config.advertise.is_empty() {
            let endpoints = Command::OperatorEndpoints(config.advertise);
            // A new worker's queue is empty.
            let _ = worker.try_send(endpoints);
        }
        if config.birthday_probing {
            let _ = worker.try_send(Command::BirthdayProbing(true));
        }
        let server = config.control.server.clone();
        let name = config.control.server_name.clone();
        let place = QuicPlace::new(server.clone(), name, config.control.tls)?;
        let to_relays = Arc::clone(&site_socket);
        let coordinator = (place, client.clone());
        let (ways, site) = Site::of_coordinator(site_socket, worker.clone(), coordinator, dialer);
        let (offers, offered) = watch::channel(Vec::new());
        let lone = tunnel.map(|tunnel| {
            LoneSites::new(to_relays, worker.clone(), tunnel, site.used.clone(), offered)
        });
        let (connected_sender, connected) = watch::channel(false);
        let moved = Arc::new(Notify::new());
        let control = ControlTask {
            endpoint: endpoint.clone(),
            queue,
            moved: Arc::clone(&moved),
            client,
            server: config.control.server,
            server_name: config.control.server_name,
            software: config.control.software,
            ipv4_only,
            detour: Arc::clone(&detour),
            site: site.clone(),
            offers,
            was_tunnelled: AtomicBool::new(false),
            board: Arc::clone(&board),
            worker: worker.clone(),
            connected: connected_sender,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn_on(interfaces::watch(local_addr, worker.clone(), moved), runtime);
        tasks.spawn_on(ways.run(), runtime);
        if let Some(lone) = lone {
            tasks.spawn_on(lone.run(), runtime);
        }
        tasks.spawn_on(control.run(), runtime);
        let (stopping, stopped) = watch::channel(false);
        // A socket that is bound to one address is meant for that address alone.
        let leases = config.port_mapping.filter(|_| local_addr.ip().is_unspecified());
        let mapping = leases.map(|leases| {
            let keeping = port_mapping::keep(local_addr.port(), leases, worker.clone(), stopped);
            runtime.spawn(keeping)
        });
        let running = Mutex::new(Some(Running { thread, tasks, mapping, stopping }));
        let shared = Shared {
            worker,
            local_addr,
            endpoint,
            board,
            connected,
            server,
            detour,
            site,
            running,
            _thread: own_thread,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The address that the socket is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr
    }

    /// The coordinator, as it was given: host and port.
    pub fn server(&self) -> &str {
        &self.shared.server
    }

    /// Enters a mesh whose packets come from and go to `tun`.
    ///
    /// `tun` is a TUN device's descriptor with `IFF_VNET_HDR` (see [`tun`](crate::tun)); it is made
    /// nonblocking. The coordinator answers with the events of the [`Mesh`].
    pub async fn join(
        &self,
        mesh: MeshId,
        tun: OwnedFd,
        keys: impl Into<MeshKeys>,
    ) -> Result<Mesh, JoinError> {
        let keys = keys.into();
        set_nonblocking(&tun).map_err(JoinError::Device)?;
        let (events_sender, events) = mpsc::channel(EVENT_LIMIT);
        let (reply, answer) = oneshot::channel();
        let command = Command::Join { mesh, tun, keys, events: events_sender, reply };
        self.shared.worker.send(command).await.map_err(|_| JoinError::Stopped)?;
        // From here on dropping this future leaves the mesh: nobody else could.
        let worker = self.shared.worker.clone();
        let mut joined = Mesh { id: mesh, worker, events, left: false };
        let result = answer.await.unwrap_or(Err(JoinError::Stopped));
        joined.left = result.is_err();
        result.map(|()| joined)
    }

    /// Whether the control session is up.
    pub fn connected(&self) -> bool {
        *self.shared.connected.borrow()
    }

    /// Whether coordinator and relay are reached over TLS, since UDP does not get through.
    pub fn tunnelled(&self) -> bool {
        self.shared.detour.is_stream()
    }

    /// How packets reach the coordinator's relay, and how that came about.
    pub fn way(&self) -> Way {
        self.shared.site.way()
    }

    /// The data plane's counters; zeros after the shutdown.
    pub async fn stats(&self) -> Stats {
        let (reply, answer) = oneshot::channel();
        if self.shared.worker.send(Command::Stats(reply)).await.is_err() {
            return Stats::default();
        }
        answer.await.unwrap_or_default()
    }

    /// How long the NAT remembers a silent mapping, as measured: keepalives come in time from now on.
    pub(crate) async fn learned_lifetime(&self, lifetime: Duration) {
        // A stopped overlay keeps nothing alive.
        let _ = self.shared.worker.send(Command::MappingLifetime(lifetime)).await;
    }

    /// Tells the peers what this node's owner lets its jobs do.
    pub async fn set_activity(&self, activity: Activity) {
        // A stopped overlay has no peers.
        let _ = self.shared.worker.send(Command::Activity(activity)).await;
    }

    /// What the node knows and does; none after the shutdown.
    pub async fn view(&self) -> Option<View> {
        let (reply, answer) = oneshot::channel();
        self.shared.worker.send(Command::View(reply)).await.ok()?;
        answer.await.ok()
    }

    /// Measures a round trip inside the session with a peer, with a packet of `size` bytes (brought
    /// into the range of 56 to 1412), on that path alone.
    ///
    /// # Errors
    ///
    /// [`PingError`]: there is nowhere to send, or nothing came within `patience`.
    pub async fn ping(
        &self,
        peer: NodeId,
        via: Via,
        size: usize,
        patience: Duration,
    ) -> Result<Answered, PingError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Ping { peer, via, size, reply };
        self.shared.worker.send(command).await.map_err(|_| PingError::Stopped)?;
        match timeout(patience, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(PingError::Stopped),
            Err(_) => Err(PingError::Timeout(patience)),
        }
    }

    /// Ends the control session and the data plane. Meshes that were not left are dropped.
    pub async fn shutdown(self) {
        let running = self.shared.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Running { thread, mut tasks, mapping, stopping }) = running else { return };
        // The router's port is given back meanwhile.
        stopping.send_replace(true);
        // Final reports that are on the board are worth a moment.
        let _ = timeout(SHUTDOWN_PATIENCE, self.shared.board.drained(&self.shared.connected)).await;
        tasks.shutdown().await;
        self.shared.endpoint.close(0u32.into(), b"shutdown");
        let _ = timeout(GOODBYE, self.shared.endpoint.wait_idle()).await;
        if let Some(mapping) = mapping {
            let _ = timeout(SHUTDOWN_PATIENCE, mapping).await;
        }
        let _ = self.shared.worker.send(Command::Stop).await;
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}

/// What happens to a mesh.
#[derive(Clone, Debug, PartialEq)]
pub enum MeshEvent {
    /// The members are known, or changed.
    Netmap(Netmap),
    /// Every pair that the mesh waits for has a working path: the job may start.
    Open {
        /// What the pairs have measured by now.
        rtt: RttTable,
    },
    /// A member's part of the job has ended, or it is back.
    Member {
        /// The member.
        node: NodeId,
        /// Nothing more is to be expected of it.
        ended: bool,
    },
    /// The node is not, or no longer, part of the mesh.
    Closed {
        /// Why, for people.
        reason: String,
    },
}

/// A mesh that this node is in. Dropping it leaves the mesh.
pub struct Mesh {
    id: MeshId,
    worker: WorkerHandle,
    events: mpsc::Receiver<MeshEvent>,
    left: bool,
}

impl Mesh {
    /// The next event. May be dropped and called again without losing one.
    ///
    /// After the overlay's shutdown it is [`MeshEvent::Closed`], every time.
    pub async fn event(&mut self) -> MeshEvent {
        let stopped = || MeshEvent::Closed { reason: "the overlay has stopped".to_owned() };
        self.events.recv().await.unwrap_or_else(stopped)
    }

    /// How the pairs stand; empty before the first netmap. The coordinator gets the same report.
    pub async fn pairs(&self) -> Vec<PairReport> {
        let (reply, answer) = oneshot::channel();
        let mesh = self.id;
        if self.worker.send(Command::Pairs { mesh, reply }).await.is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }

    /// Leaves the mesh, closes its device's descriptor and gives the final report, which the
    /// coordinator gets too.
    pub async fn leave(mut self) -> Vec<PairReport> {
        self.left = true;
        let (reply, answer) = oneshot::channel();
        let command = Command::Leave { mesh: self.id, reply: Some(reply) };
        if self.worker.send(command).await.is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if !self.left {
            // With a full queue or a stopped worker the mesh goes with the process.
            let _ = self.worker.try_send(Command::Leave { mesh: self.id, reply: None });
        }
    }
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
