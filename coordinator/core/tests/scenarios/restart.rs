//! A coordinator that comes back.

use std::time::Duration;

use coordinator_api::job::JobState;
use coordinator_core::Cluster;

use crate::world::{OK, World};

fn restart(world: &mut World, after_s: u64) {
    world.now = world.now + Duration::from_secs(after_s);
    let unfinished = world.jobs.values().filter(|job| !job.state.is_final()).cloned();
    world.cluster = Cluster::load(
        world.nodes.values().cloned(),
        unfinished,
        world.counters,
        world.usage(),
        world.now,
        &world.policy,
    );
    let loaded = world.cluster.jobs().map(|job| (job.id, (**job).clone()));
    world.jobs.extend(loaded.collect::<Vec<_>>());
}

#[test]
fn running_jobs_go_on_after_a_restart() {
    let mut world = World::new(3);
    let running = world.submit(2, &["spmd"]);
    world.acknowledge(running, [1, 2]);
    let waiting = world.submit(2, &[]);
    restart(&mut world, 3_000);
    world.pass(1, [1, 2, 3]);
    assert_eq!(world.state(running), JobState::Running);
    assert_eq!(world.state(waiting), JobState::Waiting);
    world.report(1, running, OK).unwrap();
    world.report(2, running, OK).unwrap();
    assert_eq!(world.state(running), JobState::Terminated);
    assert_eq!(world.state(waiting), JobState::ToLaunch);
    assert_eq!(waiting.0 + 1, world.submit(1, &[]).0, "numbers go on");
}

#[test]
fn a_launch_gets_its_whole_time_again_after_a_restart() {
    let mut world = World::new(1);
    let job = world.submit(1, &[]);
    restart(&mut world, 3_600);
    world.pass(30, [1]);
    world.acknowledge(job, [1]);
    assert_eq!(world.state(job), JobState::Running);
    assert_eq!(world.jobs[&job].generation, 1);
}

#[test]
fn a_walltime_that_ended_meanwhile_leaves_the_agents_time_to_say_so() {
    let mut world = World::new(1);
    let job = world.submit(1, &[]);
    world.acknowledge(job, [1]);
    restart(&mut world, 4_000);
    world.pass(30, [1]);
    assert_eq!(world.to_kill(1), []);
    world.report(1, job, OK).unwrap();
    assert_eq!(world.state(job), JobState::Terminated);
}

#[test]
fn there_is_always_a_deadline_while_something_can_time_out() {
    let mut world = World::new(1);
    let policy = world.policy.clone();
    let next = |world: &World| world.cluster.next_deadline(&policy).unwrap().since(world.now);
    assert_eq!(next(&world), policy.node_timeout);
    world.pass(20, []);
    assert_eq!(next(&world), policy.node_timeout - Duration::from_secs(20));
    world.pass(40, []);
    assert_eq!(next(&world), policy.absent_after - policy.node_timeout, "silence goes on");
    world.pass(policy.absent_after.as_secs() - 60, []);
    assert_eq!(next(&world), policy.dead_after - policy.absent_after);
    world.pass(policy.dead_after.as_secs() - policy.absent_after.as_secs(), []);
    assert_eq!(world.cluster.next_deadline(&policy), None, "a dead node cannot be lost again");
}
