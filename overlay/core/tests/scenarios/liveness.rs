//! Paths and relays that die and come back.

use std::time::Duration;

use netsim_sim::{NatProfile, PUBLIC};
use netsim_virtual::{LINK, World};
use overlay_core::{Input, MeshId, Path};

use crate::with_mesh;

const HOME: &[NatProfile] = &[NatProfile::HOME];
const HARD: &[NatProfile] = &[NatProfile::SYMMETRIC];

fn direct_pair(seed: u64) -> (World, MeshId) {
    let (mut world, mesh) = with_mesh(seed, &[HOME, HOME], LINK);
    world.run_for(Duration::from_secs(10));
    assert!(world.is_direct(mesh, 0, 1) && world.is_direct(mesh, 1, 0));
    (world, mesh)
}

/// Node 0 sends a packet every 100 ms; which of them have arrived in the end.
fn talk(world: &mut World, mesh: MeshId, first: u64, seconds: u64) -> Vec<bool> {
    let numbers = first..first + seconds * 10;
    for number in numbers.clone() {
        world.send_data(mesh, 0, 1, number);
        world.run_for(Duration::from_millis(100));
    }
    world.run_for(Duration::from_secs(1));
    let received = &world.nodes[1].received[&world.key(mesh, 0)];
    numbers.map(|number| received.contains(&number)).collect()
}

fn cut(world: &mut World) {
    let addresses = [0, 1].map(|index| world.net.public_address(world.nodes[index].host));
    world.net.block(addresses[0], addresses[1]);
}

fn mend(world: &mut World) {
    let addresses = [0, 1].map(|index| world.net.public_address(world.nodes[index].host));
    world.net.unblock(addresses[0], addresses[1]);
}

#[test]
fn dead_direct_path_falls_back_to_the_relay_and_returns() {
    for seed in 0..5 {
        let (mut world, mesh) = direct_pair(seed);
        cut(&mut world);
        let arrived = talk(&mut world, mesh, 0, 30);
        // Doubted 6.5 s after the first unanswered heartbeat, which comes within 3 s.
        assert!(arrived[100..].iter().all(|arrived| *arrived), "seed {seed}: {arrived:?}");
        assert!(!world.is_direct(mesh, 0, 1), "seed {seed}");
        assert!(world.pair(mesh, 0, 1).explain.contains("fell silent"));
        mend(&mut world);
        let limit = Duration::from_secs(100);
        assert!(world.run_until(limit, |world| {
            world.is_direct(mesh, 0, 1) && world.is_direct(mesh, 1, 0)
        }));
    }
}

#[test]
fn idle_direct_path_that_dies_is_noticed_too() {
    let (mut world, mesh) = direct_pair(1);
    cut(&mut world);
    world.run_for(Duration::from_secs(35));
    assert!(!world.is_direct(mesh, 0, 1) && !world.is_direct(mesh, 1, 0));
}

#[test]
fn relay_that_restarts_is_bound_again() {
    for seed in 0..5 {
        let (mut world, mesh) = with_mesh(seed, &[HARD, HARD], LINK);
        world.run_for(Duration::from_secs(10));
        world.relay.restart();
        let arrived = talk(&mut world, mesh, 0, 40);
        // Each side notices by its own refresh, at the latest after 20 s.
        assert!(arrived[210..].iter().all(|arrived| *arrived), "seed {seed}: {arrived:?}");
    }
}

#[test]
fn relay_that_was_down_for_a_minute_is_bound_again() {
    let (mut world, mesh) = with_mesh(9, &[HARD, HARD], LINK);
    world.run_for(Duration::from_secs(10));
    world.relay.down = true;
    world.run_for(Duration::from_secs(60));
    world.relay.restart();
    world.run_for(Duration::from_secs(8));
    let arrived = talk(&mut world, mesh, 0, 5);
    assert!(arrived.iter().all(|arrived| *arrived), "{arrived:?}");
}

#[test]
fn nat_that_reboots_is_punched_again() {
    let (mut world, mesh) = direct_pair(2);
    let realm = world.net.realm_of(world.nodes[0].host);
    let nat = world.net.gateway(realm).unwrap();
    world.net.flush_nat(nat);
    talk(&mut world, mesh, 0, 60);
    let limit = Duration::from_secs(100);
    assert!(
        world.run_until(limit, |world| {
            world.is_direct(mesh, 0, 1) && world.is_direct(mesh, 1, 0)
        })
    );
}

#[test]
fn node_that_moves_to_another_network_is_found_there() {
    let (mut world, mesh) = direct_pair(3);
    let (_, realm) = world.net.add_nat(PUBLIC, NatProfile::HOME, LINK);
    let host = world.nodes[0].host;
    world.net.move_host(host, realm);
    world.connect(0);
    let outside = world.net.public_address(host);
    let found = |world: &World| matches!(world.pair(mesh, 1, 0).path, Some(Path::Direct(to)) if to.ip() == outside);
    assert!(world.run_until(Duration::from_secs(40), found));
    let arrived = talk(&mut world, mesh, 0, 5);
    assert!(arrived.iter().all(|arrived| *arrived), "{arrived:?}");
}

#[test]
fn keys_lost_at_the_other_end_are_renewed() {
    let (mut world, mesh) = with_mesh(4, &[HARD, HARD], LINK);
    world.run_for(Duration::from_secs(10));
    let initiator = usize::from(world.nodes[0].id > world.nodes[1].id);
    world.forget_keys(1 - initiator);
    for number in 0..400 {
        world.send_data(mesh, initiator, 1 - initiator, number);
        world.run_for(Duration::from_millis(100));
    }
    world.run_for(Duration::from_secs(1));
    let received = &world.nodes[1 - initiator].received[&world.key(mesh, initiator)];
    assert!(received.contains(&399));
}

#[test]
fn peer_that_starts_again_is_noticed_though_nothing_is_sent() {
    let (mut world, mesh) = with_mesh(4, &[HARD, HARD], LINK);
    world.run_for(Duration::from_secs(10));
    let initiator = usize::from(world.nodes[0].id > world.nodes[1].id);
    let key = world.key(mesh, 1 - initiator);
    let before = world.nodes[initiator].initiated[&key];
    world.forget_keys(1 - initiator);
    let announced = world.nodes[1 - initiator].node.snapshot().candidates.unwrap();
    world.input(initiator, Input::Candidates(announced));
    world.run_for(Duration::from_secs(10));
    assert!(world.nodes[initiator].initiated[&key] > before);
}
