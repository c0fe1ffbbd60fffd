//! Launches that fail and nodes that fall silent.

use coordinator_api::agent::Fault;
use coordinator_api::job::JobState;
use coordinator_core::{
    EventKind, MAX_FAILED_LAUNCHES, MeshBlock, NodeNumber, Report, ReportRefusal,
};

use crate::world::{World, failed};

#[test]
fn a_launch_that_a_node_does_not_take_fails_and_the_job_waits_again() {
    let mut world = World::new(2);
    let job = world.submit(2, &["spmd"]);
    world.acknowledge(job, [1]);
    for _ in 0..2 {
        world.pass(20, [1, 2]);
        assert_eq!(world.state(job), JobState::Launching);
    }
    world.pass(20, [1, 2]);
    // Node 1 must first end its part, so the job cannot start again yet.
    assert_eq!(world.state(job), JobState::Waiting);
    assert_eq!(world.kinds(job), [EventKind::LaunchingOarexecTimeout]);
    let text = &world.jobs[&job].events[0].description;
    assert_eq!(text, "launch 1 failed: vol-2 had not taken the job after 60 s");
    assert_eq!(world.to_kill(1), [(job, 1)]);
    assert_eq!(world.to_kill(2), []);

    let late = world.report_of(2, job, 1, Report::Running);
    assert_eq!(late, Err(ReportRefusal::Stale { job, generation: 1 }));
    world.report_of(1, job, 1, failed(Fault::Killed, "")).unwrap();
    assert_eq!(world.to_launch(1), Some((job, 2)));
    assert_eq!(world.to_launch(2), Some((job, 2)));
}

#[test]
fn a_node_at_fault_is_avoided_while_others_are_free() {
    let mut world = World::new(3);
    let job = world.submit(1, &[]);
    assert_eq!(world.nodes_of(job), [1]);
    world.report(1, job, failed(Fault::Node, "the disk is full")).unwrap();
    assert_eq!(world.nodes_of(job), [2]);
    assert_eq!(world.kinds(job), [EventKind::PrologueError]);
    world.report(2, job, failed(Fault::Node, "no user namespaces")).unwrap();
    assert_eq!(world.nodes_of(job), [3]);
}

#[test]
fn a_node_at_fault_is_taken_when_there_is_no_other() {
    let mut world = World::new(2);
    let job = world.submit(2, &[]);
    world.report(1, job, failed(Fault::Node, "the disk is full")).unwrap();
    assert_eq!(world.state(job), JobState::ToLaunch);
    assert_eq!(world.nodes_of(job), [2, 1], "the blameless one first");
}

#[test]
fn the_message_says_why_a_job_failed_while_other_nodes_are_told_to_end_it() {
    let mut world = World::new(2);
    let job = world.submit(2, &["spmd"]);
    world.acknowledge(job, [1, 2]);
    world.report(1, job, failed(Fault::Job, "the archive is damaged")).unwrap();
    assert_eq!(world.to_kill(2), [(job, 1)]);
    let message = world.jobs[&job].message();
    assert!(message.contains("the archive is damaged"), "{message}");
}

#[test]
fn three_failed_launches_end_a_job() {
    let mut world = World::new(1);
    let job = world.submit(1, &[]);
    for _ in 0..MAX_FAILED_LAUNCHES {
        assert_eq!(world.state(job), JobState::ToLaunch);
        world.report(1, job, failed(Fault::Node, "no")).unwrap();
    }
    assert_eq!(world.state(job), JobState::Error);
    assert_eq!(world.jobs[&job].generation, MAX_FAILED_LAUNCHES);
    assert!(world.is_free(1));
}

#[test]
fn the_last_failed_launch_waits_for_its_nodes_answers() {
    let mut world = World::new(2);
    let job = world.submit(2, &[]);
    for generation in 1..=MAX_FAILED_LAUNCHES {
        world.acknowledge(job, [2]);
        world.report(1, job, failed(Fault::Node, "no")).unwrap();
        assert_eq!(world.to_kill(2), [(job, generation)]);
        world.report_of(2, job, generation, failed(Fault::Killed, "")).unwrap();
    }
    assert_eq!(world.state(job), JobState::Error);
}

