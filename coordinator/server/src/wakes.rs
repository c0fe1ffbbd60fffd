//! Wakes agents that wait for orders: each when something of its own has changed, not all at every change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use coordinator_core::{Change, NodeNumber};
use tokio::sync::Notify;

/// Who waits. A node that waits no more leaves an empty entry behind, one at most.
#[derive(Default)]
pub(crate) struct Wakes {
    waiting: Mutex<BTreeMap<NodeNumber, Weak<Notify>>>,
}

impl Wakes {
    /// Rings when the node's orders may have changed, for as long as somebody holds it.
    pub(crate) fn of(&self, node: NodeNumber) -> Arc<Notify> {
        let mut waiting = self.waiting();
        if let Some(bell) = waiting.get(&node).and_then(Weak::upgrade) {
            return bell;
        }
        let bell = Arc::new(Notify::new());
        waiting.insert(node, Arc::downgrade(&bell));
        bell
    }

    /// Wakes the nodes that these changes are about.
    pub(crate) fn wake(&self, changes: &[Change]) {
        let waiting = self.waiting();
        if waiting.is_empty() {
            return;
        }
        let mut nodes = BTreeSet::new();
        for change in changes {
            match change {
                Change::Node(node) => drop(nodes.insert(node.number)),
                Change::Job(job) => {
                    let launch = job.launch.iter();
                    nodes.extend(launch.flat_map(|it| &it.parts).map(|part| part.node));
                }
                Change::Counters(_) | Change::Usage(..) => {}
            }
        }
        let bells = nodes.iter().filter_map(|node| waiting.get(node)?.upgrade());
        bells.for_each(|bell| bell.notify_waiters());
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<NodeNumber, Weak<Notify>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
