//! Pairs without data: silence, and what the next data finds.

use std::time::Duration;

use netsim_sim::NatProfile;
use netsim_virtual::{LINK, World};
use overlay_core::MeshId;

use crate::with_mesh;

const HOME: &[NatProfile] = &[NatProfile::HOME];
const HARD: &[NatProfile] = &[NatProfile::SYMMETRIC];

fn pings(world: &World) -> u64 {
    world.nodes.iter().map(|node| node.node.stats().pings_sent).sum()
}

/// Sends one packet; how long it took to arrive, if it did within ten seconds.
fn message(
    world: &mut World,
    mesh: MeshId,
    from: usize,
    to: usize,
    number: u64,
) -> Option<Duration> {
    let sent_at = world.now();
    world.send_data(mesh, from, to, number);
    let key = world.key(mesh, from);
    let is_there = |world: &World| {
        world.nodes[to].received.get(&key).is_some_and(|numbers| numbers.contains(&number))
    };
    world.run_until(Duration::from_secs(10), is_there).then(|| world.now() - sent_at)
}

#[test]
fn idle_pair_sends_nothing_at_all_and_the_relay_holds_it() {
    let (mut world, mesh) = with_mesh(2, &[HOME, HOME], LINK);
    world.run_for(Duration::from_secs(30));
    assert!(world.is_direct(mesh, 0, 1));
    world.run_for(Duration::from_secs(60));
    assert!(!world.is_direct(mesh, 0, 1) && world.pair(mesh, 0, 1).explain.contains("idle"));
    let before = pings(&world);
    world.run_for(Duration::from_secs(3600));
    assert_eq!(pings(&world), before);
    let demotions: u64 = world.nodes.iter().map(|node| node.node.stats().demotions).sum();
    assert_eq!(demotions, 0, "rest is no failure");
}

#[test]
fn idle_agent_sends_one_keepalive_whatever_the_number_of_its_pairs() {
    let traffic = |nodes: usize| {
        let (mut world, _) = with_mesh(2, &vec![HOME; nodes], LINK);
        // WireGuard renews the keys of what was sent once more.
        world.run_for(Duration::from_secs(300));
        let before = world.net.counters().sent;
        world.run_for(Duration::from_secs(600));
        (world.net.counters().sent - before) / nodes as u64
    };
    // Each node: 30 keepalives and their answers, and a check of the mapping every five minutes.
    for nodes in [2, 12] {
        let packets = traffic(nodes);
        assert!((60..=80).contains(&packets), "{packets} packets for each of {nodes} nodes");
    }
}

#[test]
fn message_after_an_hour_of_silence_arrives_within_a_second_and_the_next_go_direct() {
    for (chain, direct) in [(HOME, true), (HARD, false)] {
        for (from, to) in [(0, 1), (1, 0)] {
            let (mut world, mesh) = with_mesh(5, &[chain, chain], LINK);
            world.run_for(Duration::from_secs(3600));
            let took = message(&mut world, mesh, from, to, 1).expect("it arrives");
            assert!(took <= Duration::from_secs(1), "{took:?}");
            for number in 2..30 {
                message(&mut world, mesh, from, to, number).expect("it arrives");
                world.run_for(Duration::from_millis(100));
            }
            assert_eq!(world.is_direct(mesh, from, to), direct);
        }
    }
}

/// WireGuard's keys end after three minutes, those that were asked for meanwhile a little later.
#[test]
fn message_arrives_whatever_the_age_of_the_keys() {
    let (mut world, mesh) = with_mesh(8, &[HOME, HOME], LINK);
    for (number, silence) in (0..).zip([100, 150, 200, 250, 310, 400, 500, 700]) {
        world.run_for(Duration::from_secs(silence));
        let took = message(&mut world, mesh, 0, 1, number);
        let is_soon = took.is_some_and(|took| took <= Duration::from_secs(1));
        assert!(is_soon, "{took:?} after {silence} s");
    }
}

#[test]
fn pair_that_speaks_once_a_minute_never_loses_a_message() {
    let (mut world, mesh) = with_mesh(6, &[HOME, HOME], LINK);
    for number in 0..60 {
        world.run_for(Duration::from_secs(60));
        let took = message(&mut world, mesh, 0, 1, number).expect("it arrives");
        assert!(took <= Duration::from_secs(1), "{took:?}");
    }
}

#[test]
fn hopeless_pair_without_data_stops_searching() {
    let (mut world, _) = with_mesh(2, &[HARD, HOME], LINK);
    world.run_for(Duration::from_secs(60));
    let before = pings(&world);
    world.run_for(Duration::from_secs(3600));
    assert_eq!(pings(&world), before);
}
