//! Volunteers that vanish, hang or are busy, and a coordinator that is away.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/probes.rs"]
mod probes;
#[path = "common/shared.rs"]
mod shared;
#[path = "common/worlds.rs"]
mod worlds;

use std::time::Duration;

use coordinator_api::job::{Job, JobState};
use netsim::wait;
use netsim::world::{Submission, World};
use netsim_scenario::Preset;
use netsim_scenario::resolved::Coordinator;
use nix::sys::signal::Signal;

use probes::{end, probes, submit_probe};
use shared::Shared;
use worlds::SOON;

static WORLD: Shared = Shared::new();

const VOLUNTEERS: [(Preset, u16); 3] = [(Preset::Home, 1), (Preset::Home, 1), (Preset::None, 1)];

/// A launch must fail before the node that spoils it is suspected: otherwise it would not be chosen.
fn settings() -> Coordinator {
    Coordinator {
        poll_interval: Duration::from_millis(300),
        launch_deadline: Duration::from_secs(6),
        node_timeout: Duration::from_secs(9),
        ..Coordinator::default()
    }
}

/// The index of the volunteer with that host name.
fn index(world: &World, host: &str) -> usize {
    world.volunteers.iter().position(|v| v.host == host).unwrap()
}

/// Whether an event or the message of the job contains all of `words`.
fn says(job: &Job, words: &[&str]) -> bool {
    let texts = job.events.iter().map(|event| &event.description).chain([&job.message]);
    texts.into_iter().any(|text| words.iter().all(|word| text.contains(word)))
}

fn assert_all_free(world: &World) {
    let id = world.scientist().submit(&Submission::new("true", 3, &["mesh", "spmd"])).unwrap();
    let job = world.scientist().wait_for_end(id, SOON).unwrap();
    assert_eq!((job.state, job.exit_code), (JobState::Terminated, Some(0)), "{job:?}");
}

#[test]
fn a_volunteer_killed_under_a_running_job_ends_it_and_frees_the_others() {
    let _alone = common::alone();
    WORLD.with(&settings(), &VOLUNTEERS, |world| {
        let id = submit_probe(world, "victim", 2, &[]);
        let networks = probes(world, "victim", 2);
        let victim = index(world, &networks[1].host);
        let host = networks[1].host.clone();

        world.volunteers[victim].pull_the_plug();

        let job = world.scientist().wait_for_end(id, SOON).unwrap();
        assert_eq!(job.state, JobState::Error);
        assert!(says(&job, &[&host]), "the lost node is not named: {job:?}");
        let survivor = index(world, &networks[0].host);
        let gone = wait::until("the end of the survivor's job", SOON, || {
            world.job_networks().unwrap().is_empty().then_some(())
        });
        gone.unwrap_or_else(|e| panic!("{e}: {:?}", world.volunteers[survivor].processes()));
        world.start_agent(victim).unwrap();
        world.wait_until_alive(3, SOON).unwrap();
        assert_all_free(world);
    });
}

#[test]
fn a_node_that_never_polls_makes_the_launch_fail_and_the_job_runs_elsewhere() {
    let _alone = common::alone();
    WORLD.with(&settings(), &VOLUNTEERS, |world| {
        // All three hang, so that whichever is chosen does; two come back.
        for volunteer in &mut world.volunteers {
            volunteer.agent().unwrap().signal(Signal::SIGSTOP);
        }
        let id = submit_probe(world, "elsewhere", 2, &[]);
        let chosen = world
            .scientist()
            .wait_for_job(id, "its assignment", SOON, |job| {
                job.start_time > 0 || job.state == JobState::ToLaunch
            })
            .unwrap();
        assert_eq!(chosen.state, JobState::ToLaunch);
        let nodes =
            world.scientist().api(move |client| async move { client.job_nodes(id).await }).unwrap();
        let hung = nodes.items[0].network_address.clone();
        for volunteer in world.volunteers.iter_mut().filter(|v| v.host != hung) {
            volunteer.agent().unwrap().signal(Signal::SIGCONT);
        }

        let networks = probes(world, "elsewhere", 2);

        assert!(networks.iter().all(|network| network.host != hung), "{networks:?}");
        let job = world.scientist().job(id).unwrap();
        assert!(says(&job, &[&hung]), "the reason is not told: {job:?}");
        let returned = index(world, &hung);
        world.volunteers[returned].agent().unwrap().signal(Signal::SIGCONT);
        end(&networks, 0);
        assert_eq!(world.scientist().wait_for_end(id, SOON).unwrap().state, JobState::Terminated);
        world.wait_until_alive(3, SOON).unwrap();
        assert_all_free(world);
    });
}

