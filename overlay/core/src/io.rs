//! Everything that can happen to a [`Node`](crate::Node), and everything it can ask of its driver.

use std::net::SocketAddr;
use std::time::Duration;

use crate::NodeId;
use crate::control::PairReport;
use crate::ids::{MeshId, SessionKey, WireGuardKey};
use crate::netmap::{Activity, MeasuredRelay, Netmap, NodeCandidates, RelayOffer, RelayTicket};

/// Where a packet goes, or where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// A UDP datagram to or from that endpoint.
    Direct(SocketAddr),
    /// A relay frame of that channel, to or from that relay.
    Relayed {
        /// The relay's endpoint.
        relay: SocketAddr,
        /// The pair's channel at the relay.
        channel: u32,
    },
}

impl Path {
    /// The endpoint that datagrams come from and go to: the peer's, or the relay's.
    pub fn endpoint(self) -> SocketAddr {
        match self {
            Self::Direct(endpoint) | Self::Relayed { relay: endpoint, .. } => endpoint,
        }
    }
}

/// Everything that can happen to a [`Node`](crate::Node).
#[derive(Debug)]
pub enum Input<'a> {
    /// The addresses of the machine's own interfaces, with the UDP socket's port.
    HostEndpoints(Vec<SocketAddr>),
    /// The coordinator said how it sees this node, and where its second reflector is.
    Welcome {
        /// The node's endpoint as seen by the coordinator.
        observed: SocketAddr,
        /// The second reflector.
        reflector: SocketAddr,
        /// Shown to the reflector.
        reflector_token: [u8; 16],
    },
    /// The second reflector in the other family of addresses than the coordinator is reached by.
    OtherReflector {
        /// Where it is.
        at: SocketAddr,
        /// Shown to it.
        token: [u8; 16],
    },
    /// The endpoints that routers gave on request (PCP, NAT-PMP, UPnP); all of them each time.
    PortMapped(Vec<SocketAddr>),
    /// The endpoints that the operator says lead here; all of them each time.
    OperatorEndpoints(Vec<SocketAddr>),
    /// How long a mapping of the NAT in front of this node lives without packets, as measured.
    MappingLifetime(Duration),
    /// The coordinator and its relay are reached through a tunnel from now on, or are not any more. What they
    /// see of this node then is the tunnel's other end, and says nothing about its network.
    Tunnelled(bool),
    /// Packets to that relay go another way from now on, which it sees under another address: what was bound
    /// there is of the past.
    RelayWay(SocketAddr),
    /// What this node's owner lets its jobs do: told to the peers. Before, they work.
    Activity(Activity),
    /// Whether the volunteer allows to look for a path by trying many ports; not before this says so.
    BirthdayProbing(bool),
    /// The machine was suspended and goes on. A clock that runs on meanwhile tells the node by itself.
    Resumed,
    /// This node is about to enter a mesh with that private key's public part.
    JoinMesh(MeshId),
    /// A mesh's members. Ignored unless its epoch is newer and the node has joined that mesh.
    Netmap(Netmap),
    /// A member's part of the job has ended, or it is back: its silence means nothing then.
    Member {
        /// The mesh.
        mesh: MeshId,
        /// The member.
        node: NodeId,
        /// Nothing more is to be expected of it.
        ended: bool,
    },
    /// This node left a mesh: its sessions end.
    LeaveMesh(MeshId),
    /// A peer's candidates.
    Candidates(NodeCandidates),
    /// A relay channel to a peer.
    Ticket(RelayTicket),
    /// The relays that run now; all of them each time.
    Relays(Vec<RelayOffer>),
    /// A frame with the control magic (reflector, relay) reached the socket. Untrusted.
    Control {
        /// The sender as the socket saw it.
        from: SocketAddr,
        /// The datagram.
        bytes: &'a [u8],
    },
    /// WireGuard packets of the session were authenticated on that path: at once for the first ones of
    /// new keys, then at most every 100 ms per session and path.
    Authenticated {
        /// The session.
        session: SessionKey,
        /// Where they came from.
        via: Path,
        /// The job's packets were among them (not only keepalives, handshakes and probes).
        data: bool,
    },
    /// The job's packets were sent in the session: reported at most every 100 ms.
    Sent(SessionKey),
    /// A probe, opened by WireGuard: authentic, but from a peer that may lie.
    Probe {
        /// The session that it came in.
        session: SessionKey,
        /// Where it came from.
        via: Path,
        /// The inner packet, see [`wire::probe`](crate::wire::probe).
        bytes: &'a [u8],
    },
    /// The time that [`Node::next_wakeup`](crate::Node::next_wakeup) named has come.
    Wakeup,
}

