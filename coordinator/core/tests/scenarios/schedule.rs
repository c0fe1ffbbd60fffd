//! Who gets what, and when.

use std::time::Duration;

use coordinator_api::agent::Fault;
use coordinator_api::job::{JobState, OneOrMany};
use coordinator_core::{
    Actor, Depth, EventKind, HoldRefusal, JobId, NodeNumber, Plan, Request, ResumeRefusal,
    SubmitRefusal, Wait, plan,
};
use proptest::prelude::*;

use crate::world::{CORES, OK, World, failed};

fn types(names: &[&str]) -> OneOrMany {
    OneOrMany(names.iter().map(|&name| name.to_owned()).collect())
}

fn everything(world: &World) -> Plan {
    plan(&world.cluster, world.now, &world.policy, Depth::Everything)
}

fn wait(world: &World, id: JobId) -> Wait {
    everything(world).waits[&id].clone()
}

/// Seconds since the epoch, as a reservation takes them.
fn in_minutes(world: &World, minutes: u64) -> String {
    (world.now.seconds() + 60 * minutes).to_string()
}

fn launched(world: &World, id: JobId) -> bool {
    world.state(id) == JobState::ToLaunch
}

#[test]
fn conditions_and_levels_choose_the_resources() {
    let mut world = World::new(4);
    for (node, rack) in [(1, "a"), (2, "b"), (3, "b"), (4, "c")] {
        world.decide(|draft| draft.set_node_property(NodeNumber(node), "rack", rack)).unwrap();
    }
    let submit = |world: &mut World, resource: &str| world.submit_as("alice", resource, |_| {});
    let pair = submit(&mut world, "/rack=1/nodes=2/core=2").unwrap();
    assert_eq!(world.nodes_of(pair), [2, 3], "both behind one switch");
    let other = submit(&mut world, "{rack = 'c'}/core=3").unwrap();
    assert_eq!(world.nodes_of(other), [4]);
    let last =
        submit(&mut world, "{rack IN ('b', 'c')}/nodes=1/core=1+{host='vol-1'}/nodes=1").unwrap();
    assert_eq!(world.nodes_of(last), [2, 1], "the groups in their order");
    let refused = submit(&mut world, "/rack=1/nodes=3");
    assert!(matches!(refused, Err(SubmitRefusal::NotEnough { .. })), "{refused:?}");
    let refused = submit(&mut world, "{nosuch = 1}/nodes=1");
    assert_eq!(refused, Err(SubmitRefusal::NoProperty("nosuch".to_owned())));
    let asked =
        world.submit_as("alice", "/core=1", |job| job.property = Some("rack = 'a'".to_owned()));
    let asked = asked.unwrap();
    assert!(matches!(wait(&world, asked), Wait::Planned { behind: 0, .. }));
}

#[test]
fn all_and_best_take_what_there_is() {
    let mut world = World::new(3);
    let busy = world.submit(1, &[]);
    let best = world
        .submit_as("alice", "nodes=BEST,walltime=1", |job| job.types = types(&["spmd"]))
        .unwrap();
    assert_eq!((world.nodes_of(busy), world.nodes_of(best)), (vec![1], vec![2, 3]));
    let all = world.submit_as("alice", "nodes=ALL,walltime=1", |_| {}).unwrap();
    assert_eq!(world.state(all), JobState::Waiting);
    for (node, job) in [(1, busy), (2, best), (3, best)] {
        world.acknowledge(job, [node]);
        world.report(node, job, OK).unwrap();
    }
    assert_eq!(world.nodes_of(all), [1, 2, 3]);
}

#[test]
fn the_alternative_that_starts_first_is_taken() {
    let mut world = World::new(2);
    let running = world.submit(1, &[]);
    let moldable = world.submit_as("alice", "nodes=2,walltime=1", |job| {
        job.resource.0.push("nodes=1,walltime=2".to_owned());
    });
    let moldable = moldable.unwrap();
    assert_eq!((world.nodes_of(running), world.nodes_of(moldable)), (vec![1], vec![2]));
    let job = &world.jobs[&moldable];
    assert_eq!((job.alternative, job.walltime_s()), (1, 7_200));
}

#[test]
fn a_job_waits_for_another_ones_end_whatever_it_is() {
    let mut world = World::new(2);
    let first = world.submit(1, &[]);
    let second = world.submit_as("bob", "nodes=1", |job| job.anterior = types(&["1"])).unwrap();
    assert_eq!(wait(&world, second), Wait::Dependency(first));
    world.report(1, first, failed(Fault::Job, "no")).unwrap();
    assert_eq!(world.state(first), JobState::Error);
    assert!(launched(&world, second));
    let refused = world.submit_as("bob", "nodes=1", |job| job.anterior = types(&["9"]));
    assert_eq!(refused, Err(SubmitRefusal::NoDependency(JobId(9))));
}