#[test]
fn a_mesh_that_does_not_open_fails_the_launch_and_names_the_blockers() {
    let mut world = World::new(3);
    let job = world.submit(2, &["mesh"]);
    world.acknowledge(job, [1, 2]);
    let block =
        MeshBlock { job, reason: "vol-2 did not join".to_owned(), faulty: vec![NodeNumber(2)] };
    world.pass_blocked(30, 1..=3, &[]);
    world.pass_blocked(30, 1..=3, &[block]);
    let text = &world.jobs[&job].events[0].description;
    assert_eq!(text, "launch 1 failed: the mesh was not open after 60 s: vol-2 did not join");
    world.report_of(1, job, 1, failed(Fault::Killed, "")).unwrap();
    assert_eq!(world.nodes_of(job), [1, 3]);
}

#[test]
fn a_node_lost_while_launching_fails_the_launch() {
    let mut world = World::new(3);
    let job = world.submit(2, &["mesh"]);
    world.acknowledge(job, [1, 2]);
    world.policy.launch_deadline *= 10;
    world.cluster = coordinator_core::Cluster::load(
        world.nodes.values().cloned(),
        world.jobs.values().cloned(),
        world.counters,
        world.usage(),
        world.now,
        &world.policy,
    );
    world.jobs = world.cluster.jobs().map(|job| (job.id, (**job).clone())).collect();
    world.pass(60, [1, 3]);
    assert_eq!(world.state(job), JobState::Waiting);
    assert_eq!(world.kinds(job), [EventKind::LogSuspected]);
    world.report_of(1, job, 1, failed(Fault::Killed, "")).unwrap();
    assert_eq!(world.nodes_of(job), [1, 3]);
}

#[test]
fn a_node_lost_while_running_ends_the_job() {
    let mut world = World::new(2);
    let job = world.submit(2, &["spmd"]);
    world.acknowledge(job, [1, 2]);
    world.pass(60, [1]);
    assert_eq!(world.to_kill(1), [(job, 1)]);
    assert_eq!(world.kinds(job)[0], EventKind::LogSuspected);
    world.report(1, job, failed(Fault::Killed, "")).unwrap();
    assert_eq!(world.state(job), JobState::Error);
    assert_eq!(world.jobs[&job].exit_code, None);
}

#[test]
fn an_idempotent_job_that_loses_a_node_starts_again() {
    let mut world = World::new(3);
    let job = world.submit(2, &["spmd", "idempotent"]);
    world.acknowledge(job, [1, 2]);
    world.pass(60, [1, 3]);
    assert_eq!(world.state(job), JobState::Waiting);
    assert_eq!(world.kinds(job), [EventKind::LogSuspected, EventKind::ResubmitJobAutomatically]);
    world.report_of(1, job, 1, failed(Fault::Killed, "")).unwrap();
    assert_eq!(world.state(job), JobState::ToLaunch);
    assert_eq!((world.nodes_of(job), world.jobs[&job].generation), (vec![1, 3], 2));
    assert_eq!(world.jobs[&job].failed_launches, 0, "a lost node is no failed launch");

    // The lost node returns with the old launch and is told to end it.
    world.heard(2);
    assert_eq!(world.to_kill(2), [(job, 1)]);
    world.report_of(2, job, 1, failed(Fault::Killed, "")).unwrap();
    assert_eq!(world.to_kill(2), []);
    assert!(world.is_free(2));
}

#[test]
fn a_requeued_job_keeps_its_place_in_the_queue() {
    let mut world = World::new(1);
    let first = world.submit(1, &["idempotent"]);
    let second = world.submit(1, &[]);
    world.acknowledge(first, [1]);
    world.report(1, first, failed(Fault::Node, "restarting")).unwrap();
    assert_eq!(world.to_launch(1), Some((first, 2)));
    assert_eq!(world.state(second), JobState::Waiting);
}

#[test]
fn a_silent_node_gets_no_job_until_it_is_heard() {
    let mut world = World::new(1);
    world.pass(60, []);
    let job = world.submit(1, &[]);
    assert_eq!(world.state(job), JobState::Waiting);
    world.heard(1);
    assert_eq!(world.state(job), JobState::ToLaunch);
}
