//! What NATs, small links and neighbours make of the search for a direct path.

use std::time::Duration;

use netsim_sim::{NatProfile, PUBLIC};
use netsim_virtual::{LINK, World};
use overlay_core::netmap::{ObservedMapping, ObservedPorts};
use overlay_core::{Input, MeshId, Path};

use crate::{with_mesh, world};

const HOME: &[NatProfile] = &[NatProfile::HOME];
const HARD: &[NatProfile] = &[NatProfile::SYMMETRIC];
const COUNTS: &[NatProfile] = &[NatProfile::SYMMETRIC_SEQUENTIAL];
const MESH: MeshId = MeshId { job: 1, generation: 1 };

#[test]
fn nat_that_counts_ports_on_is_recognised_and_its_next_port_guessed() {
    for seed in 0..10 {
        for (a, b) in [(COUNTS, HOME), (HOME, COUNTS), (COUNTS, COUNTS)] {
            let (mut world, mesh) = with_mesh(seed, &[a, b], LINK);
            world.run_for(Duration::from_secs(8));
            let view = world.nodes[if a == COUNTS { 0 } else { 1 }].node.snapshot();
            assert_eq!(view.nat.ports, ObservedPorts::Sequential(1));
            let pair = world.pair(mesh, 0, 1);
            assert!(world.is_direct(mesh, 0, 1), "seed {seed}, {a:?} × {b:?}: {pair:?}");
        }
    }
}

#[test]
fn two_random_nats_are_relayed_at_once_and_without_noise() {
    let (mut world, mesh) = with_mesh(3, &[HARD, HARD], LINK);
    assert!(
        world.run_until(Duration::from_secs(1), |world| {
            world.all_pairs(mesh, |pair| pair.settled)
        })
    );
    world.run_for(Duration::from_secs(600));
    for node in &world.nodes {
        assert_eq!(node.node.snapshot().nat.ports, ObservedPorts::Random);
        assert_eq!(node.node.stats().promotions, 0);
        let pings = node.node.stats().pings_sent;
        assert!(pings <= 3, "{pings} pings, and all of them through the relay");
    }
    let explain = &world.pair(mesh, 0, 1).explain;
    assert!(explain.contains("a port mapping on either router would make it direct"), "{explain}");
}

#[test]
fn port_mapping_makes_a_hopeless_pair_direct() {
    let (mut world, mesh) = with_mesh(4, &[HARD, HARD], LINK);
    world.run_for(Duration::from_secs(5));
    assert!(!world.is_direct(mesh, 0, 1));
    // A public third machine stands for the mapping: what counts is that the endpoint is announced.
    let mapped = "198.18.77.77:4000".parse().unwrap();
    world.input(1, Input::PortMapped(vec![mapped]));
    let candidates = world.nodes[1].candidates.clone().unwrap().candidates;
    assert!(candidates.iter().any(|candidate| candidate.endpoint == mapped));
    let before = world.nodes[0].node.stats().pings_sent;
    world.run_for(Duration::from_secs(5));
    let pings = world.nodes[0].node.stats().pings_sent - before;
    assert!(pings >= 4, "the mapped endpoint is worth a search: {pings}");
}

#[test]
fn neighbours_go_direct_inside_and_never_through_the_router() {
    for hairpin in [false, true] {
        let mut world = world(2);
        let nat = NatProfile { hairpin, ..NatProfile::HOME };
        let (_, home) = world.net.add_nat(PUBLIC, nat, LINK);
        for _ in 0..2 {
            let host = world.net.add_host(home, LINK);
            world.add_node_at(host);
            world.run_for(Duration::from_secs(1));
        }
        world.join(MESH);
        world.run_for(Duration::from_secs(20));
        let inside = world.net.address(world.nodes[1].host);
        let key = world.key(MESH, 1);
        let direct = world.nodes[0].history.iter().filter(|(_, session, _)| *session == key);
        for path in direct.filter_map(|(_, _, pair)| pair.path) {
            let is_inside = match path {
                Path::Direct(to) => to.ip() == inside,
                Path::Relayed { .. } => true,
            };
            assert!(is_inside, "{path:?}, hairpin: {hairpin}");
        }
        assert!(world.is_direct(MESH, 0, 1));
    }
}

#[test]
fn stranger_with_the_same_private_addresses_is_not_bothered() {
    let (mut world, mesh) = with_mesh(5, &[HOME, HOME], LINK);
    world.run_for(Duration::from_secs(10));
    assert!(world.is_direct(mesh, 0, 1));
    // Homes are numbered alike, so that the peer's host candidate is this node's own address.
    assert_eq!(world.net.address(world.nodes[0].host), world.net.address(world.nodes[1].host));
    assert_eq!(world.nodes[0].node.snapshot().mapping, ObservedMapping::EndpointIndependent);
}

