//! A node of a world: the overlay's core, and what its driver would keep.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use netsim_sim::{HostId, WakeupGuard};
use overlay_core::{Node, NodeCandidates, NodeId, PairState, Path, SessionKey};

use crate::wireguard::Wg;

/// How rarely the driver reports what it has opened or sent.
const REPORT_GAP: Duration = Duration::from_millis(100);

/// A node, and what was seen of it.
#[derive(Debug)]
pub struct VirtualNode {
    /// The overlay's core. Inputs go through [`crate::World::input`], which carries out the outputs.
    pub node: Node,
    /// Its name.
    pub id: NodeId,
    /// Its machine.
    pub host: HostId,
    /// Every pair as last reported.
    pub pairs: BTreeMap<SessionKey, PairState>,
    /// Every change of a pair, with its time.
    pub history: Vec<(Duration, SessionKey, PairState)>,
    /// The numbers of the job's packets that have arrived.
    pub received: BTreeMap<SessionKey, BTreeSet<u64>>,
    /// How many initiations were made.
    pub initiated: BTreeMap<SessionKey, usize>,
    /// The sessions that were removed.
    pub removed: Vec<SessionKey>,
    /// As last announced.
    pub candidates: Option<NodeCandidates>,
    pub(crate) sessions: BTreeMap<SessionKey, Wg>,
    pub(crate) paths: BTreeMap<NodeId, (Path, Option<Path>)>,
    pub(crate) guard: WakeupGuard,
    reported: BTreeMap<(SessionKey, Option<Path>), Duration>,
}

impl VirtualNode {
    pub(crate) fn new(node: Node, id: NodeId, host: HostId) -> Self {
        Self {
            node,
            id,
            host,
            pairs: BTreeMap::new(),
            history: Vec::new(),
            received: BTreeMap::new(),
            initiated: BTreeMap::new(),
            removed: Vec::new(),
            candidates: None,
            sessions: BTreeMap::new(),
            paths: BTreeMap::new(),
            guard: WakeupGuard::default(),
            reported: BTreeMap::new(),
        }
    }

    /// Whether the driver reports this now: what was sent, or what was opened on a path.
    pub(crate) fn may_report(
        &mut self,
        now: Duration,
        session: SessionKey,
        via: Option<Path>,
    ) -> bool {
        let last = self.reported.entry((session, via)).or_insert(Duration::ZERO);
        let may = now >= *last + REPORT_GAP;
        if may {
            *last = now;
        }
        may
    }
}
