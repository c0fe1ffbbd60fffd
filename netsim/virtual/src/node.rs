//! A node of a world: the overlay's core, and what its driver would keep.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use netsim_sim::{HostId, WakeupGuard};
use overlay_core::{Node, NodeCandidates, NodeId, PairState, Path, SessionKey, WireGuardKey};

use crate::session::{Selected, Session};

/// A node, and what was seen of it.
#[derive(Debug)]
pub struct VirtualNode {
    /// The overlay's core. Inputs go through [`crate::World::input`], which carries out the outputs.
    pub node: Node,
    /// Its name.
    pub id: NodeId,
    /// Its machine.
    pub host: HostId,
    /// Its coordinator.
    pub server: usize,
    /// Every pair as last reported.
    pub pairs: BTreeMap<SessionKey, PairState>,
    /// Every change of a pair, with its time.
    pub history: Vec<(Duration, SessionKey, PairState)>,
    /// The numbers of the job's packets that have arrived.
    pub received: BTreeMap<SessionKey, BTreeSet<u64>>,
    /// How many initiations the core has asked for.
    pub initiated: BTreeMap<SessionKey, usize>,
    /// The sessions that were removed.
    pub removed: Vec<SessionKey>,
    /// The inner MTU towards peers where it was told.
    pub route_mtus: BTreeMap<NodeId, usize>,
    /// The relays that answer, as last reported: the home relay first.
    pub nearest: Vec<NodeId>,
    /// As last announced.
    pub candidates: Option<NodeCandidates>,
    /// Bytes of [`crate::wireguard::Inner::Bulk`] that have arrived.
    pub bulk: BTreeMap<SessionKey, u64>,
    /// Whether the coordinator has answered since it connected.
    pub welcomed: bool,
    /// How often it has lost its power.
    pub(crate) life: u64,
    /// The number of its last control connection.
    pub(crate) attempt: u32,
    /// It was moved while it stood still, and has not noticed yet.
    pub(crate) moved_asleep: bool,
    pub(crate) key: WireGuardKey,
    pub(crate) sessions: BTreeMap<SessionKey, Session>,
    pub(crate) paths: BTreeMap<NodeId, Selected>,
    /// The port that packets for an endpoint leave from, where it is not the usual one.
    pub(crate) side_port: BTreeMap<SocketAddr, u16>,
    /// The relay's channel to each peer.
    pub(crate) channels: BTreeMap<NodeId, Path>,
    pub(crate) guard: WakeupGuard,
}

impl VirtualNode {
    pub(crate) fn new(node: Node, id: NodeId, host: HostId, server: usize) -> Self {
        Self {
            node,
            id,
            host,
            server,
            pairs: BTreeMap::new(),
            history: Vec::new(),
            received: BTreeMap::new(),
            initiated: BTreeMap::new(),
            removed: Vec::new(),
            route_mtus: BTreeMap::new(),
            nearest: Vec::new(),
            candidates: None,
            bulk: BTreeMap::new(),
            welcomed: false,
            life: 0,
            attempt: 0,
            moved_asleep: false,
            key: WireGuardKey(id.0),
            sessions: BTreeMap::new(),
            paths: BTreeMap::new(),
            side_port: BTreeMap::new(),
            channels: BTreeMap::new(),
            guard: WakeupGuard::default(),
        }
    }
}
