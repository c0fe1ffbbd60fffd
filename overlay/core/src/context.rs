//! What a child of the node is lent while it works.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::NodeId;
use crate::budget::PunchBudget;
use crate::candidates::OwnCandidates;
use crate::io::Output;
use crate::node::Stats;

/// The node's clock, its own candidates, and where side effects and counts go.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) own: &'a OwnCandidates,
    /// How many peers the node knows.
    pub(crate) peers: usize,
    pub(crate) budget: &'a mut PunchBudget,
    /// This node's home relay, while it holds this node's channels.
    pub(crate) home: Option<SocketAddr>,
    /// Between pings on a direct path without data.
    pub(crate) keepalive: Duration,
    /// The volunteer allows to look for paths by chance.
    pub(crate) may_chance: bool,
    /// The public addresses that each peer is seen at.
    pub(crate) outer: &'a BTreeMap<NodeId, Vec<IpAddr>>,
    /// Where peers say that they see this node.
    pub(crate) reports: &'a mut Vec<(NodeId, SocketAddr)>,
    /// Peers that this node does not hear any more by any way: others may know them.
    pub(crate) lost: &'a mut Vec<NodeId>,
    /// Set when a path fell silent: this node's own address may have changed.
    pub(crate) in_doubt: &'a mut bool,
    /// Exchanges with relays that have begun: the nonce of the one before, and the new one.
    pub(crate) exchanges: &'a mut Vec<([u8; 8], [u8; 8])>,
    pub(crate) outputs: &'a mut Vec<Output>,
    pub(crate) stats: &'a mut Stats,
}

/// A quarter more or less, so that nodes that started together do not stay in step.
pub(crate) fn jittered(rng: &mut ChaCha8Rng, duration: Duration) -> Duration {
    duration.mul_f64(rng.random_range(0.75..1.25))
}

/// The gap after attempt number `attempt` (from 0): from the ladder, then always `rest`.
pub(crate) fn rung(ladder: &[Duration], rest: Duration, attempt: u32) -> Duration {
    usize::try_from(attempt).ok().and_then(|index| ladder.get(index)).copied().unwrap_or(rest)
}

/// The earlier of two timers that may not be set.
pub(crate) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