#[test]
fn a_node_that_dies_before_the_mesh_is_ready_costs_one_launch() {
    let _alone = common::alone();
    WORLD.with(&settings(), &VOLUNTEERS, |world| {
        // With one of two nodes hung the mesh cannot become ready; the other one takes the job.
        for volunteer in &mut world.volunteers {
            volunteer.agent().unwrap().signal(Signal::SIGSTOP);
        }
        let id = submit_probe(world, "early", 2, &[]);
        world
            .scientist()
            .wait_for_job(id, "its assignment", SOON, |job| job.state == JobState::ToLaunch)
            .unwrap();
        let nodes =
            world.scientist().api(move |client| async move { client.job_nodes(id).await }).unwrap();
        let [doomed, hung] = [0, 1].map(|i: usize| nodes.items[i].network_address.clone());
        for volunteer in world.volunteers.iter_mut().filter(|v| v.host != hung) {
            volunteer.agent().unwrap().signal(Signal::SIGCONT);
        }
        world
            .scientist()
            .wait_for_job(id, "Launching", SOON, |job| job.state == JobState::Launching)
            .unwrap();
        let doomed_index = index(world, &doomed);
        world.volunteers[doomed_index].pull_the_plug();
        let hung_index = index(world, &hung);
        world.volunteers[hung_index].agent().unwrap().signal(Signal::SIGCONT);

        let networks = probes(world, "early", 2);

        assert!(networks.iter().all(|network| network.host != doomed), "{networks:?}");
        let job = world.scientist().job(id).unwrap();
        assert!(says(&job, &[&doomed]), "the reason is not told: {job:?}");
        end(&networks, 0);
        assert_eq!(world.scientist().wait_for_end(id, SOON).unwrap().state, JobState::Terminated);
        world.start_agent(doomed_index).unwrap();
        world.wait_until_alive(3, SOON).unwrap();
    });
}

#[test]
fn a_job_for_nodes_that_are_taken_waits_and_then_runs() {
    let _alone = common::alone();
    WORLD.with(&settings(), &VOLUNTEERS, |world| {
        let first = submit_probe(world, "first", 2, &[]);
        let networks = probes(world, "first", 2);
        let second =
            world.scientist().submit(&Submission::new("true", 2, &["mesh", "spmd"])).unwrap();
        // A third fits on the free node only if the second, which is first in the queue, waits.
        let waiting = world.scientist().job(second).unwrap();
        assert_eq!(waiting.state, JobState::Waiting, "{waiting:?}");

        // A node is free when its own part has ended: the second may start before the first is final.
        end(&networks, 0);

        for id in [first, second] {
            let job = world.scientist().wait_for_end(id, SOON).unwrap();
            assert_eq!((job.state, job.exit_code), (JobState::Terminated, Some(0)), "{job:?}");
        }
    });
}

#[test]
fn an_agent_waits_for_a_coordinator_that_is_down_and_then_joins() {
    let _alone = common::alone();
    WORLD.with(&settings(), &VOLUNTEERS, |world| {
        let count = world.volunteers.len();
        let late = world.add_volunteer(Preset::Home, 1).unwrap();
        let token = world.servers[0].token().unwrap();
        world.servers[0].stop().unwrap();

        world.start_agent_with(late, &["--join", &token]).unwrap();
        let agent = world.volunteers[late].agent().unwrap();
        agent
            .wait_for("a word on the coordinator", SOON, |agent| {
                agent.log().contains("cannot reach").then_some(())
            })
            .unwrap();
        assert!(agent.ended().is_none());

        world.servers[0].start().unwrap();
        world.wait_until_alive(count + 1, SOON).unwrap();
        let mut added = world.volunteers.pop().unwrap();
        added.stop_agent().unwrap();
        let every = Duration::from_millis(500);
        let fewer = wait::until_every(every, "the suspicion of a node that left", SOON, || {
            let nodes = world.scientist().oar_nodes().ok()?;
            let alive = nodes.iter().filter(|(_, state)| state == "Alive").count();
            (alive == count).then_some(())
        });
        fewer.unwrap();
    });
}
