//! Agents whose data plane has two workers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/probes.rs"]
mod probes;
#[path = "common/shared.rs"]
mod shared;
#[path = "common/worlds.rs"]
mod worlds;

use std::fs;
use std::time::Duration;

use netsim::wait;
use netsim::world::World;
use netsim_scenario::Preset;
use netsim_scenario::resolved::Coordinator;

use probes::{end, probes, submit_probe};
use shared::Shared;
use worlds::SOON;

static WORLD: Shared = Shared::new();

/// Pairs of them meet directly, or over the relay.
const VOLUNTEERS: [(Preset, u16); 5] = [
    (Preset::Symmetric, 1),
    (Preset::Symmetric, 1),
    (Preset::Home, 1),
    (Preset::FullCone, 1),
    (Preset::None, 1),
];

fn settings() -> Coordinator {
    Coordinator {
        poll_interval: Duration::from_millis(300),
        launch_deadline: Duration::from_secs(20),
        node_timeout: Duration::from_secs(60),
        ..Coordinator::default()
    }
}

/// The names of the threads of a volunteer's agent.
fn threads(world: &mut World, index: usize) -> Vec<String> {
    let pid = world.volunteers[index].agent().unwrap().pid();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok()).collect()
}

#[test]
fn every_pair_of_a_job_talks_where_all_agents_have_two_workers() {
    let _alone = common::alone();
    WORLD.with(&settings(), &VOLUNTEERS, |world| {
        for index in 0..VOLUNTEERS.len() {
            world.volunteers[index].stop_agent().unwrap();
            world.start_agent_with(index, &["--workers", "2"]).unwrap();
        }
        world.wait_until_alive(VOLUNTEERS.len(), SOON).unwrap();
        submit_probe(world, "shared", VOLUNTEERS.len() as u16, &[]);
        let networks = probes(world, "shared", VOLUNTEERS.len());
        for index in 0..VOLUNTEERS.len() {
            let workers = threads(world, index);
            assert!(workers.iter().any(|name| name.trim() == "overlay-1"), "{workers:?}");
        }
        for from in &networks {
            for to in networks.iter().filter(|to| to.host != from.host) {
                for protocol in ["tcp", "udp"] {
                    let (ip, port) = (to.ipv4.unwrap(), netsim::probe::TOKEN_PORT);
                    let target = format!("{protocol}:{ip}:{port}");
                    let answer = wait::until(format!("{target} from {}", from.host), SOON, || {
                        from.probe().ok()?.dial(&target).ok()?.ok()
                    });
                    assert_eq!(answer.unwrap(), "shared");
                }
            }
        }
        end(&networks, 0);
    });
}
