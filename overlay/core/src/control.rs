//! The control protocol between a node and the coordinator's rendezvous.
//!
//! One bidirectional QUIC stream per connection, opened by the node (ALPN [`ALPN`], mutual TLS: the
//! node's certificate carries its Ed25519 key). Each message is a big-endian `u32` length followed by
//! that many bytes of JSON. A message longer than [`MAX_MESSAGE`] ends the connection.
//! The node speaks first: [`ToCoordinator::Hello`]. After a reconnection the node sends `Hello`,
//! `Candidates` and a `JoinMesh` for each mesh that it is in, and the coordinator sends the current
//! state again; every message may therefore arrive twice.

pub mod codec;
pub mod relays;

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::ids::{HostKey, MeshId, NodeId, WireGuardKey};
use crate::netmap::{Activity, MeasuredRelay, Netmap, NodeCandidates, RelayOffer, RelayTicket};
use crate::rtt::RttTable;

/// The ALPN of the control protocol, version 1.
pub const ALPN: &[u8] = b"clouds-at-home/control/1";

/// The version in [`ToCoordinator::Hello`].
pub const CONTROL_VERSION: u16 = 1;

/// The longest message: a netmap of [`MAX_MEMBERS`](crate::netmap::MAX_MEMBERS) members is about 310 kB.
pub const MAX_MESSAGE: usize = 512 * 1024;

/// What a node says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToCoordinator {
    /// The first message of a connection.
    Hello {
        /// [`CONTROL_VERSION`]; the coordinator closes a connection whose version it does not speak.
        version: u16,
        /// Name and version of the program, for people.
        software: String,
    },
    /// The node's candidates, whenever they change.
    Candidates(NodeCandidates),
    /// The node has a job's network namespace ready and asks for its netmap.
    JoinMesh {
        /// The mesh of a job that is assigned to this node.
        mesh: MeshId,
        /// The public key that the node made for this mesh.
        wireguard_key: WireGuardKey,
        /// The other public key that it made for this mesh, for the programs there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host_key: Option<HostKey>,
    },
    /// How a mesh's pairs stand, as this node sees them: on every change, at most once in 200 ms.
    Pairs {
        /// The mesh.
        mesh: MeshId,
        /// One entry per peer.
        pairs: Vec<PairReport>,
    },
    /// The node leaves the mesh; the report is final.
    LeaveMesh {
        /// The mesh.
        mesh: MeshId,
        /// One entry per peer.
        pairs: Vec<PairReport>,
    },
    /// The relays that answer, whenever their order changes: the first one is the node's home relay.
    Relays {
        /// The nearest first; at most [`MAX_RELAYS`](crate::netmap::MAX_RELAYS).
        measured: Vec<MeasuredRelay>,
    },
}

/// What the coordinator says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum ToNode {
    /// The answer to `Hello`.
    Welcome {
        /// The node's endpoint as the coordinator's QUIC socket sees it: its reflexive candidate.
        observed: SocketAddr,
        /// A second port that answers reflect requests, to learn the mapping behaviour.
        reflector: SocketAddr,
        /// Shown to the reflector, which answers nobody else. Hexadecimal, 16 bytes.
        reflector_token: String,
        /// The same reflector in the other family of addresses: a node that has both is seen in both.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        other_reflector: Option<SocketAddr>,
    },
    /// The members of a mesh.
    Netmap(Netmap),
    /// The candidates of a peer.
    Candidates(NodeCandidates),
    /// A relay channel to a peer. Sent before the netmap that names the peer.
    Ticket(RelayTicket),
    /// The relays that run now: the node measures how far they are. One that is missing has ended, and
    /// a channel there is forgotten when it falls silent.
    Relays {
        /// At most [`MAX_RELAYS`](crate::netmap::MAX_RELAYS), each at an endpoint that the node can reach.
        relays: Vec<RelayOffer>,
    },
    /// Every pair that the mesh waits for has a working path: the job may start.
    MeshOpen {
        /// The mesh.
        mesh: MeshId,
        /// What its pairs have measured by now.
        #[serde(default)]
        rtt: RttTable,
    },
    /// A member's part of the job has ended, or it is back.
    Member {
        /// The mesh.
        mesh: MeshId,
        /// The member.
        node: NodeId,
        /// Nothing more is to be expected of it.
        ended: bool,
    },
    /// The node is not, or no longer, part of that mesh.
    MeshClosed {
        /// The mesh.
        mesh: MeshId,
        /// Why, for people.
        reason: String,
    },
}

/// How one pair of a mesh stands, as seen by the node that reports it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PairReport {
    /// The node at the other end.
    pub peer: NodeId,
    /// The WireGuard session has carried an authenticated packet.
    pub established: bool,
    /// The search for a direct path has ended for now: either way, nothing better is expected soon.
    pub settled: bool,
    /// The path in use.
    pub path: PathReport,
    /// Smoothed round trip time on that path, microseconds; none before the first measurement.
    pub rtt_us: Option<u64>,
    /// Bytes of IP packets that the job sent to the peer, counted where they leave `mesh0`.
    pub sent_bytes: u64,
    /// Bytes of IP packets from the peer, counted where they enter `mesh0`.
    pub received_bytes: u64,
    /// Time from joining the mesh to the first authenticated packet of the pair, milliseconds.
    pub established_after_ms: Option<u64>,
    /// One sentence for people that says why the pair is relayed; empty when it is direct.
    #[serde(default)]
    pub explain: String,
    /// What the peer's owner lets its jobs do there, as this node was told.
    #[serde(default, skip_serializing_if = "Activity::is_working")]
    pub activity: Activity,
}

/// The path of a [`PairReport`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum PathReport {
    /// No path works yet.
    None,
    /// UDP straight to the peer's endpoint.
    Direct {
        /// Where the peer's packets come from.
        endpoint: SocketAddr,
    },
    /// Through a relay.
    Relayed {
        /// The relay's endpoint.
        relay: SocketAddr,
    },
}
