//! The scheduler: first come, first served, whole nodes or some cores of each.

use std::collections::BTreeMap;
use std::sync::Arc;

use coordinator_api::job::JobState;
use coordinator_api::resource::ResourceState;

use crate::cluster::Cluster;
use crate::ids::{JobId, NodeNumber};
use crate::job::Job;
use crate::node::Node;

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
    /// Its nodes, with the cores that it gets of each.
    pub shares: Vec<PlannedShare>,
}

/// What a job gets of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedShare {
    /// The node.
    pub node: NodeNumber,
    /// The cores, counted from 0 within the node.
    pub cores: Vec<u16>,
}

/// Gives free nodes to waiting jobs in the order of the queue.
///
/// A job for more nodes than are free holds the later ones back, or small jobs would starve it for
/// ever. But a job for more nodes than are *heard* waits for volunteers to return, not for other jobs:
/// the later ones go on.
pub fn plan(cluster: &Cluster) -> Plan {
    let mut free: BTreeMap<NodeNumber, Vec<u16>> =
        cluster.nodes().map(|node| (node.number, node.free_cores())).collect();
    let mut launches = Vec::new();
    for job in cluster.jobs().filter(|job| job.state == JobState::Waiting) {
        let wanted = usize::from(job.request.resources.nodes);
        if wanted > heard(cluster, job) {
            continue;
        }
        let Some(shares) = choose(cluster, job, wanted, &free) else { break };
        for share in &shares {
            if let Some(cores) = free.get_mut(&share.node) {
                cores.retain(|core| !share.cores.contains(core));
            }
        }
        launches.push(PlannedLaunch { job: job.id, shares });
    }
    Plan { launches }
}

/// How many nodes could run a part of the job, if nothing else ran.
fn heard(cluster: &Cluster, job: &Job) -> usize {
    let cores = job.request.resources.cores.unwrap_or(1);
    let fits = |node: &&Arc<Node>| node.state == ResourceState::Alive && node.cores >= cores;
    cluster.nodes().filter(fits).count()
}

/// The lowest numbers, those at whose door a launch of this job failed only when the others run out.
fn choose(
    cluster: &Cluster,
    job: &Job,
    wanted: usize,
    free: &BTreeMap<NodeNumber, Vec<u16>>,
) -> Option<Vec<PlannedShare>> {
    let shares = free.iter().filter_map(|(&number, cores)| {
        let cores = match job.request.resources.cores {
            Some(some) => cores.get(..usize::from(some))?,
            // A whole node: nobody else has a core of it.
            None => cores.get(..usize::from(cluster.node(number)?.cores))?,
        };
        Some(PlannedShare { node: number, cores: cores.to_vec() })
    });
    let (blamed, clean): (Vec<_>, Vec<_>) =
        shares.partition(|share| job.avoid.contains(&share.node));
    let chosen: Vec<_> = clean.into_iter().chain(blamed).take(wanted).collect();
    (chosen.len() == wanted).then_some(chosen)
}
