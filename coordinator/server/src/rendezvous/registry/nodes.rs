//! The nodes: connected or not, how they are seen, what they offer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use overlay_core::netmap::{MAX_CANDIDATES, MAX_RELAYS};
use overlay_core::{Candidate, MeasuredRelay, MeshId, NodeCandidates, NodeId};
use overlay_relay::Moment;

#[derive(Default)]
struct Node {
    link: Link,
    /// The coordinator takes it for connected. A connection that replaces another is no news.
    is_announced: bool,
    observed: Option<SocketAddr>,
    /// The last sequence that the node gave on this connection; it may start anew on the next.
    received_sequence: Option<u64>,
    candidates: Option<NodeCandidates>,
    /// The relays that it has measured, its home relay first.
    relays: Vec<MeasuredRelay>,
    meshes: BTreeSet<MeshId>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Link {
    #[default]
    Down,
    /// Connected, but it has not said hello.
    Silent,
    Up,
}

/// All nodes that are connected or members of a network.
#[derive(Default)]
pub(super) struct Nodes(BTreeMap<NodeId, Node>);

impl Nodes {
    pub(super) fn connect(&mut self, id: NodeId, observed: SocketAddr) {
        let node = self.0.entry(id).or_default();
        node.link = Link::Silent;
        node.observed = Some(observed);
        node.received_sequence = None;
    }

    /// Whether the coordinator took the node for connected.
    pub(super) fn disconnect(&mut self, id: NodeId) -> bool {
        let Some(node) = self.0.get_mut(&id) else { return false };
        node.link = Link::Down;
        let was_announced = std::mem::take(&mut node.is_announced);
        self.forget_unused(id);
        was_announced
    }

    /// Notes the hello of a node: how it is seen, and whether it is the first since it was down.
    pub(super) fn greet(&mut self, id: NodeId) -> Option<(SocketAddr, bool)> {
        let node = self.0.get_mut(&id).filter(|node| node.link != Link::Down)?;
        node.link = Link::Up;
        let is_first = !std::mem::replace(&mut node.is_announced, true);
        node.observed.map(|observed| (observed, is_first))
    }

    /// Whether that changed how a greeted node is seen.
    pub(super) fn roam(&mut self, id: NodeId, observed: SocketAddr) -> bool {
        let node = self.0.get_mut(&id).filter(|node| node.link != Link::Down);
        node.is_some_and(|node| {
            let changed = node.observed.replace(observed) != Some(observed);
            changed && node.link == Link::Up
        })
    }

    pub(super) fn is_connected(&self, id: NodeId) -> bool {
        self.0.get(&id).is_some_and(|node| node.link == Link::Up)
    }

    pub(super) fn observed(&self, id: NodeId) -> Option<SocketAddr> {
        self.0.get(&id)?.observed
    }

    pub(super) fn candidates(&self, id: NodeId) -> Option<&NodeCandidates> {
        self.0.get(&id)?.candidates.as_ref()
    }

    /// Takes a node's candidates; the form for its peers if that is news.
    ///
    /// Peers get a sequence of the coordinator's own, from its calendar: a node that was started
    /// anew counts from the beginning again, and its peers would take its news for old.
    pub(super) fn set_candidates(
        &mut self,
        now: Moment,
        id: NodeId,
        received: NodeCandidates,
    ) -> Option<NodeCandidates> {
        let node = self.0.get_mut(&id)?;
        if node.received_sequence.is_some_and(|last| received.sequence <= last) {
            return None;
        }
        node.received_sequence = Some(received.sequence);
        let candidates: Vec<_> =
            received.candidates.iter().copied().filter(is_usable).take(MAX_CANDIDATES).collect();
        let known = node.candidates.as_ref();
        let after_last = known.map_or(0, |known| known.sequence + 1);
        let sequence = now.unix_ms.max(after_last);
        let news = NodeCandidates { node: id, sequence, candidates, ..received };
        if known.is_some_and(|known| {
            *known == NodeCandidates { sequence: known.sequence, ..news.clone() }
        }) {
            return None;
        }
        node.candidates = Some(news.clone());
        Some(news)
    }

    /// What that node has measured of the relays.
    pub(super) fn set_relays(&mut self, id: NodeId, mut measured: Vec<MeasuredRelay>) {
        measured.truncate(MAX_RELAYS);
        if let Some(node) = self.0.get_mut(&id) {
            node.relays = measured;
        }
    }

    /// The same; empty before it has said so.
    pub(super) fn relays(&self, id: NodeId) -> &[MeasuredRelay] {
        self.0.get(&id).map_or(&[], |node| &node.relays)
    }

    /// The nodes that are connected.
    pub(super) fn connected(&self) -> Vec<NodeId> {
        let up = self.0.iter().filter(|(_, node)| node.link == Link::Up);
        up.map(|(id, _)| *id).collect()
    }

    pub(super) fn enter_mesh(&mut self, id: NodeId, mesh: MeshId) {
        self.0.entry(id).or_default().meshes.insert(mesh);
    }

    pub(super) fn leave_mesh(&mut self, id: NodeId, mesh: MeshId) {
        if let Some(node) = self.0.get_mut(&id) {
            node.meshes.remove(&mesh);
            self.forget_unused(id);
        }
    }

    pub(super) fn meshes(&self, id: NodeId) -> impl Iterator<Item = MeshId> {
        self.0.get(&id).into_iter().flat_map(|node| node.meshes.iter().copied())
    }

    fn forget_unused(&mut self, id: NodeId) {
        if self.0.get(&id).is_some_and(|node| node.link == Link::Down && node.meshes.is_empty()) {
            self.0.remove(&id);
        }
    }
}

/// An endpoint that a peer could send to at all. Private addresses are fine: peers may share a LAN.
fn is_usable(candidate: &Candidate) -> bool {
    let ip = candidate.endpoint.ip();
    candidate.endpoint.port() != 0 && !ip.is_unspecified() && !ip.is_multicast()
}
