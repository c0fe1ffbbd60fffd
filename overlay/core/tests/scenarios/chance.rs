//! A random symmetric NAT and a home: relayed, unless both volunteers allow to try many ports.

use std::net::SocketAddr;
use std::time::Duration;

use netsim_sim::{NatProfile, PUBLIC};
use netsim_virtual::{LINK, Packet, World};
use overlay_core::{Input, MeshId};

use crate::world;

const MESH: MeshId = MeshId { job: 1, generation: 1 };

/// Node 0 behind a random symmetric NAT, node 1 at home; they talk from the start.
fn pair(seed: u64, consent: [bool; 2]) -> World {
    let mut world = world(seed);
    for chain in [NatProfile::SYMMETRIC, NatProfile::HOME] {
        let index = world.add_node(&[chain], LINK);
        world.input(index, Input::BirthdayProbing(consent[index]));
    }
    world.run_for(Duration::from_secs(2));
    world.tapped = Some(Vec::new());
    world.join(MESH);
    world.run_for(Duration::from_secs(1));
    world
}

fn talk(world: &mut World, first: u64, seconds: u64) -> bool {
    for number in first..first + seconds * 10 {
        world.send_data(MESH, 0, 1, number);
        world.send_data(MESH, 1, 0, number);
        world.run_for(Duration::from_millis(100));
    }
    let arrived = |from: usize, to: usize| {
        let numbers = &world.nodes[to].received[&world.key(MESH, from)];
        (first..first + seconds * 10 - 5).all(|number| numbers.contains(&number))
    };
    arrived(0, 1) && arrived(1, 0)
}

/// Where direct packets went, each endpoint once.
fn direct_endpoints(world: &mut World) -> Vec<SocketAddr> {
    let tapped = world.tapped.replace(Vec::new()).unwrap_or_default();
    let direct = tapped.iter().filter(|(_, packet)| matches!(packet, Packet::Direct(..)));
    let mut endpoints: Vec<_> = direct.map(|(to, _)| *to).collect();
    endpoints.sort_unstable();
    endpoints.dedup();
    endpoints
}

#[test]
fn pair_meets_by_chance_where_both_volunteers_allow_it_and_loses_nothing() {
    let mut met = 0;
    for seed in 0..30 {
        let mut world = pair(seed, [true, true]);
        assert!(talk(&mut world, 0, 30), "seed {seed}: packets are lost");
        let is_direct = world.is_direct(MESH, 0, 1);
        assert_eq!(is_direct, world.is_direct(MESH, 1, 0), "seed {seed}");
        assert!(talk(&mut world, 1000, 60), "seed {seed}: packets are lost later");
        assert_eq!(is_direct, world.is_direct(MESH, 0, 1), "seed {seed}: it stays");
        met += usize::from(is_direct);
        let endpoints = direct_endpoints(&mut world);
        assert!(endpoints.iter().all(|to| to.port() >= 1024), "seed {seed}");
        assert!(endpoints.len() <= 1024 + 16, "seed {seed}: {} endpoints", endpoints.len());
        assert_eq!(world.nodes[0].node.stats().chances, 1, "seed {seed}");
    }
    // 98 in 100 are to be expected.
    assert!(met >= 27, "{met} of 30");
}

#[test]
fn without_the_consent_of_both_nothing_is_tried() {
    for consent in [[false, false], [true, false], [false, true]] {
        let mut world = pair(1, consent);
        assert!(talk(&mut world, 0, 60));
        assert!(!world.is_direct(MESH, 0, 1));
        let endpoints = direct_endpoints(&mut world);
        assert!(endpoints.len() <= 8, "{consent:?}: {endpoints:?}");
        assert_eq!(world.nodes[0].node.stats().chances, 0);
    }
}

#[test]
fn pair_without_data_and_one_at_the_address_of_another_volunteer_are_left_in_peace() {
    let mut idle = pair(2, [true, true]);
    idle.run_for(Duration::from_secs(600));
    let before = direct_endpoints(&mut idle).len();
    idle.run_for(Duration::from_secs(7200));
    assert!(direct_endpoints(&mut idle).is_empty() && before <= 1024 + 16);

    // A second machine at the same home as node 1: its entries are that volunteer's too.
    let mut world = world(3);
    let hard = world.add_node(&[NatProfile::SYMMETRIC], LINK);
    let (_, home) = world.net.add_nat(PUBLIC, NatProfile::HOME, LINK);
    for _ in 0..2 {
        let host = world.net.add_host(home, LINK);
        world.add_node_at(host);
    }
    for index in 0..3 {
        world.input(index, Input::BirthdayProbing(true));
    }
    world.run_for(Duration::from_secs(2));
    world.join(MESH);
    for number in 0..300 {
        world.send_data(MESH, hard, 1, number);
        world.send_data(MESH, 1, hard, number);
        world.run_for(Duration::from_millis(100));
    }
    assert_eq!(world.nodes[hard].node.stats().chances, 0);
    assert!(!world.is_direct(MESH, hard, 1));
}

#[test]
fn it_is_tried_once_an_hour_at_most() {
    // The looker's side lets nobody in however often it is tried: its home is cut off from the other.
    let mut world = pair(4, [true, true]);
    let addresses = [0, 1].map(|index| world.net.public_address(world.nodes[index].host));
    world.net.block(addresses[0], addresses[1]);
    assert!(talk(&mut world, 0, 600));
    assert_eq!(world.nodes[0].node.stats().chances, 1);
    for hour in 1..4u64 {
        for number in 0..360 {
            world.send_data(MESH, 0, 1, hour * 100_000 + number);
            world.run_for(Duration::from_secs(10));
        }
        let chances = world.nodes[0].node.stats().chances;
        assert!((1..=hour + 1).contains(&chances), "{chances} in {hour} hours");
    }
    assert!(world.nodes[0].node.stats().chances >= 2, "and again an hour later");
}
