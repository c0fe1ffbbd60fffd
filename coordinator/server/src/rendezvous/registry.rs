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
mod early;
mod fleet;
mod launch;
mod mesh;
mod nodes;
mod output;
mod report;
mod tell;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Instant;

use overlay_core::control::{CONTROL_VERSION, PairReport, ToCoordinator, ToNode};
use overlay_core::netmap::MAX_MEMBERS;
use overlay_core::{MemberKeys, MeshId, NodeId, Pattern};
use overlay_relay::Moment;
use rand::SeedableRng;
use rand::rngs::StdRng;

use self::channels::Channels;
use self::early::EarlyJoins;
use self::fleet::Fleet;
pub(in crate::rendezvous) use self::fleet::RelaySite;
pub use self::launch::{LaunchError, LaunchMember};
use self::mesh::{JoinOutcome, Mesh};
use self::nodes::Nodes;
pub(super) use self::output::Output;
pub use self::output::RendezvousEvent;
pub use self::report::{MemberView, MeshView, PairView};

/// What a node is told that asks to join a network which is not its own.
const NO_PART: &str = "this node has no part in that network";

/// Closed networks whose reports are kept. Chosen: the coordinator reads them within seconds.
const MAX_CLOSED: usize = 256;

/// Pair reports of closed networks that are kept, about 300 bytes each.
const MAX_CLOSED_PAIRS: usize = 65_536;

/// See the [module](self).
pub(super) struct Registry {
    fleet: Fleet,
    /// Of its netmaps: a later registry's count more, whatever their epochs.
    era: u64,
    rng: StdRng,
    nodes: Nodes,
    meshes: BTreeMap<MeshId, Mesh>,
    channels: Channels,
    early_joins: EarlyJoins,
    /// Oldest first.
    closed: VecDeque<MeshId>,
    outputs: Vec<Output>,
}

impl Registry {
    /// With the coordinator's own relay. `now` has to be later than the former registry's of the same
    /// networks.
    pub(super) fn new(now: Moment, relay: RelaySite, seed: [u8; 32]) -> Self {
        Self {
            fleet: Fleet::new(relay),
            era: now.unix_ms,
            rng: StdRng::from_seed(seed),
            nodes: Nodes::default(),
            meshes: BTreeMap::new(),
            channels: Channels::default(),
            early_joins: EarlyJoins::default(),
            closed: VecDeque::new(),
            outputs: Vec::new(),
        }
    }