/// Everything a [`Node`](crate::Node) can ask of its driver. Nothing is retried by the driver.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send that datagram. Loss is allowed.
    Transmit {
        /// To whom.
        to: SocketAddr,
        /// The whole datagram.
        bytes: Vec<u8>,
    },
    /// Make a WireGuard session; its peer may now send handshakes.
    AddSession {
        /// Its name.
        session: SessionKey,
        /// The peer's key in the mesh.
        peer_key: WireGuardKey,
        /// The peer's index in the mesh, which gives the inner addresses it may use.
        index: u16,
        /// This side starts the handshake (the lower [`NodeId`] does); the other only answers.
        initiator: bool,
        /// The two are not expected to talk: the handshake waits for the first packet, of either side.
        lazy: bool,
    },
    /// Forget a session and its keys.
    RemoveSession(SessionKey),
    /// Make a fresh WireGuard handshake initiation and send the same bytes on each of the paths.
    Initiate {
        /// The session.
        session: SessionKey,
        /// At least one.
        via: Vec<Path>,
    },
    /// Seal that inner packet in the session and send it on that path only.
    Probe {
        /// The session.
        session: SessionKey,
        /// The path on trial.
        via: Path,
        /// The inner packet.
        bytes: Vec<u8>,
    },
    /// Seal that inner packet in the session, and send it to `to` from the side socket of that number for that
    /// endpoint, which is opened if it is not there. When a packet from `to` that a session opens has come to one of
    /// them, everything for `to` leaves from that one.
    OpenPort {
        /// The session.
        session: SessionKey,
        /// The peer's endpoint.
        to: SocketAddr,
        /// From 0, one after the other; 256 at most.
        number: u16,
        /// The inner packet.
        bytes: Vec<u8>,
    },
    /// Close the side sockets for that endpoint.
    ClosePorts {
        /// The peer's endpoint.
        to: SocketAddr,
        /// Also the one that packets for it leave from.
        all: bool,
    },
    /// From now on the sessions with that peer transmit on `primary` (and, while it is in doubt, each
    /// packet also on `also`).
    UsePath {
        /// The peer.
        peer: NodeId,
        /// The selected path.
        primary: Path,
        /// A second path for the same sealed packets; the receiver's replay window drops the copies.
        also: Option<Path>,
    },
    /// Inner packets to that peer of at most so many bytes pass on the selected path, 1280 to
    /// [`MESH_MTU`](crate::wire::probe::MESH_MTU). Given on change only; before, it is the latter.
    RouteMtu {
        /// The peer.
        peer: NodeId,
        /// Bytes.
        mtu: usize,
    },
    /// Tell the coordinator this node's candidates.
    Announce(NodeCandidates),
    /// Tell the coordinator how far the relays are: those that answer, the home relay first.
    RelaysMeasured(Vec<MeasuredRelay>),
    /// Frames of full size pass on that path through a relay, or are not known to: then long packets travel in
    /// two parts ([`wire::relay::split`](crate::wire::relay::split)). Given on change only; before, they are
    /// not known to.
    RelayWidth {
        /// A relayed path.
        path: Path,
        /// Whether long packets may go whole.
        whole: bool,
    },
    /// Packets through that relay are not answered: it may be the way to it that has broken.
    RelaySilent(SocketAddr),
    /// A pair changed; the driver adds the byte counts and tells the coordinator.
    PairChanged(SessionKey, PairState),
}

/// What the node knows about a pair, without the byte counts that only the driver has.
///
/// The same fields as [`PairReport`], see there.
#[derive(Clone, Debug, PartialEq)]
pub struct PairState {
    /// See [`PairReport::established`].
    pub established: bool,
    /// See [`PairReport::settled`].
    pub settled: bool,
    /// The selected path.
    pub path: Option<Path>,
    /// See [`PairReport::rtt_us`].
    pub rtt_us: Option<u64>,
    /// See [`PairReport::established_after_ms`].
    pub established_after_ms: Option<u64>,
    /// See [`PairReport::explain`].
    pub explain: String,
    /// See [`PairReport::activity`].
    pub activity: Activity,
}

impl PairState {
    /// The report for the coordinator, with the byte counts of the data plane.
    pub fn report(&self, peer: NodeId, sent_bytes: u64, received_bytes: u64) -> PairReport {
        use crate::control::PathReport;
        PairReport {
            peer,
            established: self.established,
            settled: self.settled,
            path: match self.path {
                None => PathReport::None,
                Some(Path::Direct(endpoint)) => PathReport::Direct { endpoint },
                Some(Path::Relayed { relay, .. }) => PathReport::Relayed { relay },
            },
            rtt_us: self.rtt_us,
            sent_bytes,
            received_bytes,
            established_after_ms: self.established_after_ms,
            explain: self.explain.clone(),
            activity: self.activity,
        }
    }
}
