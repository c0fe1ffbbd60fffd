//! The scheduler: conservative backfilling on a plan of who has which resource, and when.
//!
//! ```text
//! running jobs, reservations ──► Gantt ──► for each waiting job, in the order of the queue:
//!                                          the earliest time at which its resources are free for its
//!                                          walltime ── now: launch ── later: reserve, nobody takes it away
//! best effort: what is left over now; it makes room for others at once
//! ```
//!
//! A later job never delays an earlier one, and fills the holes before it. The order is: priority of the
//! queue, then jobs that wait for longer than [`STARVING`], then who has used less ([`karma`]), then who
//! came first. Same cluster, same time: same plan.
//!
//! [`karma`]: crate::Usage::karma

mod order;
mod pass;
mod quota;

use std::collections::BTreeMap;

use crate::cluster::{Cluster, Policy};
use crate::ids::{JobId, NodeNumber, UnixMillis};

pub use order::{QUEUES, STARVING};
pub(crate) use pass::{fits, reserve};
pub use quota::{ParseQuotaError, Quota};

/// What to launch now. Immutable; leaves no choices to whoever carries it out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The launches, in the order of the queue.
    pub launches: Vec<PlannedLaunch>,
    /// Best-effort jobs that must make room, and for whom.
    pub evictions: Vec<Eviction>,
    /// Why the others wait. Only of jobs that were looked at: see [`Depth`].
    pub waits: BTreeMap<JobId, Wait>,
}

/// A job and the nodes that it gets, in the order of their ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedLaunch {
    /// The job.
    pub job: JobId,
    /// Which of its alternatives.
    pub alternative: usize,
    /// Its nodes, with the cores that it gets of each.
    pub shares: Vec<PlannedShare>,
}

/// What a job gets of one node.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PlannedShare {
    /// The node.
    pub node: NodeNumber,
    /// The cores, counted from 0 within the node.
    pub cores: Vec<u16>,
}

/// A best-effort job that must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eviction {
    /// Which.
    pub job: JobId,
    /// Who needs its resources.
    pub for_job: JobId,
}

/// Why a job does not start now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Its user holds it.
    Held,
    /// Another job must end first.
    Dependency(JobId),
    /// It was asked to start later: a postponed job, or a reservation.
    NotBefore(UnixMillis),
    /// A limit of the operator.
    Quota(String),
    /// Fewer resources fit than it needs, even if nothing else ran.
    TooFew {
        /// How many fit and are alive.
        alive: usize,
        /// How many more would fit, on machines that are silent.
        silent: usize,
    },
    /// Its resources are there now, and others are still leaving them.
    Leaving,
    /// Its turn comes, at the latest, then.
    Planned {
        /// When.
        start: UnixMillis,
        /// How many waiting jobs go before it.
        behind: usize,
    },
    /// A best-effort job: nothing is left over.
    NothingLeft,
}

/// The most jobs that are promised a time in a pass that looks for launches: a decision must be quick however
/// long the queue is. Those behind them start when their turn comes. Chosen: as other schedulers do.
pub const MAX_PROMISES: usize = 500;

/// How far a pass goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Until nothing more can be launched, or [`MAX_PROMISES`] were given.
    Launches,
    /// Through the whole queue: all waits are known.
    Everything,
}

/// Plans at the time `now`.
pub fn plan(cluster: &Cluster, now: UnixMillis, policy: &Policy, depth: Depth) -> Plan {
    pass::run(cluster, now, policy, depth)
}
