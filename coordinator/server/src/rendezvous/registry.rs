//! Who is connected, which networks are being made, and what each node must be told.
//!
//! ```text
//!   launch ──▶ joining ──all members joined──▶ linking ──every pair works──▶ open ──close──▶ closed
//!                │                                │   (all settled, or 3 s)
//!                └── tickets, candidates, netmap ─┘
//! ```
//!
//! A synchronous value: moments and messages go in, [`Output`]s come out. A node may vanish at any
//! time; when it comes back and joins again it gets everything again, so nothing here waits for an
//! answer. The last networks that closed are kept for their reports.

mod channels;
mod mesh;
mod nodes;
mod report;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use overlay_core::control::{CONTROL_VERSION, PairReport, ToCoordinator, ToNode};
use overlay_core::netmap::MAX_MEMBERS;
use overlay_core::wire::format_hex;
use overlay_core::{MeshId, NodeId, WireGuardKey};
use overlay_relay::{Moment, RelayKeys, reflector_token};
use rand::SeedableRng;
use rand::rngs::StdRng;

use self::channels::Channels;
use self::mesh::{JoinOutcome, Mesh};
use self::nodes::Nodes;
pub use self::report::{MemberView, MeshView, PairView};

/// How long a node's request to join waits for a launch that is not known yet: the node may hear of
/// its job a moment before the scheduler announces the launch here. Chosen.
const JOIN_PATIENCE: Duration = Duration::from_secs(5);

/// Such requests of one node.
const MAX_EARLY_JOINS: usize = 16;

/// Closed networks whose reports are kept. Chosen: the coordinator reads them within seconds.
const MAX_CLOSED: usize = 256;

/// Pair reports of closed networks that are kept, about 300 bytes each.
const MAX_CLOSED_PAIRS: usize = 65_536;

/// A member of a launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchMember {
    /// The node.
    pub node: NodeId,
    /// Its OAR host name.
    pub name: String,
}

/// A launch that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// The same launch was announced with other members, or has been closed.
    #[error("{0} exists already: launch it with a new generation")]
    Exists(MeshId),
    /// A network has 1 to [`MAX_MEMBERS`] members.
    #[error("a network cannot have {0} members: choose 1 to {MAX_MEMBERS}")]
    Size(usize),
    /// A node is named twice.
    #[error("{0:?} is named twice: give each node one rank")]
    Duplicate(NodeId),
}

/// What the coordinator is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RendezvousEvent {
    /// Every pair has a path: the job may start.
    Open {
        /// The network.
        mesh: MeshId,
    },
    /// A member left; its reports are final.
    Left {
        /// The network.
        mesh: MeshId,
        /// The member.
        node: NodeId,
    },
    /// A node's control connection is up.
    Connected(NodeId),
    /// It has ended.
    Disconnected(NodeId),
}

/// What the shell must do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Output {
    /// Send to a connected node.
    Send(NodeId, ToNode),
    /// Close a node's connection with that reason.
    Disconnect(NodeId, String),
    /// Tell the coordinator.
    Event(RendezvousEvent),
}

/// The relay that all channels use.
pub(super) struct RelayAccess {
    pub(super) keys: RelayKeys,
    /// Its public endpoints, at least one; a node is told one of its own address family.
    pub(super) endpoints: Vec<SocketAddr>,
}

/// See the [module](self).
pub(super) struct Registry {
    relay: RelayAccess,
    rng: StdRng,
    nodes: Nodes,
    meshes: BTreeMap<MeshId, Mesh>,
    channels: Channels,
    early_joins: BTreeMap<(NodeId, MeshId), EarlyJoin>,
    /// Oldest first.
    closed: VecDeque<MeshId>,
    outputs: Vec<Output>,
}

struct EarlyJoin {
    key: WireGuardKey,
    until: Instant,
}

impl Registry {
    pub(super) fn new(relay: RelayAccess, seed: [u8; 32]) -> Self {
        Self {
            relay,
            rng: StdRng::from_seed(seed),
            nodes: Nodes::default(),
            meshes: BTreeMap::new(),
            channels: Channels::default(),
            early_joins: BTreeMap::new(),
            closed: VecDeque::new(),
            outputs: Vec::new(),
        }
    }

