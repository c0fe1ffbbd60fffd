//! Every NAT against every NAT: direct exactly where the oracle says so.

use std::time::Duration;

use netsim_sim::{NatProfile, PUBLIC, direct_path_possible};
use netsim_virtual::{LINK, World};
use overlay_core::{MeshId, Path};

use crate::{with_mesh, world};

const SEEDS: u64 = 20;

const CHAINS: [(&str, &[NatProfile]); 8] = [
    ("none", &[]),
    ("full cone", &[NatProfile::FULL_CONE]),
    ("restricted", &[NatProfile::RESTRICTED]),
    ("home", &[NatProfile::HOME]),
    ("symmetric", &[NatProfile::SYMMETRIC]),
    ("home behind home", &[NatProfile::HOME, NatProfile::HOME]),
    ("home behind symmetric", &[NatProfile::HOME, NatProfile::SYMMETRIC]),
    ("symmetric behind full cone", &[NatProfile::SYMMETRIC, NatProfile::FULL_CONE]),
];

#[test]
fn pairs_are_direct_exactly_where_the_oracle_says_so() {
    for seed in 0..SEEDS {
        for (a_name, a) in CHAINS {
            for (b_name, b) in CHAINS {
                let (mut world, mesh) = with_mesh(seed, &[a, b], LINK);
                let settled = |world: &World| world.all_pairs(mesh, |pair| pair.settled);
                let case = format!("{a_name} × {b_name}, seed {seed}");
                assert!(world.run_until(Duration::from_secs(6), settled), "{case}");
                world.run_for(Duration::from_secs(5));
                let expected = direct_path_possible(a, b);
                for (index, peer) in [(0, 1), (1, 0)] {
                    let pair = world.pair(mesh, index, peer);
                    assert_eq!(world.is_direct(mesh, index, peer), expected, "{case}: {pair:?}");
                    assert_eq!(pair.explain.is_empty(), expected, "{case}: {pair:?}");
                    assert!(pair.rtt_us.is_some(), "{case}: {pair:?}");
                }
            }
        }
    }
}

#[test]
fn neighbours_behind_one_nat_talk_inside_their_network() {
    for profile in [NatProfile::HOME, NatProfile::SYMMETRIC] {
        let mut world = world(2);
        let (_, home) = world.net.add_nat(PUBLIC, profile, LINK);
        for _ in 0..2 {
            let host = world.net.add_host(home, LINK);
            world.add_node_at(host);
            world.run_for(Duration::from_secs(1));
        }
        let mesh = MeshId { job: 1, generation: 1 };
        world.join(mesh);
        world.run_for(Duration::from_secs(5));
        let inside = world.net.address(world.nodes[1].host);
        let path = world.pair(mesh, 0, 1).path;
        assert!(matches!(path, Some(Path::Direct(to)) if to.ip() == inside), "{path:?}");
    }
}

#[test]
fn explanation_names_the_nat_that_stands_in_the_way() {
    let hard: &[NatProfile] = &[NatProfile::SYMMETRIC];
    let home: &[NatProfile] = &[NatProfile::HOME];
    for (a, b, expected) in [
        (hard, hard, "both NATs give a new random port per destination"),
        (hard, home, "this node's NAT uses another port"),
        (home, hard, "the peer's NAT uses another port"),
    ] {
        let (mut world, mesh) = with_mesh(1, &[a, b], LINK);
        world.run_for(Duration::from_secs(10));
        let explain = &world.pair(mesh, 0, 1).explain;
        assert!(explain.contains(expected), "{explain:?}");
    }
}
