//! Relays that run alone, on a simulated network: the nearest is home, and any of them may die.

use std::time::Duration;

use netsim_sim::{Link, NatProfile, OneWay, PUBLIC};
use netsim_virtual::{LINK, Spite, World};
use overlay_core::{MeshId, NodeId, Path};

use crate::world;

const HARD: &[NatProfile] = &[NatProfile::SYMMETRIC];
const MESH: MeshId = MeshId { job: 1, generation: 1 };

/// A pair that is always relayed, and relays of those distances beside the coordinator's own, which is
/// 5 ms away.
fn relayed(seed: u64, distances_ms: &[u64]) -> (World, Vec<NodeId>) {
    let mut world = world(seed);
    let relays = distances_ms.iter().map(|ms| {
        let link = Link { delay: Duration::from_millis(*ms), loss: 0.0 };
        let host = world.net.add_host(PUBLIC, link);
        world.add_relay_at(host)
    });
    let relays = relays.collect();
    world.add_node(HARD, LINK);
    world.add_node(HARD, LINK);
    world.run_for(Duration::from_secs(3));
    world.join(MESH);
    world.run_for(Duration::from_secs(10));
    (world, relays)
}

/// Both nodes send a packet every 100 ms; when both directions were silent the longest, in tenths of a
/// second, and whether the last second was complete.
fn longest_silence(world: &mut World, first: u64, seconds: u64) -> (usize, bool) {
    let numbers = first..first + seconds * 10;
    for number in numbers.clone() {
        world.send_data(MESH, 0, 1, number);
        world.send_data(MESH, 1, 0, number);
        world.run_for(Duration::from_millis(100));
    }
    world.run_for(Duration::from_millis(200));
    let mut longest = 0;
    let mut is_whole = true;
    for (from, to) in [(0, 1), (1, 0)] {
        let received = &world.nodes[to].received[&world.key(MESH, from)];
        let arrived: Vec<bool> = numbers.clone().map(|n| received.contains(&n)).collect();
        let silences = arrived.split(|arrived| *arrived).map(<[bool]>::len);
        longest = longest.max(silences.max().unwrap_or_default());
        is_whole &= arrived[arrived.len() - 10..].iter().all(|arrived| *arrived);
    }
    (longest, is_whole)
}

fn relay_in_use(world: &World) -> Option<std::net::SocketAddr> {
    match world.pair(MESH, 0, 1).path {
        Some(Path::Relayed { relay, .. }) => Some(relay),
        Some(Path::Direct(_)) | None => None,
    }
}

#[test]
fn nearest_relay_is_home_and_carries_the_pair() {
    let (mut world, relays) = relayed(1, &[40, 1]);
    let own = NodeId([0; 32]);
    assert_eq!(world.nodes[0].nearest, [relays[1], own, relays[0]]);
    assert_eq!(world.nodes[0].nearest, world.nodes[1].nearest);
    let (silence, is_whole) = longest_silence(&mut world, 0, 20);
    assert_eq!((silence, is_whole), (0, true), "a change of relays loses nothing");
}

#[test]
fn data_flows_again_three_seconds_after_any_relay_died() {
    for seed in 0..10 {
        let (mut world, relays) = relayed(seed, &[8, 12]);
        assert!(longest_silence(&mut world, 0, 5).1);
        // One after the other; the coordinator's own is what is left.
        for (round, relay) in relays.iter().enumerate() {
            world.switch_relay(*relay, false);
            let (silence, is_whole) = longest_silence(&mut world, 1000 * (round as u64 + 1), 20);
            assert!(silence <= 30 && is_whole, "seed {seed}, relay {round}: {silence}");
        }
        assert_eq!(relay_in_use(&world), Some(world.relay_endpoint()));
    }
}

#[test]
fn pair_survives_the_coordinator_with_its_relay_on_a_lone_one() {
    for seed in 0..5 {
        let (mut world, _) = relayed(seed, &[40]);
        assert!(longest_silence(&mut world, 0, 5).1);
        assert_eq!(relay_in_use(&world), Some(world.relay_endpoint()), "it is the nearer one");
        world.servers[0].away = true;
        world.servers[0].relay.down = true;
        let (silence, is_whole) = longest_silence(&mut world, 1000, 60);
        assert!(silence <= 30 && is_whole, "seed {seed}: {silence}");
        // An hour of silence, then one message.
        world.run_for(Duration::from_secs(3600));
        world.send_data(MESH, 0, 1, 9999);
        world.run_for(Duration::from_secs(1));
        assert!(world.nodes[1].received[&world.key(MESH, 0)].contains(&9999), "seed {seed}");
    }
}

