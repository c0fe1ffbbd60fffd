//! One scheduling pass over a full cluster: how long it takes, by its size.
//!
//! `cargo bench -p coordinator-core`. The figure to reach: 10,000 resources and 10,000 waiting jobs in less
//! than a second, and nearly linear growth.

#![allow(missing_docs, clippy::print_stdout, clippy::expect_used, reason = "a benchmark prints")]

use std::hint::black_box;
use std::time::Instant;

use coordinator_api::job::{OneOrMany, SubmitJob};
use coordinator_core::{Cluster, Depth, Draft, Policy, Request, UnixMillis, plan};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// So many different requests; one stands for an array or a campaign.
fn request(shape: usize) -> Request {
    let resource = match shape % 4 {
        0 => format!("core={}", 1 + shape % 7),
        1 => format!("nodes={}", 1 + shape % 13),
        2 => format!("nodes={}/core={}", 1 + shape % 17, 1 + shape % 4),
        _ => format!("{{mem > {}}}/nodes={}", 1_000 + shape % 3, 1 + shape % 5),
    };
    lasting(&resource, shape)
}

fn lasting(resource: &str, shape: usize) -> Request {
    let submission = SubmitJob {
        command: "true".to_owned(),
        resource: OneOrMany(vec![format!("{resource},walltime=0:{}", 10 + shape * 7 % 600)]),
        ..SubmitJob::default()
    };
    Request::admit(&submission).expect("a right request")
}

fn full_cluster(resources: usize, jobs: usize, shapes: usize, policy: &Policy) -> Cluster {
    let empty = Cluster::default();
    let mut draft = Draft::new(&empty, NOW, policy);
    for _ in 0..resources / 4 {
        draft.enrol(4, 2_048);
    }
    // The first ones fill the cluster.
    for node in 0..resources / 4 {
        draft.submit("dave", lasting("nodes=1", node % shapes)).expect("it fits");
    }
    let filled = draft.finish(&empty).0;
    let mut draft = Draft::new(&filled, NOW, policy);
    for job in 0..jobs {
        draft.submit(["alice", "bob", "carol"][job % 3], request(job % shapes)).expect("it fits");
    }
    draft.finish(&filled).0
}

fn main() {
    let policy = Policy::default();
    println!(
        "{:>9} {:>8} {:>7} {:>12} {:>12}",
        "resources", "waiting", "shapes", "whole plan", "launches"
    );
    for (resources, jobs) in [(1_000, 1_000), (2_000, 2_000), (5_000, 5_000), (10_000, 10_000)] {
        for shapes in [1, 100, 1_000] {
            let cluster = full_cluster(resources, jobs, shapes, &policy);
            let time = |depth| {
                let mut best = f64::INFINITY;
                for _ in 0..3 {
                    let start = Instant::now();
                    black_box(plan(&cluster, NOW, &policy, depth));
                    best = best.min(start.elapsed().as_secs_f64() * 1_000.0);
                }
                best
            };
            let waiting = cluster.jobs().filter(|job| job.launch.is_none()).count();
            let (all, now) = (time(Depth::Everything), time(Depth::Launches));
            println!("{resources:>9} {waiting:>8} {shapes:>7} {all:>9.1} ms {now:>9.1} ms");
        }
    }
}
