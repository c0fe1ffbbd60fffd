//! Requests to join a network that is not known yet.
//!
//! A node may hear of its job a moment before the scheduler announces the launch here.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use overlay_core::{MemberKeys, MeshId, NodeId};

/// How long such a request waits. Chosen: long enough for a busy coordinator, far below the deadline
/// of a launch.
const PATIENCE: Duration = Duration::from_secs(5);

/// Such requests of one node.
const MAX_OF_NODE: usize = 16;

#[derive(Default)]
pub(super) struct EarlyJoins(BTreeMap<(NodeId, MeshId), EarlyJoin>);

struct EarlyJoin {
    keys: MemberKeys,
    until: Instant,
}

impl EarlyJoins {
    /// Keeps a request, unless the node has too many.
    pub(super) fn hold(
        &mut self,
        now: Instant,
        node: NodeId,
        mesh: MeshId,
        keys: MemberKeys,
    ) -> bool {
        let held = self.0.keys().filter(|(waiting, _)| *waiting == node).count();
        if held >= MAX_OF_NODE && !self.0.contains_key(&(node, mesh)) {
            return false;
        }
        self.0.insert((node, mesh), EarlyJoin { keys, until: now + PATIENCE });
        true
    }

    /// The keys that the node asked with.
    pub(super) fn take(&mut self, node: NodeId, mesh: MeshId) -> Option<MemberKeys> {
        self.0.remove(&(node, mesh)).map(|early| early.keys)
    }

    /// Ends what waits for `mesh`, and says whose requests those are.
    pub(super) fn end(&mut self, mesh: MeshId) -> Vec<NodeId> {
        self.0.extract_if(.., |(_, waited), _| *waited == mesh).map(|((node, _), _)| node).collect()
    }

    /// Ends what has waited for too long.
    pub(super) fn end_due(&mut self, now: Instant) -> Vec<(NodeId, MeshId)> {
        self.0.extract_if(.., |_, early| early.until <= now).map(|(key, _)| key).collect()
    }

    /// Ends what a node asked for, now that it cannot be answered any more.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.0.retain(|(waiting, _), _| *waiting != node);
    }

    pub(super) fn next_end(&self) -> Option<Instant> {
        self.0.values().map(|early| early.until).min()
    }
}