#[test]
fn a_held_job_waits_until_its_user_resumes_it() {
    let mut world = World::new(1);
    let job = world.submit_as("alice", "nodes=1", |job| job.hold = Some(1)).unwrap();
    assert_eq!((world.state(job), wait(&world, job)), (JobState::Hold, Wait::Held));
    let refused = world.decide(|draft| draft.resume(&Actor::user("bob"), job));
    assert_eq!(refused, Err(ResumeRefusal::NotYours(job)));
    world.decide(|draft| draft.resume(&Actor::user("alice"), job)).unwrap();
    assert!(launched(&world, job));
    let refused = world.decide(|draft| draft.hold(&Actor::user("alice"), job));
    assert_eq!(refused, Err(HoldRefusal::NotWaiting(job)));
    let second = world.submit(1, &[]);
    world.decide(|draft| draft.hold(&Actor::operator("oar"), second)).unwrap();
    world.delete(second).unwrap();
    assert_eq!(world.state(second), JobState::Error);
}

#[test]
fn a_best_effort_job_makes_room_and_an_idempotent_one_comes_back() {
    let mut world = World::new(1);
    let modest = world.submit_as("bob", "nodes=1,walltime=8", |job| {
        job.types = types(&["besteffort", "idempotent"]);
    });
    let modest = modest.unwrap();
    world.acknowledge(modest, [1]);
    let job = world.submit(1, &[]);
    assert_eq!(world.to_kill(1), [(modest, 1)]);
    assert_eq!((world.state(modest), world.state(job)), (JobState::Waiting, JobState::Waiting));
    assert_eq!(wait(&world, job), Wait::Leaving);
    let expected = [EventKind::BesteffortKill, EventKind::ResubmitJobAutomatically];
    assert_eq!(world.kinds(modest), expected);
    world.report_of(1, modest, 1, failed(Fault::Killed, "")).unwrap();
    assert!(launched(&world, job));
    assert_eq!(wait(&world, modest), Wait::NothingLeft);
    world.acknowledge(job, [1]);
    world.report(1, job, OK).unwrap();
    assert!(launched(&world, modest));
    assert_eq!(world.jobs[&modest].requeues, 0, "nothing was lost");
}

#[test]
fn a_best_effort_job_that_is_not_idempotent_ends_and_one_that_had_not_begun_goes_at_once() {
    let mut world = World::new(2);
    let best_effort = |world: &mut World| {
        world.submit_as("bob", "nodes=1", |job| job.queue = Some("besteffort".to_owned())).unwrap()
    };
    let (first, second) = (best_effort(&mut world), best_effort(&mut world));
    world.acknowledge(first, [1]);
    let job = world.submit(2, &[]);
    assert_eq!((world.state(first), world.state(second)), (JobState::Running, JobState::Error));
    world.report(1, first, failed(Fault::Killed, "")).unwrap();
    assert_eq!(world.state(first), JobState::Error);
    assert!(world.jobs[&first].message().contains("makes room for job 3"));
    assert!(launched(&world, job));
}

#[test]
fn a_reservation_is_kept_and_nobody_runs_into_it() {
    let mut world = World::new(2);
    let at = in_minutes(&world, 60);
    let reserved =
        world.submit_as("alice", "nodes=2,walltime=1", |job| job.reservation = Some(at.clone()));
    let reserved = reserved.unwrap();
    let start = world.jobs[&reserved].request.reservation.unwrap();
    assert_eq!(wait(&world, reserved), Wait::NotBefore(start));
    let refused = world.submit_as("bob", "nodes=1,walltime=1", |job| job.reservation = Some(at));
    assert!(matches!(refused, Err(SubmitRefusal::Reservation(_))), "{refused:?}");

    let short = world.submit_as("bob", "nodes=1,walltime=0:50", |_| {}).unwrap();
    let long = world.submit_as("bob", "nodes=1,walltime=1", |_| {}).unwrap();
    assert!(launched(&world, short));
    let Wait::Planned { start: planned, .. } = wait(&world, long) else { panic!("it waits") };
    assert!(planned >= start + Duration::from_secs(3_600));
    world.acknowledge(short, [1]);
    world.report(1, short, OK).unwrap();
    assert_eq!(world.state(reserved), JobState::Waiting);
    for _ in 0..120 {
        world.pass(30, [1, 2]);
    }
    assert!(launched(&world, reserved));
    assert_eq!(world.nodes_of(reserved), [1, 2]);
}