#[test]
fn relay_that_comes_back_is_measured_and_used_again() {
    let (mut world, relays) = relayed(3, &[1]);
    world.switch_relay(relays[0], false);
    longest_silence(&mut world, 0, 20);
    assert_eq!(world.nodes[0].nearest, [NodeId([0; 32])]);
    world.switch_relay(relays[0], true);
    longest_silence(&mut world, 1000, 100);
    assert!(world.nodes[0].nearest.contains(&relays[0]));
    let (silence, is_whole) = longest_silence(&mut world, 3000, 5);
    assert_eq!((silence, is_whole), (0, true));
}

/// What one pair's data and report say after its relay has died: tenths of a second without data, and until
/// the report named another relay.
fn after_the_death(seed: u64) -> (usize, usize) {
    let (mut world, relays) = relayed(seed, &[1, 8]);
    assert!(longest_silence(&mut world, 0, 5).1);
    let used = relay_in_use(&world).expect("a relayed pair");
    let dead = relays.iter().find(|id| address_of(&world, **id) == used.ip());
    let dead = *dead.expect("the nearest relay runs alone");
    // The coordinator does not know.
    world.servers[0].away = true;
    world.switch_relay(dead, false);
    let died = world.now();
    let mut renamed = [None, None];
    for number in 1000..1200u64 {
        world.send_data(MESH, 0, 1, number);
        world.send_data(MESH, 1, 0, number);
        world.run_for(Duration::from_millis(100));
        for (index, renamed) in renamed.iter_mut().enumerate() {
            let path = world.pair(MESH, index, 1 - index).path;
            if !matches!(path, Some(Path::Relayed { relay, .. }) if relay == used) {
                renamed.get_or_insert((world.now() - died).as_millis() as usize / 100);
            }
        }
    }
    let missing = |from: usize, to: usize| {
        let received = &world.nodes[to].received[&world.key(MESH, from)];
        (1000..1200).filter(|number| !received.contains(number)).count()
    };
    let renamed = renamed.map(|at| at.expect("another relay is named"));
    (missing(0, 1).max(missing(1, 0)), renamed[0].max(renamed[1]))
}

fn address_of(world: &World, relay: NodeId) -> std::net::IpAddr {
    let lone = world.lone_relays.iter().find(|lone| lone.id == relay);
    world.net.address(lone.expect("it was added").host)
}

#[test]
fn dead_relay_costs_less_than_three_seconds_of_data_and_is_not_named_any_longer() {
    for seed in 0..20 {
        let (silence, renamed) = after_the_death(seed);
        assert!(silence <= 30 && renamed <= 30, "seed {seed}: {silence}, {renamed}");
    }
}

/// Does something to the relay in use, which goes on answering control frames.
fn spite(world: &mut World, relays: &[NodeId], spite: Spite) -> NodeId {
    let used = relay_in_use(world).expect("a relayed pair");
    let id = relays.iter().find(|id| address_of(world, **id) == used.ip());
    let id = *id.expect("the nearest relay runs alone");
    let lone = world.lone_relays.iter_mut().find(|lone| lone.id == id).expect("it was added");
    lone.relay.spite = spite;
    id
}

#[test]
fn relay_that_answers_and_drops_the_packets_is_left_for_another() {
    for seed in 0..10 {
        let (mut world, relays) = relayed(seed, &[1, 8]);
        assert!(longest_silence(&mut world, 0, 5).1);
        let bad = spite(&mut world, &relays, Spite::DropsPackets);
        let (silence, is_whole) = longest_silence(&mut world, 1000, 100);
        assert!(silence <= 30 && is_whole, "seed {seed}: {silence}");
        let used = relay_in_use(&world).expect("a relayed pair").ip();
        assert_ne!(used, address_of(&world, bad), "seed {seed}");
    }
}

#[test]
fn relay_that_delays_is_left_for_a_faster_one() {
    let (mut world, relays) = relayed(1, &[1, 8]);
    assert!(longest_silence(&mut world, 0, 5).1);
    let bad = spite(&mut world, &relays, Spite::None);
    let host = world.lone_relays.iter().find(|lone| lone.id == bad).expect("it was added").host;
    world.net.set_link(host, Link { delay: Duration::from_millis(900), loss: 0.0 });
    longest_silence(&mut world, 1000, 100);
    let used = relay_in_use(&world).expect("a relayed pair").ip();
    assert_ne!(used, address_of(&world, bad));
    assert_eq!(longest_silence(&mut world, 5000, 10), (0, true));
}

