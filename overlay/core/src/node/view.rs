//! What a node tells about itself.

use std::net::SocketAddr;
use std::time::Duration;

use crate::io::PairState;
use crate::netmap::{NatTraits, NodeCandidates, ObservedMapping};
use crate::{MeshId, SessionKey};

/// Counters since the node was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Control frames that could not be read, or that nobody had asked for.
    pub control_refused: u64,
    /// Probes that could not be read, and pongs that nobody had asked for.
    pub probes_refused: u64,
    /// Endpoints of peers that were not worth a trial, or one too many.
    pub endpoints_refused: u64,
    /// Reports about sessions that this node does not have.
    pub unknown_sessions: u64,
    /// Netmaps that were too old, malformed, or of a mesh that this node has not joined.
    pub netmaps_refused: u64,
    /// Tickets that could not be read, and whatever was about one peer or mesh too many.
    pub orders_refused: u64,
    /// WireGuard initiations asked for.
    pub initiations: u64,
    /// Pings sent.
    pub pings_sent: u64,
    /// Pings that had to wait, since they would have asked the NAT for one mapping too many.
    pub pings_postponed: u64,
    /// Times that many ports were opened, for a peer to find one of them by chance.
    pub chances: u64,
    /// Times that this machine had stood still, or its clock had jumped.
    pub resumptions: u64,
    /// Times that a direct path was taken into use.
    pub promotions: u64,
    /// Times that a direct path was given up for the relay.
    pub demotions: u64,
    /// Timers that were still due after they had fired: a defect, to be reported.
    pub stalled_timers: u64,
}

/// What a node knows, for status output.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeView {
    /// The node's own candidates as last announced.
    pub candidates: Option<NodeCandidates>,
    /// What is known of the mapping behaviour of the NAT in front of it.
    pub mapping: ObservedMapping,
    /// What else is known of that NAT.
    pub nat: NatTraits,
    /// No reflector answers: UDP does not get through.
    pub udp_silent: bool,
    /// The relays that hold this node's channels by one keepalive, with their round trip times.
    pub relays: Vec<(SocketAddr, Option<Duration>)>,
    /// How far the relays are, the nearest first: that is this node's home relay.
    pub homes: Vec<(SocketAddr, Duration)>,
    /// NAT mappings that this node has asked for in the last ten seconds.
    pub new_mappings: usize,
    /// The meshes that it has joined, with the epoch of the netmap (0: none yet).
    pub meshes: Vec<(MeshId, u64)>,
    /// Every pair.
    pub pairs: Vec<(SessionKey, PairState)>,
    /// Counters.
    pub stats: Stats,
}
