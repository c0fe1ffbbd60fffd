//! The order of the queue.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use coordinator_api::job::JobState;

use crate::cluster::Cluster;
use crate::ids::UnixMillis;
use crate::job::Job;

/// OAR's queues and their priorities.
pub const QUEUES: [(&str, u32); 3] = [("admin", 10), ("default", 2), ("besteffort", 0)];

/// After so long a job goes before all that its user's past would put before it. Chosen: a day, so that fair
/// share evens out days and never starves anybody.
pub const STARVING: Duration = Duration::from_secs(24 * 3_600);

/// A queue's priority; of an unknown one the lowest.
pub(super) fn priority(queue: &str) -> u32 {
    QUEUES.iter().find(|(name, _)| *name == queue).map_or(0, |(_, priority)| *priority)
}

/// The jobs that wait, in the order in which they get resources.
pub(super) fn waiting(cluster: &Cluster, now: UnixMillis) -> Vec<&Arc<Job>> {
    let mut karma: BTreeMap<&str, f64> = BTreeMap::new();
    let usage = cluster.usage();
    let jobs = cluster.jobs().filter(|job| matches!(job.state, JobState::Waiting | JobState::Hold));
    let mut keyed: Vec<_> = jobs
        .map(|job| {
            let starving = now.since(job.submitted) >= STARVING;
            let karma = match starving {
                true => 0.0,
                false => *karma.entry(&job.owner).or_insert_with(|| usage.karma(&job.owner)),
            };
            (Reverse(priority(&job.request.queue)), !starving, karma, job)
        })
        .collect();
    keyed.sort_by(|left, right| {
        let first = (left.0, left.1).cmp(&(right.0, right.1));
        first.then(left.2.total_cmp(&right.2)).then(left.3.id.cmp(&right.3.id))
    });
    keyed.into_iter().map(|(_, _, _, job)| job).collect()
}