#[test]
fn path_is_used_with_the_largest_size_that_passes() {
    for (passes, expected) in
        [(1279, None), (1300, Some(1280)), (1380, Some(1360)), (1412, Some(1412))]
    {
        let mut world = world(1);
        world.direct_mtu = passes;
        world.add_node(&[], LINK);
        world.add_node(&[], LINK);
        world.run_for(Duration::from_secs(2));
        world.join(MESH);
        world.run_for(Duration::from_secs(20));
        assert_eq!(world.is_direct(MESH, 0, 1), expected.is_some(), "{passes} bytes pass");
        let peer = world.nodes[1].id;
        let told = world.nodes[0].route_mtus.get(&peer).copied().unwrap_or(1412);
        assert_eq!(told, expected.unwrap_or(1412), "{passes} bytes pass");
    }
}

/// Node 0 sends a packet every 100 ms; whether the last one has arrived.
fn talk(world: &mut World, first: u64, seconds: u64) -> bool {
    for number in first..first + seconds * 10 {
        world.send_data(MESH, 0, 1, number);
        world.run_for(Duration::from_millis(100));
    }
    world.run_for(Duration::from_millis(500));
    world.nodes[1].received[&world.key(MESH, 0)].contains(&(first + seconds * 10 - 1))
}

#[test]
fn node_that_moves_while_the_coordinator_is_away_is_found_and_goes_direct() {
    for (seed, index) in (0..5).flat_map(|seed| [(seed, 0), (seed, 1)]) {
        let (mut world, mesh) = with_mesh(seed, &[HOME, HOME], LINK);
        world.run_for(Duration::from_secs(10));
        assert_eq!(mesh, MESH);
        world.servers[0].away = true;
        assert!(talk(&mut world, 0, 1));
        let (_, realm) = world.net.add_nat(PUBLIC, NatProfile::HOME, LINK);
        let host = world.nodes[index].host;
        world.net.move_host(host, realm);
        world.connect(index);
        assert!(talk(&mut world, 100, 3), "seed {seed}, {index}");
        assert!(talk(&mut world, 200, 7), "seed {seed}, {index}");
        let outside = world.net.public_address(host);
        let path = world.pair(mesh, 1 - index, index).path;
        assert!(matches!(path, Some(Path::Direct(to)) if to.ip() == outside), "{seed}: {path:?}");
    }
}

#[test]
fn common_peer_introduces_a_node_that_moved_when_the_relay_is_down_too() {
    for seed in 0..5 {
        let (mut world, _) = with_mesh(seed, &[HOME, HOME, &[]], LINK);
        world.run_for(Duration::from_secs(10));
        world.servers[0].away = true;
        world.servers[0].relay.down = true;
        let (_, realm) = world.net.add_nat(PUBLIC, NatProfile::HOME, LINK);
        let host = world.nodes[0].host;
        for number in 0..400 {
            if number == 20 {
                world.net.move_host(host, realm);
                world.connect(0);
            }
            for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
                world.send_data(MESH, from, to, number);
            }
            world.run_for(Duration::from_millis(100));
        }
        let received = &world.nodes[1].received[&world.key(MESH, 0)];
        assert!(received.contains(&399), "seed {seed}");
    }
}

#[test]
fn lazy_pairs_are_connected_by_their_first_packet() {
    let mut world = world(6);
    for _ in 0..6 {
        world.add_node(HOME, LINK);
    }
    world.run_for(Duration::from_secs(2));
    world.pattern = Some(overlay_core::Pattern::Ring);
    world.join(MESH);
    world.run_for(Duration::from_secs(10));
    let established = |world: &World, a: usize, b: usize| world.pair(MESH, a, b).established;
    let pattern = overlay_core::Pattern::Ring;
    for a in 0..6 {
        for b in (0..6).filter(|b| *b != a) {
            assert_eq!(established(&world, a, b), pattern.joins(a, b, 6), "{a} and {b}");
        }
    }
    // Either side may begin, whoever of them has the lower id.
    for (from, to) in [(0, 3), (4, 1), (2, 5), (5, 3)] {
        world.send_data(MESH, from, to, 1);
        let is_there = |world: &World| {
            world.nodes[to].received.get(&world.key(MESH, from)).is_some_and(|n| n.contains(&1))
        };
        assert!(world.run_until(Duration::from_secs(2), is_there), "{from} to {to}");
    }
}

#[test]
fn sixty_four_nodes_all_to_all_are_ready_in_ten_seconds_with_few_new_mappings() {
    let mut world = world(1);
    for _ in 0..64 {
        world.add_node(HOME, LINK);
    }
    world.run_for(Duration::from_secs(2));
    world.join(MESH);
    let limit = Duration::from_secs(10);
    assert!(world.run_until(limit, |world| world.all_pairs(MESH, |pair| pair.established)));
    for _ in 0..40 {
        world.run_for(Duration::from_secs(1));
        for node in &world.nodes {
            let made = node.node.snapshot().new_mappings;
            assert!(made <= 50, "{made} new mappings in ten seconds");
        }
    }
    assert!(world.all_pairs(MESH, |pair| matches!(pair.path, Some(Path::Direct(_)))));
}
