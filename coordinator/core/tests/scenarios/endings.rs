//! How jobs end.

use coordinator_api::agent::Fault;
use coordinator_api::job::JobState;
use coordinator_core::{EventKind, PartState};

use crate::world::{OK, World, exit, failed};

#[test]
fn a_job_ends_with_its_first_nodes_command_and_the_others_are_released() {
    let mut world = World::new(3);
    let job = world.submit(3, &[]);
    world.acknowledge(job, [1, 2, 3]);
    world.report(1, job, exit(3)).unwrap();
    assert_eq!(world.state(job), JobState::Finishing);
    assert!(world.is_free(1));
    assert_eq!(world.to_kill(2), [(job, 1)]);

    world.report(2, job, failed(Fault::Killed, "")).unwrap();
    assert_eq!(world.to_kill(2), []);
    world.report(3, job, OK).unwrap();
    assert_eq!(world.state(job), JobState::Terminated);
    assert_eq!(world.jobs[&job].exit_code, Some(3 << 8));
    assert_eq!(
        world.jobs[&job].message(),
        "R=3,W=1:0:0,J=B,T=desktop_computing (the command ended with exit 3)"
    );
}

#[test]
fn an_spmd_job_ends_when_all_ranks_have() {
    let mut world = World::new(3);
    let job = world.submit(3, &["spmd"]);
    world.acknowledge(job, [1, 2, 3]);
    world.report(1, job, OK).unwrap();
    world.report(3, job, OK).unwrap();
    assert_eq!(world.state(job), JobState::Running);
    assert_eq!(world.to_kill(2), []);
    world.report(2, job, OK).unwrap();
    assert_eq!(world.state(job), JobState::Terminated);
    assert_eq!(world.jobs[&job].exit_code, Some(0));
}

#[test]
fn the_first_bad_exit_of_an_spmd_job_ends_the_others() {
    let mut world = World::new(3);
    let job = world.submit(3, &["spmd"]);
    world.acknowledge(job, [1, 2, 3]);
    world.report(2, job, exit(7)).unwrap();
    assert_eq!((world.to_kill(1), world.to_kill(3)), (vec![(job, 1)], vec![(job, 1)]));
    world.report(1, job, failed(Fault::Killed, "")).unwrap();
    world.report(3, job, exit(9)).unwrap();
    assert_eq!(world.state(job), JobState::Terminated);
    assert_eq!(world.jobs[&job].exit_code, Some(7 << 8));
}

#[test]
fn a_deleted_job_is_in_error_when_all_nodes_have_answered() {
    let mut world = World::new(2);
    let job = world.submit(2, &["spmd"]);
    world.acknowledge(job, [1, 2]);
    world.delete(job).unwrap();
    assert_eq!(world.state(job), JobState::Running, "as in OAR, until the nodes have answered");
    world.report(1, job, failed(Fault::Killed, "")).unwrap();
    assert_eq!(world.to_kill(2), [(job, 1)]);
    world.report(2, job, failed(Fault::Killed, "")).unwrap();
    assert_eq!(world.state(job), JobState::Error);
    let kinds =
        [EventKind::FragJobRequest, EventKind::SendKillJob, EventKind::SwitchIntoErrorState];
    assert_eq!(world.kinds(job), kinds);
}

#[test]
fn a_deleted_job_does_not_wait_for_nodes_that_never_took_it() {
    let mut world = World::new(2);
    let waiting = {
        let job = world.submit(2, &[]);
        let waiting = world.submit(1, &[]);
        world.acknowledge(job, [1]);
        world.delete(job).unwrap();
        assert_eq!(world.to_launch(2), Some((waiting, 1)), "the free node goes on");
        world.report(1, job, failed(Fault::Killed, "")).unwrap();
        assert_eq!(world.state(job), JobState::Error);
        waiting
    };
    world.delete(waiting).unwrap();
    assert_eq!(world.state(waiting), JobState::Error);
}

#[test]
fn a_deleted_job_does_not_wait_for_lost_nodes() {
    let mut world = World::new(2);
    let job = world.submit(2, &["spmd"]);
    world.acknowledge(job, [1, 2]);
    world.delete(job).unwrap();
    world.report(1, job, failed(Fault::Killed, "")).unwrap();
    world.pass(60, [1]);
    assert_eq!(world.state(job), JobState::Error);
    assert_eq!(world.part(job, 1), PartState::Lost);
    // When it comes back it is told, and its answer frees it.
    world.heard(2);
    assert_eq!(world.to_kill(2), [(job, 1)]);
    assert!(!world.is_free(2));
    world.report(2, job, failed(Fault::Killed, "")).unwrap();
    assert!(world.is_free(2));
}

#[test]
fn the_walltime_ends_a_job() {
    let mut world = World::new(1);
    let job = world.submit(1, &[]);
    world.acknowledge(job, [1]);
    for _ in 0..119 {
        world.pass(30, [1]);
    }
    assert_eq!(world.to_kill(1), []);
    world.pass(30, [1]);
    assert_eq!(world.to_kill(1), [(job, 1)]);
    world.report(1, job, failed(Fault::Killed, "")).unwrap();
    assert_eq!(world.state(job), JobState::Error);
    assert!(world.kinds(job).contains(&EventKind::Walltime));
}

#[test]
fn an_agent_that_sees_the_walltimes_end_first_is_believed() {
    let mut world = World::new(1);
    let job = world.submit(1, &["idempotent"]);
    world.acknowledge(job, [1]);
    for _ in 0..119 {
        world.pass(30, [1]);
    }
    world.pass(28, [1]);
    world.report(1, job, failed(Fault::Killed, "")).unwrap();
    assert_eq!(world.state(job), JobState::Error);
    assert!(world.kinds(job).contains(&EventKind::Walltime));
}

#[test]
fn a_node_that_never_answers_the_kill_does_not_hold_the_job_for_ever() {
    let mut world = World::new(1);
    let job = world.submit(1, &[]);
    world.acknowledge(job, [1]);
    world.delete(job).unwrap();
    for _ in 0..20 {
        world.pass(30, [1]);
    }
    assert_eq!(world.state(job), JobState::Error);
    assert!(world.kinds(job).contains(&EventKind::ExterminateJob));
    assert_eq!(world.to_kill(1), [(job, 1)], "the node is still told");
    for _ in 0..20 {
        world.pass(30, [1]);
    }
    assert!(world.is_free(1), "but not for ever either");
}

#[test]
fn a_job_that_cannot_be_run_is_not_tried_again() {
    let mut world = World::new(2);
    let job = world.submit(2, &["idempotent"]);
    world.acknowledge(job, [1, 2]);
    world.report(1, job, failed(Fault::Job, "the stage-in is no archive")).unwrap();
    world.report(2, job, failed(Fault::Killed, "")).unwrap();
    assert_eq!(world.state(job), JobState::Error);
    let message = world.jobs[&job].events[0].description.clone();
    assert_eq!(message, "vol-1: the stage-in is no archive");
}
