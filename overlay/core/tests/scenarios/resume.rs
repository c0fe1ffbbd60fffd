//! Machines that stand still, clocks that jump.

use std::time::{Duration, Instant};

use netsim_sim::NatProfile;
use netsim_virtual::LINK;
use overlay_core::{Input, Node, NodeConfig, NodeId};

use crate::with_mesh;

const HOME: &[NatProfile] = &[NatProfile::HOME];

#[test]
fn node_that_slept_for_an_hour_is_reached_within_three_seconds() {
    for seed in 0..5 {
        let (mut world, mesh) = with_mesh(seed, &[HOME, HOME], LINK);
        world.run_for(Duration::from_secs(10));
        world.suspend(0);
        world.run_for(Duration::from_secs(3600));
        world.resume(0);
        world.run_for(Duration::from_secs(3));
        assert_eq!(world.nodes[0].node.stats().resumptions, 1);
        for (from, to) in [(0, 1), (1, 0)] {
            world.send_data(mesh, from, to, 7);
            world.run_for(Duration::from_secs(1));
            assert!(world.nodes[to].received[&world.key(mesh, from)].contains(&7), "seed {seed}");
        }
    }
}

#[test]
fn clock_that_runs_backward_counts_as_standing_still() {
    let start = Instant::now() + Duration::from_secs(1000);
    let mut node = Node::new(NodeConfig { id: NodeId([1; 32]), seed: 1 }, start);
    let reflector = "198.51.100.1:6444".parse().unwrap();
    let observed = "203.0.113.1:4000".parse().unwrap();
    let welcome = Input::Welcome { observed, reflector, reflector_token: [1; 16] };
    assert_ne!(node.handle_input(start, welcome).count(), 0);
    for seconds in [900, 500, 0] {
        let past = start - Duration::from_secs(seconds);
        assert_eq!(node.handle_input(past, Input::Wakeup).count(), 0);
    }
    assert_eq!(node.stats().resumptions, 0);
}

#[test]
fn clock_that_jumps_ahead_is_taken_for_sleep_once() {
    let (mut world, mesh) = with_mesh(3, &[HOME, HOME], LINK);
    world.run_for(Duration::from_secs(10));
    let far = Instant::now() + Duration::from_secs(1_000_000);
    let node = &mut world.nodes[0].node;
    let first = node.handle_input(far, Input::Wakeup).count();
    assert!(first < 40, "{first} effects of one jump");
    let again = node.handle_input(far, Input::Wakeup).count();
    assert_eq!((again, node.stats().resumptions, node.stats().stalled_timers), (0, 1, 0));
    assert!(world.pair(mesh, 0, 1).established);
}
