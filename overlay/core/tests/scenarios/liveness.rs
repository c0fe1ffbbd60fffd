//! Paths and relays that die and come back.

use std::time::Duration;

use netsim_sim::{Change, NatProfile, PUBLIC};
use netsim_virtual::{LINK, World};
use overlay_core::{Input, MeshId, Path};

use crate::{with_mesh, world};

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
fn data_flows_again_two_seconds_after_a_direct_path_died_and_goes_direct_when_it_is_back() {
    for seed in 0..5 {
        let (mut world, mesh) = direct_pair(seed);
        talk(&mut world, mesh, 0, 2);
        cut(&mut world);
        let arrived = talk(&mut world, mesh, 100, 20);
        assert!(arrived[21..].iter().all(|arrived| *arrived), "seed {seed}: {arrived:?}");
        assert!(!world.is_direct(mesh, 0, 1), "seed {seed}");
        assert!(world.pair(mesh, 0, 1).explain.contains("fell silent"));
        mend(&mut world);
        let arrived = talk(&mut world, mesh, 1000, 100);
        assert!(arrived.iter().all(|arrived| *arrived), "seed {seed}");
        assert!(world.is_direct(mesh, 0, 1) && world.is_direct(mesh, 1, 0), "seed {seed}");
    }
}

#[test]
fn silence_is_told_as_soon_as_packets_take_another_way() {
    let (mut world, mesh) = direct_pair(7);
    talk(&mut world, mesh, 0, 2);
    cut(&mut world);
    talk(&mut world, mesh, 100, 3);
    assert!(world.is_direct(mesh, 0, 1), "it is not given up yet");
    let told = &world.pair(mesh, 0, 1).explain;
    assert_eq!(*told, "the direct path does not answer; packets go through the relay, too");
    mend(&mut world);
    talk(&mut world, mesh, 1000, 10);
    assert_eq!(world.pair(mesh, 0, 1).explain, "");

    let host = world.nodes[1].host;
    world.apply(Change::LinkDown(host));
    for number in 2000..2200 {
        world.send_data(mesh, 0, 1, number);
        world.run_for(Duration::from_millis(100));
    }
    assert!(!world.is_direct(mesh, 0, 1));
    assert_eq!(
        world.pair(mesh, 0, 1).explain,
        "the peer does not answer, through the relay either"
    );
}

#[test]
fn a_peer_whose_part_has_ended_is_never_said_to_have_fallen_silent() {
    let (mut world, mesh) = direct_pair(4);
    talk(&mut world, mesh, 0, 2);
    let node = world.key(mesh, 1).peer;
    world.input(0, Input::Member { mesh, node, ended: true });
    assert_eq!(world.pair(mesh, 0, 1).explain, "", "it is direct all the same");
    let host = world.nodes[1].host;
    world.apply(Change::LinkDown(host));
    for number in 100..300 {
        world.send_data(mesh, 0, 1, number);
        world.run_for(Duration::from_millis(100));
        let told = &world.pair(mesh, 0, 1).explain;
        assert!(told.is_empty() || told == "the peer's part of the job has ended", "{told}");
    }
    assert!(!world.is_direct(mesh, 0, 1));
    // It is back: silence means something again.
    world.input(0, Input::Member { mesh, node, ended: false });
    world.run_for(Duration::from_secs(1));
    assert!(world.pair(mesh, 0, 1).explain.contains("does not answer"));
}

#[test]
fn relay_that_restarts_under_data_is_bound_again_within_three_seconds() {
    for seed in 0..5 {
        let (mut world, mesh) = with_mesh(seed, &[HARD, HARD], LINK);
        world.run_for(Duration::from_secs(10));
        talk(&mut world, mesh, 0, 2);
        world.servers[0].relay.restart();
        let arrived = talk(&mut world, mesh, 100, 40);
        assert!(arrived[30..].iter().all(|arrived| *arrived), "seed {seed}: {arrived:?}");
    }
}

#[test]
fn relay_that_restarts_unnoticed_is_bound_again_by_the_next_keepalive() {
    for is_old in [false, true] {
        let mut world = world(3);
        world.servers[0].relay.is_old = is_old;
        world.add_node(HARD, LINK);
        world.add_node(HARD, LINK);
        world.run_for(Duration::from_secs(2));
        let mesh = MeshId { job: 1, generation: 1 };
        world.join(mesh);
        world.run_for(Duration::from_secs(60));
        world.servers[0].relay.restart();
        world.run_for(Duration::from_secs(25));
        let arrived = talk(&mut world, mesh, 0, 1);
        assert!(arrived.iter().all(|arrived| *arrived), "{arrived:?}, old: {is_old}");
    }
}

#[test]
fn relay_that_was_down_for_a_minute_is_bound_again() {
    let (mut world, mesh) = with_mesh(9, &[HARD, HARD], LINK);
    world.run_for(Duration::from_secs(10));
    world.servers[0].relay.down = true;
    world.run_for(Duration::from_secs(60));
    world.servers[0].relay.restart();
    world.run_for(Duration::from_secs(8));
    let arrived = talk(&mut world, mesh, 0, 5);
    assert!(arrived.iter().all(|arrived| *arrived), "{arrived:?}");
}

#[test]
fn data_flows_again_five_seconds_after_a_nat_reboot_either_side() {
    for (seed, index) in (0..10).flat_map(|seed| [(seed, 0), (seed, 1)]) {
        let (mut world, mesh) = direct_pair(seed);
        talk(&mut world, mesh, 0, 2);
        let realm = world.net.realm_of(world.nodes[index].host);
        let nat = world.net.gateway(realm).unwrap();
        world.net.apply(Change::NatReboot(nat));
        let arrived = talk(&mut world, mesh, 100, 30);
        assert!(arrived[50..].iter().all(|arrived| *arrived), "seed {seed}, {index}: {arrived:?}");
        let arrived = talk(&mut world, mesh, 1000, 70);
        assert!(arrived.iter().all(|arrived| *arrived), "seed {seed}, {index}");
        assert!(world.is_direct(mesh, 0, 1) && world.is_direct(mesh, 1, 0), "seed {seed}, {index}");
    }
}

#[test]
fn data_reaches_a_node_three_seconds_after_it_moved_to_another_network() {
    for (seed, index) in (0..5).flat_map(|seed| [(seed, 0), (seed, 1)]) {
        let (mut world, mesh) = direct_pair(seed);
        talk(&mut world, mesh, 0, 2);
        let (_, realm) = world.net.add_nat(PUBLIC, NatProfile::HOME, LINK);
        let host = world.nodes[index].host;
        world.net.move_host(host, realm);
        world.connect(index);
        let arrived = talk(&mut world, mesh, 100, 30);
        assert!(arrived[30..].iter().all(|arrived| *arrived), "seed {seed}, {index}: {arrived:?}");
        let outside = world.net.public_address(host);
        let path = world.pair(mesh, 1 - index, index).path;
        assert!(matches!(path, Some(Path::Direct(to)) if to.ip() == outside), "{path:?}");
    }
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
