//! The scheduler: first come, first served, whole nodes.

use std::collections::BTreeSet;

use coordinator_api::job::JobState;
use coordinator_api::resource::ResourceState;

use crate::cluster::Cluster;
use crate::ids::{JobId, NodeNumber};
use crate::job::Job;

/// What to launch now. Immutable; leaves no choices to whoever carries it out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The launches, in the order of the queue.
    pub launches: Vec<PlannedLaunch>,
}

/// A job and the nodes that it gets, in the order of their ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedLaunch {
    /// The job.
    pub job: JobId,
    /// Its nodes.
    pub nodes: Vec<NodeNumber>,
}

/// Gives free nodes to waiting jobs in the order of the queue.
///
/// A job for more nodes than are free holds the later ones back, or small jobs would starve it for
/// ever. But a job for more nodes than are *heard* waits for volunteers to return, not for other jobs:
/// the later ones go on.
pub fn plan(cluster: &Cluster) -> Plan {
    let heard = cluster.nodes().filter(|node| node.state == ResourceState::Alive).count();
    let free = cluster.nodes().filter(|node| node.is_free()).map(|node| node.number);
    let mut free: BTreeSet<NodeNumber> = free.collect();
    let mut launches = Vec::new();
    for job in cluster.jobs().filter(|job| job.state == JobState::Waiting) {
        let wanted = usize::from(job.request.resources.nodes);
        if wanted > heard {
            continue;
        }
        if wanted > free.len() {
            break;
        }
        let nodes = choose(job, wanted, &free);
        nodes.iter().for_each(|node| {
            free.remove(node);
        });
        launches.push(PlannedLaunch { job: job.id, nodes });
    }
    Plan { launches }
}

/// The lowest numbers, those at whose door a launch of this job failed only when the others run out.
fn choose(job: &Job, wanted: usize, free: &BTreeSet<NodeNumber>) -> Vec<NodeNumber> {
    let (blamed, clean): (Vec<_>, Vec<_>) =
        free.iter().copied().partition(|node| job.avoid.contains(node));
    clean.into_iter().chain(blamed).take(wanted).collect()
}
