//! What to do about the coordinator's lists: a pure decision.
//!
//! The lists are levels, not events: they are read again and again, may be stale by one answer and may
//! repeat. The decision is therefore made anew from all that is known, and making it twice does no harm.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One launch of one job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaunchId {
    /// The coordinator's job number.
    pub job: u64,
    /// The launch of that job; a plain OAR server knows none: 0.
    pub generation: u32,
}

impl fmt::Display for LaunchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.job, self.generation)
    }
}

/// What the agent does with a launch that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Local {
    /// On its way from acknowledgement to the accepted final report.
    Active,
    /// The same, and the job is being killed.
    Killing,
    /// It is being thrown away without a report.
    Abandoning,
}

/// What the coordinator wants of this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The list `toLaunch`.
    pub to_launch: Vec<LaunchId>,
    /// The list `toKill`.
    pub to_kill: Vec<LaunchId>,
}

/// What the agent has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Take the job.
    Start(LaunchId),
    /// End the job, stage out what there is and report.
    Kill(LaunchId),
    /// End the remains of an older launch; nobody wants a report of it.
    Abandon(LaunchId),
    /// Answer a kill of a launch that this node does not have any more, so that nobody waits for it.
    ReportUnknown(LaunchId),
}

/// Decides.
///
/// A launch in `local` or `finished` (accepted final reports) never starts again. A launch starts only
/// when no other launch of the same job is left on this node.
pub fn reconcile(
    desired: &Desired,
    local: &BTreeMap<LaunchId, Local>,
    finished: &BTreeSet<LaunchId>,
) -> Vec<Action> {
    let mut actions = BTreeSet::new();
    for id in &desired.to_kill {
        match local.get(id) {
            Some(Local::Active) => {
                actions.insert(Action::Kill(*id));
            }
            Some(Local::Killing | Local::Abandoning) => {}
            // Also a launch that has ended here: while it is listed, the coordinator waits for a word, and
            // one too many does no harm.
            None => {
                actions.insert(Action::ReportUnknown(*id));
            }
        }
    }

    let mut newest = BTreeMap::new();
    for id in desired.to_launch.iter().filter(|id| !desired.to_kill.contains(id)) {
        let generation = newest.entry(id.job).or_insert(id.generation);
        *generation = id.generation.max(*generation);
    }
    for (job, generation) in newest {
        let id = LaunchId { job, generation };
        let same_job = LaunchId { job, generation: 0 }..=LaunchId { job, generation: u32::MAX };
        let mut others = local.range(same_job).peekable();
        if finished.contains(&id) {
            continue;
        }
        if others.peek().is_none() {
            actions.insert(Action::Start(id));
            continue;
        }
        for (other, state) in others {
            if other.generation < generation && *state != Local::Abandoning {
                actions.insert(Action::Abandon(*other));
            }
        }
    }
    actions.into_iter().collect()
}

#[cfg(test)]
mod tests;