#[test]
fn a_reservation_whose_node_is_lost_takes_another_one_or_ends() {
    let mut world = World::new(3);
    let at = in_minutes(&world, 2);
    let reserve = |world: &mut World, nodes: &str| {
        let at = at.clone();
        world.submit_as("alice", nodes, |job| job.reservation = Some(at)).unwrap()
    };
    let one = reserve(&mut world, "nodes=1,walltime=0:10");
    let two = reserve(&mut world, "nodes=2,walltime=0:10");
    for _ in 0..4 {
        world.pass(30, [2, 3]);
    }
    assert_eq!(world.nodes_of(two), [2, 3]);
    assert!(
        matches!(wait(&world, one), Wait::TooFew { alive: 8, silent: 4 }),
        "{:?}",
        wait(&world, one)
    );
    for _ in 0..20 {
        world.pass(30, []);
    }
    assert_eq!(world.state(one), JobState::Error);
    assert_eq!(world.kinds(one).first(), Some(&EventKind::ReservationNoNode));
}

#[test]
fn dates_are_obeyed() {
    let mut world = World::new(1);
    let dated = |world: &mut World, name: &str, minutes: u64| {
        let kind = format!("{name}={}", in_minutes(world, minutes));
        world
            .submit_as("alice", "nodes=1,walltime=0:10", |job| job.types = types(&[&kind]))
            .unwrap()
    };
    let postponed = dated(&mut world, "postpone", 1);
    assert!(matches!(wait(&world, postponed), Wait::NotBefore(_)));
    let runs = world.submit_as("alice", "nodes=1,walltime=1", |_| {}).unwrap();
    let (expires, ends) = (dated(&mut world, "expire", 1), dated(&mut world, "deadline", 11));
    world.acknowledge(runs, [1]);
    world.pass(50, [1]);
    assert_eq!((world.state(expires), world.state(ends)), (JobState::Waiting, JobState::Waiting));
    world.pass(50, [1]);
    for (job, says) in [(expires, "expired"), (ends, "deadline")] {
        assert_eq!(world.state(job), JobState::Error);
        assert!(world.jobs[&job].message().contains(says), "{}", world.jobs[&job].message());
    }
    world.report(1, runs, OK).unwrap();
    assert!(launched(&world, postponed));
}

#[test]
fn who_used_less_goes_first_but_nobody_waits_for_ever() {
    let mut world = World::new(1);
    let first = world.submit_as("alice", "nodes=1,walltime=1", |_| {}).unwrap();
    world.acknowledge(first, [1]);
    for _ in 0..20 {
        world.pass(30, [1]);
    }
    let second = world.submit_as("alice", "nodes=1,walltime=1", |_| {}).unwrap();
    let other = world.submit_as("bob", "nodes=1,walltime=1", |_| {}).unwrap();
    world.report(1, first, OK).unwrap();
    assert!(launched(&world, other) && !launched(&world, second), "alice has used the node before");
    // A day later nothing goes before it any more.
    world.acknowledge(other, [1]);
    world.report(1, other, failed(Fault::Job, "no")).unwrap();
    assert!(launched(&world, second));
    world.acknowledge(second, [1]);
    let waiting = world.submit_as("alice", "nodes=1,walltime=1", |_| {}).unwrap();
    world.now = world.now + coordinator_core::STARVING;
    let newer = world.submit_as("carol", "nodes=1,walltime=1", |_| {}).unwrap();
    world.report(1, second, OK).unwrap();
    assert!(launched(&world, waiting) && !launched(&world, newer));
}

#[test]
fn quotas_bound_what_runs_at_once() {
    let mut world = World::new(4);
    world.policy.quotas = vec!["*,*,*,/ = -1,2,-1".parse().unwrap()];
    let jobs: Vec<JobId> = (0..3).map(|_| world.submit(1, &[])).collect();
    let other = world.submit_as("bob", "nodes=1", |_| {}).unwrap();
    assert!(launched(&world, jobs[0]) && launched(&world, jobs[1]) && launched(&world, other));
    assert_eq!(wait(&world, jobs[2]), Wait::Quota("*,*,*,/ = -1,2,-1".to_owned()));
    world.acknowledge(jobs[0], [1]);
    world.report(1, jobs[0], OK).unwrap();
    assert!(launched(&world, jobs[2]));
}