#[test]
fn relay_that_loses_most_packets_cuts_no_pair() {
    for of in [2, 3, 7] {
        let (mut world, relays) = relayed(1, &[1, 8]);
        assert!(longest_silence(&mut world, 0, 5).1);
        spite(&mut world, &relays, Spite::PassesOneIn(of));
        longest_silence(&mut world, 1000, 60);
        for index in 0..2 {
            assert!(world.pair(MESH, index, 1 - index).established, "one in {of}");
        }
        let (silence, _) = longest_silence(&mut world, 5000, 30);
        assert!(silence <= 30, "one in {of}: {silence}");
    }
}

#[test]
fn relay_that_replays_or_returns_packets_cuts_no_pair_and_delivers_none_twice() {
    for (bad, limit) in [(Spite::Replays(5), 0), (Spite::Returns, 30)] {
        let (mut world, relays) = relayed(1, &[1, 8]);
        assert!(longest_silence(&mut world, 0, 5).1);
        let sent = world.net.counters().sent;
        spite(&mut world, &relays, bad);
        let (silence, is_whole) = longest_silence(&mut world, 1000, 60);
        assert!(silence <= limit && is_whole, "{bad:?}: {silence}");
        let packets = world.net.counters().sent - sent;
        assert!(packets <= 1200 * 10, "{bad:?}: {packets} packets for 1,200 of data");
    }
}

/// Two continents with a relay each, and a relayed pair with a node on each.
fn apart(seed: u64) -> (World, Vec<NodeId>) {
    let mut world = world(seed);
    let near = Link { delay: Duration::from_millis(1), loss: 0.0 };
    let continents = [world.net.add_region(), world.net.add_region()];
    let sea = OneWay { delay: Duration::from_millis(40), ..OneWay::default() };
    world.net.set_way(continents[0], continents[1], sea);
    world.net.set_way(continents[1], continents[0], sea);
    let relays = continents.map(|continent| {
        let host = world.net.add_host(PUBLIC, near);
        world.net.set_host_region(host, continent);
        world.add_relay_at(host)
    });
    for continent in continents {
        let (nat, inside) = world.net.add_nat(PUBLIC, NatProfile::SYMMETRIC, near);
        world.net.set_router_region(nat, continent);
        let host = world.net.add_host(inside, near);
        world.net.set_host_region(host, continent);
        world.add_node_at(host);
    }
    world.run_for(Duration::from_secs(3));
    world.join(MESH);
    world.run_for(Duration::from_secs(10));
    assert_eq!([0, 1].map(|node| world.nodes[node].nearest[0]), relays);
    (world, relays.to_vec())
}

#[test]
fn pair_that_slept_is_held_by_one_relay_for_each_node_and_wakes_within_a_second() {
    for seed in 0..20 {
        let (mut world, _) = apart(seed);
        assert!(longest_silence(&mut world, 0, 5).1);
        for (number, from) in [(5000, 0), (5001, 1), (5002, 1)] {
            world.run_for(Duration::from_secs(600));
            let held = [0, 1].map(|node| world.nodes[node].node.snapshot().relays.len());
            assert_eq!(held, [1, 1], "seed {seed}, {number}");
            world.send_data(MESH, from, 1 - from, number);
            world.run_for(Duration::from_secs(1));
            let received = &world.nodes[1 - from].received[&world.key(MESH, from)];
            assert!(received.contains(&number), "seed {seed}, {number}");
            world.run_for(Duration::from_secs(1));
            let (silence, is_whole) = longest_silence(&mut world, number * 1000, 5);
            assert_eq!((silence, is_whole), (0, true), "seed {seed}, {number}");
        }
    }
}

#[test]
fn pair_that_sleeps_outlives_the_home_relay_of_either() {
    for seed in 0..20 {
        for (dead, from) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let (mut world, relays) = apart(seed);
            world.run_for(Duration::from_secs(600));
            world.switch_relay(relays[dead], false);
            world.run_for(Duration::from_secs(60));
            world.send_data(MESH, from, 1 - from, 7);
            world.run_for(Duration::from_secs(1));
            let received = &world.nodes[1 - from].received[&world.key(MESH, from)];
            assert!(received.contains(&7), "seed {seed}, dead {dead}, from {from}");
        }
    }
}