    /// What is to be done, in this order. To be called after each other call.
    #[must_use]
    pub(super) fn drain(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// Announces a network. The same launch announced again changes nothing.
    pub(super) fn launch(
        &mut self,
        now: Moment,
        mesh: MeshId,
        members: Vec<LaunchMember>,
    ) -> Result<(), LaunchError> {
        if let Some(known) = self.meshes.get(&mesh) {
            let is_same = !known.is_closed() && known.has_members(&members);
            return if is_same { Ok(()) } else { Err(LaunchError::Exists(mesh)) };
        }
        if !(1..=MAX_MEMBERS).contains(&members.len()) {
            return Err(LaunchError::Size(members.len()));
        }
        let nodes: Vec<_> = members.iter().map(|member| member.node).collect();
        self.meshes.insert(mesh, Mesh::new(members)?);
        for node in nodes {
            self.nodes.enter_mesh(node, mesh);
            if let Some(early) = self.early_joins.remove(&(node, mesh)) {
                self.on_join(now, node, mesh, early.key);
            }
        }
        self.end_early_joins(|_, early_mesh, _| early_mesh == mesh);
        Ok(())
    }

    /// Ends a network: its members are told, its reports are kept for a while.
    pub(super) fn close(&mut self, mesh_id: MeshId, reason: &str) {
        let Some(mesh) = self.meshes.get_mut(&mesh_id).filter(|mesh| !mesh.is_closed()) else {
            return;
        };
        mesh.close(reason);
        let members: Vec<_> = mesh.present().collect();
        for node in mesh.nodes() {
            self.nodes.leave_mesh(node, mesh_id);
        }
        for node in members {
            self.send(node, ToNode::MeshClosed { mesh: mesh_id, reason: reason.to_owned() });
        }
        self.channels.release(mesh_id);
        self.closed.push_back(mesh_id);
        self.forget_closed();
    }

    /// A node's connection is up; a former one of the same node has ended by that.
    pub(super) fn handle_connected(&mut self, node: NodeId, observed: SocketAddr) {
        self.nodes.connect(node, observed);
    }

    /// A node's connection has ended.
    pub(super) fn handle_disconnected(&mut self, node: NodeId) {
        if self.nodes.disconnect(node) {
            self.outputs.push(Output::Event(RendezvousEvent::Disconnected(node)));
        }
        self.early_joins.retain(|(waiting, _), _| *waiting != node);
    }

    /// A connected node's packets come from another endpoint now.
    pub(super) fn handle_roamed(&mut self, node: NodeId, observed: SocketAddr) {
        if self.nodes.roam(node, observed) {
            self.welcome(node, observed);
        }
    }

    /// Ends a node's connection.
    pub(super) fn revoke(&mut self, node: NodeId) {
        if self.nodes.is_connected(node) {
            self.outputs.push(Output::Disconnect(node, "this node was revoked".to_owned()));
        }
    }

    /// A message of a connected node.
    pub(super) fn handle_message(&mut self, now: Moment, node: NodeId, message: ToCoordinator) {
        if let ToCoordinator::Hello { version, software } = message {
            self.on_hello(node, version, &software);
            return;
        }
        if !self.nodes.is_connected(node) {
            self.outputs.push(Output::Disconnect(node, "the first message is `hello`".to_owned()));
            return;
        }
        match message {
            ToCoordinator::Hello { .. } => {}
            ToCoordinator::Candidates(candidates) => {
                let Some(changed) = self.nodes.set_candidates(now, node, candidates) else {
                    return;
                };
                for peer in self.peers(node) {
                    self.send(peer, ToNode::Candidates(changed.clone()));
                }
            }
            ToCoordinator::JoinMesh { mesh, wireguard_key } => {
                self.on_join(now, node, mesh, wireguard_key);
            }
            ToCoordinator::Pairs { mesh, pairs } => self.on_pairs(now, node, mesh, pairs),
            ToCoordinator::LeaveMesh { mesh, pairs } => {
                self.on_pairs(now, node, mesh, pairs);
                self.early_joins.remove(&(node, mesh));
                if self.meshes.get_mut(&mesh).is_some_and(|known| known.leave(node)) {
                    self.outputs.push(Output::Event(RendezvousEvent::Left { mesh, node }));
                }
            }
        }
    }

    /// Does what is due.
    pub(super) fn handle_wakeup(&mut self, now: Moment) {
        let due: Vec<_> = self
            .meshes
            .iter()
            .filter(|(_, mesh)| mesh.opens_at().is_some_and(|at| at <= now.instant))
            .map(|(id, _)| *id)
            .collect();
        for mesh in due {
            self.open(now, mesh);
        }
        self.end_early_joins(|_, _, until| until <= now.instant);
        for pair in self.channels.renew_due(now) {
            self.send_ticket(pair.0, pair.1);
            self.send_ticket(pair.1, pair.0);
        }
    }

    /// When [`Registry::handle_wakeup`] has something to do.
    pub(super) fn next_wakeup(&self) -> Option<Instant> {
        let opening = self.meshes.values().filter_map(Mesh::opens_at).min();
        let early = self.early_joins.values().map(|early| early.until).min();
        [opening, early, self.channels.next_renewal()].into_iter().flatten().min()
    }

    /// Whether a node's connection is up.
    pub(super) fn is_connected(&self, node: NodeId) -> bool {
        self.nodes.is_connected(node)
    }

    /// A network as it stands, or stood when it closed.
    pub(super) fn view(&self, mesh: MeshId) -> Option<MeshView> {
        self.meshes.get(&mesh).map(|mesh| report::view(mesh, &self.nodes))
    }

    /// Why a network is not open, for people; empty when it is.
    pub(super) fn blockers(&self, mesh: MeshId) -> String {
        match self.meshes.get(&mesh) {
            Some(mesh) => report::blockers(mesh, &self.nodes),
            None => "the job's network is not known".to_owned(),
        }
    }

    /// The nodes that keep a network from opening, where they can be told from the others.
    pub(super) fn blocking_nodes(&self, mesh: MeshId) -> Vec<NodeId> {
        self.meshes.get(&mesh).map(report::blocking_nodes).unwrap_or_default()
    }

    fn on_hello(&mut self, node: NodeId, version: u16, software: &str) {
        if version != CONTROL_VERSION {
            let reason = format!(
                "this coordinator speaks version {CONTROL_VERSION} of the control protocol, not {version}"
            );
            self.outputs.push(Output::Disconnect(node, reason));
            return;
        }
        let software: String = software.chars().filter(|c| !c.is_control()).take(64).collect();
        tracing::debug!(%node, %software, "hello");
        let Some((observed, is_first)) = self.nodes.greet(node) else { return };
        self.welcome(node, observed);
        if is_first {
            self.outputs.push(Output::Event(RendezvousEvent::Connected(node)));
        }
    }

    fn on_join(&mut self, now: Moment, node: NodeId, mesh_id: MeshId, key: WireGuardKey) {
        let Some(mesh) = self.meshes.get_mut(&mesh_id) else {
            let waiting = self.early_joins.keys().filter(|(waiting, _)| *waiting == node).count();
            if waiting < MAX_EARLY_JOINS || self.early_joins.contains_key(&(node, mesh_id)) {
                let until = now.instant + JOIN_PATIENCE;
                self.early_joins.insert((node, mesh_id), EarlyJoin { key, until });
            } else {
                self.refuse(node, mesh_id, "too many requests to join unknown networks");
            }
            return;
        };
        match mesh.join(node, key) {
            JoinOutcome::Refused(reason) => self.refuse(node, mesh_id, &reason),
            JoinOutcome::Waiting => {}
            JoinOutcome::Complete => {
                let nodes: Vec<_> = mesh.nodes().collect();
                for (index, lower) in nodes.iter().enumerate() {
                    for higher in &nodes[index + 1..] {
                        self.channels.acquire(now, &mut self.rng, (*lower, *higher), mesh_id);
                    }
                }
                for node in nodes {
                    self.send_all(node, mesh_id);
                }
                self.open_if_ready(now, mesh_id);
            }
            JoinOutcome::Again => self.send_all(node, mesh_id),
            JoinOutcome::NewKey => {
                self.send_all(node, mesh_id);
                let others = self.meshes.get(&mesh_id).map(|mesh| {
                    let others: Vec<_> = mesh.present().filter(|peer| *peer != node).collect();
                    (others, mesh.netmap(mesh_id))
                });
                if let Some((others, Some(netmap))) = others {
                    for peer in others {
                        self.send(peer, ToNode::Netmap(netmap.clone()));
                    }
                }
            }
        }
    }

    fn on_pairs(&mut self, now: Moment, node: NodeId, mesh: MeshId, pairs: Vec<PairReport>) {
        if let Some(known) = self.meshes.get_mut(&mesh) {
            known.report(now, node, pairs);
            self.open_if_ready(now, mesh);
        }
    }

    fn open_if_ready(&mut self, now: Moment, mesh_id: MeshId) {
        if self.meshes.get(&mesh_id).is_some_and(|mesh| mesh.is_ready(now.instant)) {
            self.open(now, mesh_id);
        }
    }

    fn open(&mut self, now: Moment, mesh_id: MeshId) {
        let Some(mesh) = self.meshes.get_mut(&mesh_id) else { return };
        mesh.open(now);
        let members: Vec<_> = mesh.present().collect();
        for node in members {
            self.send(node, ToNode::MeshOpen { mesh: mesh_id });
        }
        self.outputs.push(Output::Event(RendezvousEvent::Open { mesh: mesh_id }));
    }

    /// Everything that a member must know, in the order in which it needs it.
    fn send_all(&mut self, node: NodeId, mesh_id: MeshId) {
        let Some(mesh) = self.meshes.get(&mesh_id) else { return };
        let Some(netmap) = mesh.netmap(mesh_id) else { return };
        let is_open = mesh.opened_at_ms().is_some();
        let peers: Vec<_> = mesh.nodes().filter(|peer| *peer != node).collect();
        for peer in &peers {
            self.send_ticket(node, *peer);
        }
        for peer in peers {
            if let Some(candidates) = self.nodes.candidates(peer).cloned() {
                self.send(node, ToNode::Candidates(candidates));
            }
        }
        self.send(node, ToNode::Netmap(netmap));
        if is_open {
            self.send(node, ToNode::MeshOpen { mesh: mesh_id });
        }
    }

    fn send_ticket(&mut self, node: NodeId, peer: NodeId) {
        let relay = self.endpoint_for(node);
        if let Some(ticket) = self.channels.ticket(&self.relay.keys, relay, node, peer) {
            self.send(node, ToNode::Ticket(ticket));
        }
    }

    fn welcome(&mut self, node: NodeId, observed: SocketAddr) {
        let reflector = self.endpoint_for(node);
        let reflector_token = format_hex(&reflector_token(&self.relay.keys, node));
        self.send(node, ToNode::Welcome { observed, reflector, reflector_token });
    }

    /// The relay's endpoint that a node can reach: one of the family that it reached us by.
    fn endpoint_for(&self, node: NodeId) -> SocketAddr {
        let observed = self.nodes.observed(node);
        let is_reachable =
            |endpoint: &&SocketAddr| observed.is_none_or(|o| o.is_ipv4() == endpoint.is_ipv4());
        let endpoints = &self.relay.endpoints;
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        let chosen = endpoints.iter().find(is_reachable).or(endpoints.first());
        chosen.copied().unwrap_or(unspecified)
    }

    /// The nodes that know of `node` by a netmap.
    fn peers(&self, node: NodeId) -> Vec<NodeId> {
        let meshes = self.nodes.meshes(node).filter_map(|mesh| self.meshes.get(&mesh));
        let issued = meshes.filter(|mesh| mesh.is_issued() && mesh.present().any(|n| n == node));
        let mut peers: Vec<_> =
            issued.flat_map(Mesh::present).filter(|peer| *peer != node).collect();
        peers.sort_unstable();
        peers.dedup();
        peers
    }

    fn refuse(&mut self, node: NodeId, mesh: MeshId, reason: &str) {
        self.send(node, ToNode::MeshClosed { mesh, reason: reason.to_owned() });
    }

    fn end_early_joins(&mut self, is_over: impl Fn(NodeId, MeshId, Instant) -> bool) {
        let over =
            self.early_joins.iter().filter(|((node, mesh), e)| is_over(*node, *mesh, e.until));
        let over: Vec<_> = over.map(|(key, _)| *key).collect();
        for (node, mesh) in over {
            self.early_joins.remove(&(node, mesh));
            self.refuse(node, mesh, "this node has no part in that network");
        }
    }

    fn forget_closed(&mut self) {
        let pairs = |id: &MeshId| self.meshes.get(id).map_or(0, Mesh::reported);
        let mut kept: usize = self.closed.iter().map(pairs).sum();
        while self.closed.len() > MAX_CLOSED || (kept > MAX_CLOSED_PAIRS && self.closed.len() > 1) {
            let Some(oldest) = self.closed.pop_front() else { return };
            kept -= self.meshes.remove(&oldest).map_or(0, |mesh| mesh.reported());
        }
    }

    fn send(&mut self, node: NodeId, message: ToNode) {
        if self.nodes.is_connected(node) {
            self.outputs.push(Output::Send(node, message));
        }
    }
}

#[cfg(test)]
mod tests;
