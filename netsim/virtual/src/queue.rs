//! A full cluster with a long queue, to time the scheduler's pass over it.

use coordinator_api::job::{OneOrMany, SubmitJob};
use coordinator_core::{Cluster, Depth, Draft, Policy, Request, UnixMillis, plan};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// Cores of each machine.
const CORES: usize = 4;

/// Every resource works, and jobs of different requests wait.
pub struct FullCluster {
    cluster: Cluster,
    policy: Policy,
}

impl FullCluster {
    /// With so many `resources` and waiting `jobs`, of `shapes` different requests: one stands for an array or a
    /// campaign.
    pub fn new(resources: usize, jobs: usize, shapes: usize) -> Self {
        let (empty, policy) = (Cluster::default(), Policy::default());
        let mut draft = Draft::new(&empty, NOW, &policy);
        for _ in 0..resources / CORES {
            draft.enrol(4, 2_048);
        }
        for node in 0..resources / CORES {
            submit(&mut draft, "dave", lasting("nodes=1", node % shapes));
        }
        let filled = draft.finish(&empty).0;
        let mut draft = Draft::new(&filled, NOW, &policy);
        for job in 0..jobs {
            submit(&mut draft, ["alice", "bob", "carol"][job % 3], request(job % shapes));
        }
        let cluster = draft.finish(&filled).0;
        Self { cluster, policy }
    }

    /// Plans the whole queue: how many jobs are promised a time, or told why not.
    pub fn pass(&self) -> usize {
        plan(&self.cluster, NOW, &self.policy, Depth::Everything).waits.len()
    }
}

fn submit(draft: &mut Draft<'_>, owner: &str, request: Option<Request>) {
    // Each fits on the machines that are there.
    if let Some(request) = request {
        let _id = draft.submit(owner, request);
    }
}

fn request(shape: usize) -> Option<Request> {
    let resource = match shape % 4 {
        0 => format!("core={}", 1 + shape % 7),
        1 => format!("nodes={}", 1 + shape % 13),
        2 => format!("nodes={}/core={}", 1 + shape % 17, 1 + shape % 4),
        _ => format!("{{mem > {}}}/nodes={}", 1_000 + shape % 3, 1 + shape % 5),
    };
    lasting(&resource, shape)
}

fn lasting(resource: &str, shape: usize) -> Option<Request> {
    let submission = SubmitJob {
        command: "true".to_owned(),
        resource: OneOrMany(vec![format!("{resource},walltime=0:{}", 10 + shape * 7 % 600)]),
        ..SubmitJob::default()
    };
    Request::admit(&submission).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_of_the_queue_is_planned() {
        assert_eq!(FullCluster::new(80, 100, 10).pass(), 100);
    }
}
