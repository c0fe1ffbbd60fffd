//! What the data plane wants the coordinator to know: the latest state, not a queue of changes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use overlay_core::control::PairReport;
use overlay_core::{MeasuredRelay, MemberKeys, MeshId, NodeCandidates};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

/// Final reports that may wait for a connection. Chosen: more meshes than a node has at a time.
const MAX_LEFT: usize = 64;

/// How often a shutdown looks whether the final reports were taken.
const DRAIN_INTERVAL: Duration = Duration::from_millis(5);

/// The state that the control session keeps the coordinator informed of.
///
/// The data plane writes and goes on; nothing grows while the coordinator is away.
#[derive(Default)]
pub(crate) struct Board {
    state: Mutex<BoardState>,
    changed: Notify,
}

/// What is on the board.
#[derive(Default)]
pub(crate) struct BoardState {
    /// The node's candidates as last announced.
    pub(crate) candidates: Option<NodeCandidates>,
    /// The relays in the order of their distance, and how often that has changed.
    pub(crate) relays: (u64, Vec<MeasuredRelay>),
    /// The meshes that the node is in.
    pub(crate) meshes: BTreeMap<MeshId, JoinedMesh>,
    /// The final reports of meshes that the node has left.
    pub(crate) left: VecDeque<(MeshId, Vec<PairReport>)>,
}

/// A mesh that the node is in.
pub(crate) struct JoinedMesh {
    /// The node's keys in it.
    pub(crate) keys: MemberKeys,
    /// How its pairs stand, in the order of the peers.
    pub(crate) pairs: Vec<PairReport>,
    /// Grows with every change of `pairs`.
    pub(crate) revision: u64,
}

impl Board {
    /// Writes on the board and tells the reader.
    pub(crate) fn update(&self, change: impl FnOnce(&mut BoardState)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }

    /// Reads the board.
    pub(crate) fn lock(&self) -> MutexGuard<'_, BoardState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until every final report was taken; at once when there is nobody to take them.
    pub(crate) async fn drained(&self, connected: &watch::Receiver<bool>) {
        while *connected.borrow() && !self.lock().left.is_empty() {
            sleep(DRAIN_INTERVAL).await;
        }
    }

    /// Waits for the next change. A change that nobody waited for is remembered.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl BoardState {
    /// Enters a mesh.
    pub(crate) fn join(&mut self, mesh: MeshId, keys: MemberKeys) {
        self.meshes.insert(mesh, JoinedMesh { keys, pairs: Vec::new(), revision: 0 });
    }

    /// Replaces the order of the relays.
    pub(crate) fn measured(&mut self, relays: Vec<MeasuredRelay>) {
        self.relays = (self.relays.0 + 1, relays);
    }

    /// Replaces the reports of these pairs of a mesh.
    pub(crate) fn report(&mut self, mesh: MeshId, reports: Vec<PairReport>) {
        let Some(joined) = self.meshes.get_mut(&mesh) else { return };
        let mut has_changed = false;
        for report in reports {
            match joined.pairs.binary_search_by_key(&report.peer, |known| known.peer) {
                Ok(index) if joined.pairs[index] == report => continue,
                Ok(index) => joined.pairs[index] = report,
                Err(index) => joined.pairs.insert(index, report),
            }
            has_changed = true;
        }
        joined.revision += u64::from(has_changed);
    }

    /// Has the reports of a mesh told again, as they are.
    pub(crate) fn report_again(&mut self, mesh: MeshId) {
        if let Some(joined) = self.meshes.get_mut(&mesh).filter(|joined| !joined.pairs.is_empty()) {
            joined.revision += 1;
        }
    }

    /// Leaves a mesh with a final report.
    pub(crate) fn leave(&mut self, mesh: MeshId, pairs: Vec<PairReport>) {
        if self.meshes.remove(&mesh).is_none() {
            return;
        }
        if self.left.len() == MAX_LEFT {
            self.left.pop_front();
        }
        self.left.push_back((mesh, pairs));
    }
}
