//! Probes as jobs: see `netsim::probe`.

use std::time::Duration;

use netsim::wait;
use netsim::world::{JobNetwork, Submission, World};

use super::worlds::{SOON, fresh_dir};

/// Submits a probe that answers with `token`, on one core of every node of a mesh.
pub(crate) fn submit_probe(world: &World, token: &str, nodes: u16, more: &[&str]) -> u64 {
    let stagein = fresh_dir();
    std::fs::copy(env!("CARGO_BIN_EXE_netsim-probe"), stagein.join("netsim-probe")).unwrap();
    let types = [&["mesh", "spmd"], more].concat();
    let command = format!("./netsim-probe {token}");
    world
        .scientist()
        .submit(&Submission::new(&command, nodes, &types).with_cores(1).with_stagein(&stagein))
        .unwrap()
}

/// Waits until that many probes answer with `token`, and returns their networks, sorted by address.
pub(crate) fn probes(world: &World, token: &str, count: usize) -> Vec<JobNetwork> {
    let every = Duration::from_millis(200);
    let found = wait::until_every(every, format!("{count} probes {token}"), SOON, || {
        let mut networks = world.job_networks().ok()?;
        networks.retain(|network| token_of(network).as_deref() == Some(token));
        networks.sort_by_key(|network| network.ipv4);
        (networks.len() == count).then_some(networks)
    });
    found.unwrap_or_else(|late| panic!("{late}; networks: {:?}", world.job_networks()))
}

fn token_of(network: &JobNetwork) -> Option<String> {
    let own = format!("tcp:127.0.0.1:{}", netsim::probe::TOKEN_PORT);
    network.probe().ok()?.dial(&own).ok()?.ok()
}

/// Tells every probe to end with that status.
pub(crate) fn end(networks: &[JobNetwork], status: u8) {
    for network in networks {
        network.probe().unwrap().exit(status).unwrap();
    }
}
