//! Relays that run alone, on a simulated network: the nearest is home, and any of them may die.

use std::time::Duration;

use netsim_sim::{Link, NatProfile, PUBLIC};
use netsim_virtual::{LINK, World};
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
        world.coordinator_away = true;
        world.relay.down = true;
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
