//! Arrays, and idempotent jobs of volunteers who come and go.

use coordinator_api::agent::Fault;
use coordinator_api::job::{JobState, OneOrMany, SubmitJob};
use coordinator_api::resource::ResourceState;
use coordinator_core::{
    Array, EventKind, JobId, MAX_REQUEUES, NodeNumber, Report, Request, SubmitRefusal,
};

use crate::world::{OK, World, failed};

fn submit(world: &mut World, submission: &SubmitJob) -> Result<Vec<JobId>, SubmitRefusal> {
    let (request, array) = (Request::admit(submission).unwrap(), Array::admit(submission).unwrap());
    world.decide(|draft| draft.submit_array("alice", &request, &array))
}

fn submission(command: &str) -> SubmitJob {
    let resource = OneOrMany(vec!["nodes=1".to_owned()]);
    SubmitJob { command: command.to_owned(), resource, ..SubmitJob::default() }
}

#[test]
fn the_jobs_of_an_array_have_the_number_of_the_first_and_an_index_each() {
    let mut world = World::new(2);
    world.submit(1, &[]);
    let ids = submit(&mut world, &SubmitJob { array: Some(3), ..submission("run") }).unwrap();
    assert_eq!(ids, [JobId(2), JobId(3), JobId(4)]);
    for (job, index) in ids.iter().map(|id| &world.jobs[id]).zip(1..) {
        assert_eq!((job.array_id(), job.array_index()), (JobId(2), index));
        assert_eq!(job.request.command, "run");
    }
    assert_eq!(world.state(ids[0]), JobState::ToLaunch);
    assert_eq!(world.state(ids[1]), JobState::Waiting, "two nodes, and one was taken");
}

#[test]
fn each_line_of_a_parameter_file_is_the_arguments_of_a_job() {
    let mut world = World::new(1);
    let param_file = Some("1 2\n# not this\n3 4\n".to_owned());
    let ids = submit(&mut world, &SubmitJob { param_file, ..submission("./work") }).unwrap();
    let commands: Vec<&str> = ids.iter().map(|id| &*world.jobs[id].request.command).collect();
    assert_eq!(commands, ["./work 1 2", "./work 3 4"]);
    let single = world.submit(1, &[]);
    assert_eq!((world.jobs[&single].array_id(), world.jobs[&single].array_index()), (single, 1));
}

#[test]
fn an_array_that_cannot_run_leaves_no_job_behind() {
    let mut world = World::new(0);
    let refused = submit(&mut world, &SubmitJob { array: Some(3), ..submission("run") });
    assert!(matches!(refused, Err(SubmitRefusal::NotEnough { .. })));
    assert_eq!((world.jobs.len(), world.counters.job), (0, 1));
}

#[test]
fn an_idempotent_job_that_was_not_taken_waits_again_without_a_failed_launch() {
    let mut world = World::new(2);
    let job = world.submit(1, &["idempotent"]);
    for _ in 0..3 {
        world.pass(20, [1, 2]);
    }
    assert_eq!(world.nodes_of(job), [2], "the one that did not answer is avoided");
    assert_eq!(world.jobs[&job].failed_launches, 0);
    assert_eq!(
        world.kinds(job),
        [EventKind::LaunchingOarexecTimeout, EventKind::ResubmitJobAutomatically]
    );
    let text = &world.jobs[&job].events[1].description;
    assert!(
        text.ends_with("(1 of at most 12 times): vol-1 had not taken the job after 60 s"),
        "{text}"
    );
}

#[test]
fn an_idempotent_job_is_started_again_only_so_often() {
    let mut world = World::new(2);
    let job = world.submit(1, &["idempotent"]);
    for _ in 0..=MAX_REQUEUES {
        let node = world.nodes_of(job)[0];
        world.acknowledge(job, [node]);
        assert_eq!(world.state(job), JobState::Running);
        // Its node leaves; the other one stays. The lost one comes back and has forgotten the job.
        world.pass(60, [3 - node]);
        let generation = world.jobs[&job].generation;
        world.heard(node);
        for (id, left) in world.to_kill(node) {
            world.report_of(node, id, left, failed(Fault::Killed, "")).unwrap();
        }
        assert!(world.state(job).is_final() || world.jobs[&job].generation >= generation);
    }
    assert_eq!(world.state(job), JobState::Error);
    assert_eq!(world.jobs[&job].requeues, MAX_REQUEUES);
    let message = world.jobs[&job].message();
    assert!(
        message.contains("started again 12 times") && message.contains("fallen silent"),
        "{message}"
    );
}

#[test]
fn a_node_that_stays_silent_is_absent_and_at_last_dead_and_may_return() {
    let mut world = World::new(2);
    let policy = world.policy.clone();
    world.pass(60, [1]);
    let state = |world: &World| world.cluster.node(NodeNumber(2)).unwrap().state;
    assert_eq!(state(&world), ResourceState::Suspected);
    world.pass(policy.absent_after.as_secs() - 60, [1]);
    assert_eq!(state(&world), ResourceState::Absent);
    assert!(world.try_submit(2, &[]).is_ok(), "an absent machine is expected back");
    world.pass(policy.dead_after.as_secs(), [1]);
    assert_eq!(state(&world), ResourceState::Dead);
    assert!(world.try_submit(2, &[]).is_err(), "a dead one is not");
    world.heard(2);
    assert_eq!(state(&world), ResourceState::Alive);
    let taken = world.to_launch(2).unwrap();
    world.report(2, taken.0, Report::Running).unwrap();
    world.report(2, taken.0, OK).unwrap();
}