    /// What is to be done, in this order. To be called after each other call.
    #[must_use]
    pub(super) fn drain(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// Announces a network that opens when the pairs of `pattern` have paths. The same launch announced again changes nothing.
    pub(super) fn launch(
        &mut self,
        now: Moment,
        mesh: MeshId,
        members: Vec<LaunchMember>,
        pattern: Pattern,
    ) -> Result<(), LaunchError> {
        if let Some(known) = self.meshes.get(&mesh) {
            let is_same = !known.is_closed() && known.is_launch_of(&members, pattern);
            return if is_same { Ok(()) } else { Err(LaunchError::Exists(mesh)) };
        }
        if !(1..=MAX_MEMBERS).contains(&members.len()) {
            return Err(LaunchError::Size(members.len()));
        }
        let nodes: Vec<_> = members.iter().map(|member| member.node).collect();
        self.meshes.insert(mesh, Mesh::new(members, pattern)?);
        for node in nodes {
            self.nodes.enter_mesh(node, mesh);
            if let Some(keys) = self.early_joins.take(node, mesh) {
                self.on_join(now, node, mesh, keys);
            }
        }
        for node in self.early_joins.end(mesh) {
            self.refuse(node, mesh, NO_PART);
        }
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

    /// A member has done its part of the job: its peers need not wonder about its silence.
    pub(super) fn part_ended(&mut self, mesh: MeshId, node: NodeId) {
        self.tell_of(mesh, node, true);
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
        self.early_joins.forget(node);
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

    /// A relay that runs alone is there, or announces itself anew. False: it is one too many.
    pub(super) fn handle_relay(&mut self, relay: NodeId, site: RelaySite) -> bool {
        let is_taken = self.fleet.enter(relay, site);
        if is_taken {
            self.tell_relays();
        }
        is_taken
    }

    /// It has ended, or cannot be heard any more.
    pub(super) fn handle_relay_gone(&mut self, relay: NodeId) {
        if self.fleet.leave(relay) {
            self.tell_relays();
        }
    }

    /// The relays that run alone, with their endpoints.
    pub(super) fn lone_relays(&self) -> Vec<(NodeId, Vec<SocketAddr>)> {
        self.fleet.lone().map(|(relay, site)| (relay, site.endpoints.clone())).collect()
    }

    fn tell_relays(&mut self) {
        for node in self.nodes.connected() {
            self.send_relays(node);
        }
        self.renew_relays(self.channels.pairs());
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
            ToCoordinator::JoinMesh { mesh, wireguard_key, host_key } => {
                let keys = MemberKeys { wireguard: wireguard_key, host: host_key };
                self.on_join(now, node, mesh, keys);
            }
            ToCoordinator::Pairs { mesh, pairs } => self.on_pairs(now, node, mesh, pairs),
            ToCoordinator::Relays { measured } => {
                self.nodes.set_relays(node, measured);
                self.renew_relays(self.channels.pairs_of(node));
            }
            ToCoordinator::LeaveMesh { mesh, pairs } => {
                self.on_pairs(now, node, mesh, pairs);
                self.early_joins.take(node, mesh);
                if self.meshes.get_mut(&mesh).is_some_and(|known| known.leave(node)) {
                    self.tell_of(mesh, node, true);
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
        for (node, mesh) in self.early_joins.end_due(now.instant) {
            self.refuse(node, mesh, NO_PART);
        }
        for pair in self.channels.renew_due(now) {
            self.send_tickets(pair.0, pair.1);
            self.send_tickets(pair.1, pair.0);
        }
    }

    /// When [`Registry::handle_wakeup`] has something to do.
    pub(super) fn next_wakeup(&self) -> Option<Instant> {
        let opening = self.meshes.values().filter_map(Mesh::opens_at).min();
        let early = self.early_joins.next_end();
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
        let mesh = self.meshes.get(&mesh);
        mesh.map(|mesh| report::blocking_nodes(mesh, &self.nodes)).unwrap_or_default()
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

    fn on_join(&mut self, now: Moment, node: NodeId, mesh_id: MeshId, keys: MemberKeys) {
        let Some(mesh) = self.meshes.get_mut(&mesh_id) else {
            if !self.early_joins.hold(now.instant, node, mesh_id, keys) {
                self.refuse(node, mesh_id, "too many requests to join unknown networks");
            }
            return;
        };
        let was_away = mesh.has_left(node);
        let outcome = mesh.join(node, keys);
        if was_away && !matches!(outcome, JoinOutcome::Refused(_)) {
            self.tell_of(mesh_id, node, false);
        }
        let Some(mesh) = self.meshes.get(&mesh_id) else { return };
        match outcome {
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
                    (others, mesh.netmap(mesh_id, self.era))
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
        let rtt = mesh.rtt();
        let members: Vec<_> = mesh.present().collect();
        for node in members {
            self.send(node, ToNode::MeshOpen { mesh: mesh_id, rtt: rtt.clone() });
        }
        self.outputs.push(Output::Event(RendezvousEvent::Open { mesh: mesh_id }));
    }

    fn forget_closed(&mut self) {
        let pairs = |id: &MeshId| self.meshes.get(id).map_or(0, Mesh::reported);
        let mut kept: usize = self.closed.iter().map(pairs).sum();
        while self.closed.len() > MAX_CLOSED || (kept > MAX_CLOSED_PAIRS && self.closed.len() > 1) {
            let Some(oldest) = self.closed.pop_front() else { return };
            kept -= self.meshes.remove(&oldest).map_or(0, |mesh| mesh.reported());
        }
    }
}

#[cfg(test)]
mod tests;