#[test]
fn a_node_that_is_taken_away_takes_part_again_when_it_is_heard() {
    let mut world = World::new(2);
    let job = world.submit(1, &["idempotent"]);
    world.acknowledge(job, [1]);
    let absent = coordinator_api::resource::ResourceState::Absent;
    world.decide(|draft| draft.set_node_state(NodeNumber(1), absent)).unwrap();
    assert_eq!(world.nodes_of(job), [2], "what ran there runs elsewhere");
    world.heard(1);
    assert_eq!(world.cluster.node(NodeNumber(1)).unwrap().state, absent);
    let alive = coordinator_api::resource::ResourceState::Alive;
    world.decide(|draft| draft.set_node_state(NodeNumber(1), alive)).unwrap();
    world.heard(1);
    assert_eq!(world.cluster.node(NodeNumber(1)).unwrap().state, alive);
    world.decide(|draft| draft.set_node_property(NodeNumber(1), "drain", "YES")).unwrap();
    let next = world.submit(1, &[]);
    assert_eq!(world.state(next), JobState::Waiting, "a node that runs dry takes nothing");
}

#[derive(Clone, Debug)]
struct Wanted {
    user: usize,
    resource: &'static str,
    minutes: u64,
    best_effort: bool,
    /// Minutes from now.
    reservation: Option<u64>,
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let resources = vec![
        "nodes=1",
        "nodes=2",
        "nodes=3",
        "core=1",
        "core=5",
        "nodes=2/core=2",
        "nodes=1/core=3",
    ];
    let resource = proptest::sample::select(resources);
    let reservation = proptest::option::weighted(0.2, 0..120_u64);
    (0..3_usize, resource, 1..90_u64, proptest::bool::weighted(0.2), reservation).prop_map(
        |(user, resource, minutes, best_effort, reservation)| {
            let reservation = reservation.filter(|_| !best_effort);
            Wanted { user, resource, minutes, best_effort, reservation }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nodes obey, every job uses its whole walltime: each one runs, nobody runs into a reservation, and every
    /// reservation starts in its minute. `World::check` holds that no core has two jobs.
    #[test]
    fn everybody_runs_and_reservations_are_kept(jobs in proptest::collection::vec(wanted(), 1..25)) {
        let mut world = World::new(3);
        let mut reservations = Vec::new();
        let mut ids = Vec::new();
        for wanted in jobs {
            let at = wanted.reservation.map(|minutes| in_minutes(&world, minutes));
            let user = ["alice", "bob", "carol"][wanted.user];
            let resource = format!("{},walltime=0:{}", wanted.resource, wanted.minutes);
            let taken = world.submit_as(user, &resource, |job| {
                job.reservation = at;
                if wanted.best_effort {
                    job.types = types(&["besteffort", "idempotent"]);
                }
            });
            if let Ok(id) = taken {
                ids.push(id);
                reservations.extend(world.jobs[&id].request.reservation.map(|start| (id, start)));
            }
        }
        let again = everything(&world);
        prop_assert_eq!(again, everything(&world), "same input, same plan");
        // 25 jobs of 90 minutes and their launches one after the other, and reservations in between.
        for _ in 0..2 * (25 * 95 + 240) {
            let nodes: Vec<u64> = (1..=3).collect();
            for &node in &nodes {
                for (id, generation) in world.to_kill(node) {
                    world.report_of(node, id, generation, failed(Fault::Killed, "")).unwrap();
                }
                while let Some((id, _)) = world.to_launch(node) {
                    world.acknowledge(id, [node]);
                }
            }
            for &(id, start) in &reservations {
                let job = &world.jobs[&id];
                let late = world.now.since(start);
                prop_assert!(job.started.is_some() || late < Duration::from_secs(60), "{} is late", id);
            }
            if world.cluster.jobs().len() == 0 {
                break;
            }
            world.pass(30, nodes);
        }
        for id in ids {
            prop_assert!(world.jobs[&id].started.is_some() && world.state(id).is_final(), "{:?}", world.jobs[&id]);
        }
    }
}

#[test]
fn a_long_queue_is_planned_in_order() {
    let mut world = World::new(4);
    let request = |text: &str| {
        let submission = coordinator_api::job::SubmitJob {
            command: "true".to_owned(),
            resource: OneOrMany(vec![text.to_owned()]),
            ..coordinator_api::job::SubmitJob::default()
        };
        Request::admit(&submission).unwrap()
    };
    world.apply(|draft| {
        for _ in 0..500 {
            draft.submit("alice", request("core=1,walltime=1")).unwrap();
        }
    });
    let plan = everything(&world);
    let start = |wait: &Wait| {
        let Wait::Planned { start, .. } = wait else { panic!("{wait:?}") };
        *start
    };
    let starts: Vec<_> = plan.waits.values().map(start).collect();
    assert_eq!(starts.len(), 500 - 4 * usize::from(CORES));
    assert!(starts.is_sorted());
}
