//! From the submission to the running job.

use coordinator_api::job::JobState;
use coordinator_core::{Actor, DeleteRefusal, JobId, Report, ReportRefusal, SubmitRefusal};

use crate::world::{OK, World, exit};

#[test]
fn a_job_waits_until_enough_nodes_are_free_and_then_gets_them() {
    let mut world = World::new(3);
    let first = world.submit(2, &[]);
    let second = world.submit(2, &[]);
    assert_eq!(world.state(first), JobState::ToLaunch);
    assert_eq!(world.state(second), JobState::Waiting);

    world.acknowledge(first, [1, 2]);
    world.report(1, first, OK).unwrap();
    world.report(2, first, OK).unwrap();

    assert_eq!(world.state(first), JobState::Terminated);
    assert_eq!(world.state(second), JobState::ToLaunch);
}

#[test]
fn a_job_for_more_nodes_than_are_enrolled_is_refused() {
    let mut world = World::new(2);
    let refusal = world.try_submit(3, &[]);
    assert!(matches!(refusal, Err(SubmitRefusal::NotEnough { resources: 8, nodes: 2, .. })));
    // The number of a refused job is not used up.
    assert_eq!(world.submit(2, &[]), JobId(1));
}

#[test]
fn jobs_that_ask_for_cores_share_their_nodes() {
    let mut world = World::new(2);
    let first = world.try_request("nodes=2/core=3", &[]).unwrap();
    let second = world.try_request("nodes=2/core=1", &[]).unwrap();
    let third = world.try_request("nodes=1/core=1", &[]).unwrap();
    assert_eq!(world.state(first), JobState::ToLaunch);
    assert_eq!(world.state(second), JobState::ToLaunch);
    assert_eq!(world.state(third), JobState::Waiting, "no core is left");

    world.acknowledge(first, [1, 2]);
    world.report(1, first, OK).unwrap();
    world.report(2, first, OK).unwrap();

    assert_eq!(world.state(first), JobState::Terminated);
    assert_eq!(world.state(second), JobState::ToLaunch, "the neighbour's end changes nothing");
    assert_eq!(world.state(third), JobState::ToLaunch);
}

#[test]
fn a_job_for_whole_nodes_shares_them_with_nobody() {
    let mut world = World::new(1);
    let small = world.try_request("nodes=1/core=1", &[]).unwrap();
    let whole = world.submit(1, &[]);
    assert_eq!(world.state(small), JobState::ToLaunch);
    assert_eq!(world.state(whole), JobState::Waiting);
}

#[test]
fn a_job_for_more_cores_than_any_node_has_is_refused() {
    let mut world = World::new(2);
    let refusal = world.try_request("nodes=1/core=5", &[]);
    assert!(matches!(refusal, Err(SubmitRefusal::NotEnough { resources: 8, nodes: 2, .. })));
}

#[test]
fn a_job_that_does_not_fit_holds_smaller_later_ones_back() {
    let mut world = World::new(3);
    let running = world.submit(1, &[]);
    let large = world.submit(3, &[]);
    let long = world.submit_as("alice", "nodes=1,walltime=2", |_| {}).unwrap();
    let short = world.submit_as("alice", "nodes=1,walltime=0:30", |_| {}).unwrap();
    assert_eq!(world.state(running), JobState::ToLaunch);
    assert_eq!(world.state(large), JobState::Waiting);
    assert_eq!(world.state(long), JobState::Waiting);
    assert_eq!(world.state(short), JobState::ToLaunch, "it is over before the large one can start");
}

#[test]
fn a_job_for_more_nodes_than_are_heard_holds_nobody_back() {
    let mut world = World::new(3);
    world.pass(60, [1, 2]);
    let large = world.submit(3, &[]);
    let small = world.submit(1, &[]);
    assert_eq!(world.state(large), JobState::Waiting);
    assert_eq!(world.state(small), JobState::ToLaunch);
}

