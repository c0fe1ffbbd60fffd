//! From the relay to a direct path.

use std::time::Duration;

use netsim_sim::{Link, NatProfile};
use netsim_virtual::{LINK, World};
use overlay_core::MeshId;

use crate::{with_mesh, world};

const HOME: &[NatProfile] = &[NatProfile::HOME];

/// Both sides send a packet every 5 ms; the numbers sent so far.
fn talk(world: &mut World, mesh: MeshId, from: u64, duration: Duration) -> u64 {
    let mut number = from;
    let end = world.now() + duration;
    while world.now() < end {
        world.send_data(mesh, 0, 1, number);
        world.send_data(mesh, 1, 0, number);
        number += 1;
        world.run_for(Duration::from_millis(5));
    }
    number
}

#[test]
fn promotion_loses_no_packet() {
    for seed in 0..20 {
        let (mut world, mesh) = with_mesh(seed, &[HOME, HOME], LINK);
        let limit = Duration::from_secs(2);
        assert!(world.run_until(limit, |world| world.all_pairs(mesh, |pair| pair.established)));
        let sent = talk(&mut world, mesh, 0, Duration::from_secs(5));
        world.run_for(Duration::from_secs(1));
        assert!(world.is_direct(mesh, 0, 1) && world.is_direct(mesh, 1, 0), "seed {seed}");
        for (index, peer) in [(0, 1), (1, 0)] {
            let received = &world.nodes[index].received[&world.key(mesh, peer)];
            assert_eq!(received.len() as u64, sent, "seed {seed}, node {index}");
        }
    }
}

#[test]
fn direct_paths_are_found_through_ten_percent_loss() {
    let lossy = Link { loss: 0.05, ..LINK };
    for seed in 0..50 {
        // Two links each way: close to 10 % per direction.
        let (mut world, mesh) = with_mesh(seed, &[&[], &[], HOME], lossy);
        world.run_for(Duration::from_secs(15));
        let direct = world.all_pairs(mesh, |pair| pair.explain.is_empty() && pair.settled);
        assert!(direct, "seed {seed}: {:?}", world.nodes[0].pairs);
    }
}

#[test]
fn lossy_direct_path_in_use_is_not_given_up() {
    let lossy = Link { loss: 0.05, ..LINK };
    let (mut world, mesh) = with_mesh(3, &[&[], HOME], lossy);
    world.run_for(Duration::from_secs(15));
    talk(&mut world, mesh, 0, Duration::from_secs(120));
    let demotions: u64 = world.nodes.iter().map(|node| node.node.stats().demotions).sum();
    assert_eq!(demotions, 0);
}

#[test]
fn path_that_carries_only_small_packets_is_not_taken() {
    let mut world = world(1);
    world.direct_mtu = 1279;
    world.add_node(&[], LINK);
    world.add_node(&[], LINK);
    world.run_for(Duration::from_secs(2));
    let mesh = MeshId { job: 1, generation: 1 };
    world.join(mesh);
    world.run_for(Duration::from_secs(20));
    assert!(!world.is_direct(mesh, 0, 1));
    let pair = world.pair(mesh, 0, 1);
    assert!(pair.settled && pair.explain.contains("full size"), "{:?}", pair.explain);
}

#[test]
fn coordinator_hears_of_what_matters_only() {
    let hard: &[NatProfile] = &[NatProfile::SYMMETRIC];
    let (mut world, mesh) = with_mesh(2, &[HOME, hard, hard], LINK);
    world.run_for(Duration::from_secs(600));
    for peer in [1, 2] {
        let key = world.key(mesh, peer);
        let history: Vec<_> =
            world.nodes[0].history.iter().filter(|(_, session, _)| *session == key).collect();
        assert!(history.len() <= 8, "{} reports: {history:#?}", history.len());
    }
}

#[test]
fn hopeless_pair_stops_trying_so_hard() {
    let hard: &[NatProfile] = &[NatProfile::SYMMETRIC];
    let (mut world, _) = with_mesh(2, &[hard, hard], LINK);
    world.run_for(Duration::from_secs(200));
    let before = world.nodes[0].node.stats().pings_sent;
    world.run_for(Duration::from_secs(3600));
    let pings = world.nodes[0].node.stats().pings_sent - before;
    assert!(pings <= 100, "{pings} pings in an hour");
}