#[test]
fn a_job_is_launching_at_the_first_acknowledgement_and_running_at_the_last() {
    let mut world = World::new(3);
    let job = world.submit(3, &["spmd"]);
    assert_eq!(world.to_launch(2), Some((job, 1)));
    world.acknowledge(job, [2]);
    assert_eq!(world.state(job), JobState::Launching);
    assert_eq!(world.to_launch(2), None);
    world.acknowledge(job, [1]);
    assert_eq!(world.state(job), JobState::Launching);
    world.acknowledge(job, [3]);
    assert_eq!(world.state(job), JobState::Running);
}

#[test]
fn a_mesh_job_runs_when_its_mesh_is_open() {
    let mut world = World::new(2);
    let job = world.submit(2, &["mesh", "spmd"]);
    world.acknowledge(job, [1, 2]);
    assert_eq!(world.state(job), JobState::Launching);
    world.open_mesh(job);
    assert_eq!(world.state(job), JobState::Running);
}

#[test]
fn a_mesh_that_opens_before_the_last_acknowledgement_counts() {
    let mut world = World::new(2);
    let job = world.submit(2, &["mesh"]);
    world.acknowledge(job, [1]);
    world.open_mesh(job);
    assert_eq!(world.state(job), JobState::Launching);
    world.acknowledge(job, [2]);
    assert_eq!(world.state(job), JobState::Running);
}

#[test]
fn a_command_that_ends_before_the_word_of_the_open_mesh_has_run() {
    let mut world = World::new(2);
    let job = world.submit(2, &["mesh", "spmd"]);
    world.acknowledge(job, [1, 2]);
    world.report(1, job, OK).unwrap();
    assert_eq!(world.state(job), JobState::Running);
    world.report(2, job, OK).unwrap();
    assert_eq!(world.state(job), JobState::Terminated);
}

#[test]
fn the_word_of_an_old_launchs_mesh_changes_nothing() {
    let mut world = World::new(2);
    let job = world.submit(2, &["mesh"]);
    world.open_mesh_of(job, 7);
    world.acknowledge(job, [1, 2]);
    assert_eq!(world.state(job), JobState::Launching);
}

#[test]
fn saying_the_same_thing_twice_does_no_harm() {
    let mut world = World::new(2);
    let job = world.submit(2, &["spmd"]);
    world.acknowledge(job, [1, 1, 2]);
    world.report(1, job, exit(0)).unwrap();
    world.report(1, job, exit(0)).unwrap();
    assert_eq!(world.report(1, job, exit(3)), Err(ReportRefusal::Differs));
    let stale = ReportRefusal::Stale { job, generation: 1 };
    assert_eq!(world.report(1, job, Report::Running), Err(stale));
}

#[test]
fn a_node_speaks_only_of_its_own_jobs_and_launches() {
    let mut world = World::new(3);
    let job = world.submit(2, &[]);
    assert_eq!(world.report(3, job, Report::Running), Err(ReportRefusal::NotAssigned));
    assert_eq!(world.report_of(1, job, 2, Report::Running), Err(ReportRefusal::NotAssigned));
    let unknown = world.report_of(1, JobId(99), 1, Report::Running);
    assert_eq!(unknown, Err(ReportRefusal::UnknownJob));
    let stale = world.report_of(1, job, 0, Report::Running);
    assert_eq!(stale, Err(ReportRefusal::NotAssigned));
}

#[test]
fn only_the_owner_deletes_and_only_once() {
    let mut world = World::new(1);
    let job = world.submit(1, &[]);
    let other = world.decide(|draft| draft.delete(&Actor::user("bob"), job));
    assert_eq!(other, Err(DeleteRefusal::NotYours(job)));
    assert_eq!(world.delete(JobId(9)), Err(DeleteRefusal::NotYours(JobId(9))));
    world.acknowledge(job, [1]);
    world.delete(job).unwrap();
    assert_eq!(world.delete(job), Err(DeleteRefusal::AlreadyKilled(job)));
}
