//! Whatever the network and a lying peer can send: nothing happens, and nothing grows.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use netsim_sim::NatProfile;
use netsim_virtual::{LINK, World};
use overlay_core::netmap::{Candidate, CandidateKind, NodeCandidates, ObservedMapping};
use overlay_core::wire::Probe;
use overlay_core::{Input, MeshId, Node, NodeConfig, NodeId, Output, Path, SessionKey};
use proptest::prelude::*;

use crate::{with_mesh, world};

const MESH: MeshId = MeshId { job: 1, generation: 1 };

fn endpoint() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

fn path() -> impl Strategy<Value = Path> {
    prop_oneof![
        endpoint().prop_map(Path::Direct),
        (endpoint(), any::<u32>()).prop_map(|(relay, channel)| Path::Relayed { relay, channel }),
    ]
}

/// Frames with the right magic, so that more than the first test is reached.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    (0u8..8, prop::collection::vec(any::<u8>(), 0..70))
        .prop_map(|(kind, rest)| [&[0x0b, 0x43, 0x48, 0x01, kind][..], &rest].concat())
}

/// Probes that are well-formed, or nearly.
fn probe() -> impl Strategy<Value = Vec<u8>> {
    let sound = prop_oneof![
        (any::<[u8; 8]>(), 0usize..2000)
            .prop_map(|(transaction, size)| Probe::Ping { transaction, size }),
        (any::<[u8; 8]>(), prop::option::of(endpoint()))
            .prop_map(|(transaction, observed)| Probe::Pong { transaction, observed }),
    ];
    (sound, any::<prop::sample::Index>(), any::<u8>(), any::<bool>()).prop_map(
        |(probe, index, value, damage)| {
            let mut bytes = probe.encode();
            if damage {
                let at = index.index(bytes.len());
                bytes[at] = value;
            }
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn datagrams_from_strangers_change_nothing(
        datagrams in prop::collection::vec((endpoint(), frame()), 1..50),
    ) {
        let (mut world, mesh) = established();
        let before = world.nodes[0].pairs.clone();
        let refused = world.nodes[0].node.stats().control_refused;
        for (from, bytes) in &datagrams {
            world.input(0, Input::Control { from: *from, bytes });
        }
        // The relay's own address can be forged; the nonces cannot.
        let relay = world.relay_endpoint();
        for (_, bytes) in &datagrams {
            world.input(0, Input::Control { from: relay, bytes });
        }
        let stats = world.nodes[0].node.stats();
        prop_assert_eq!(stats.control_refused - refused, 2 * datagrams.len() as u64);
        prop_assert_eq!(&world.nodes[0].pairs, &before);
        prop_assert!(world.pair(mesh, 0, 1).established);
    }

    #[test]
    fn lying_peer_moves_no_path_and_is_answered_once(
        probes in prop::collection::vec((path(), probe()), 1..50),
    ) {
        let (mut world, mesh) = established();
        let session = world.key(mesh, 1);
        let path = world.pair(mesh, 0, 1).path;
        for (via, bytes) in &probes {
            let before = world.nodes[0].node.stats().pings_sent;
            world.input(0, Input::Probe { session, via: *via, bytes });
            let pings = world.nodes[0].node.stats().pings_sent - before;
            prop_assert!(pings <= 1, "{pings} pings for one");
        }
        prop_assert_eq!(world.pair(mesh, 0, 1).path, path);
    }
}

/// A pair that has settled on the relay.
fn established() -> (World, MeshId) {
    let hard: &[NatProfile] = &[NatProfile::SYMMETRIC];
    let (mut world, mesh) = with_mesh(1, &[hard, hard], LINK);
    world.run_for(Duration::from_secs(5));
    (world, mesh)
}

#[test]
fn peer_that_pings_from_everywhere_is_bounded() {
    let (mut world, mesh) = established();
    let session = world.key(mesh, 1);
    for port in 2000..4000 {
        let via = Path::Direct(SocketAddr::from(([203, 0, 113, 9], port)));
        let bytes = Probe::Ping { transaction: [0; 8], size: 56 }.encode();
        world.input(0, Input::Probe { session, via, bytes: &bytes });
    }
    let before = world.nodes[0].node.stats().pings_sent;
    world.run_for(Duration::from_secs(20));
    let pings = world.nodes[0].node.stats().pings_sent - before;
    assert!(pings <= 24 * 16, "{pings} pings");
    assert!(world.nodes[0].node.stats().endpoints_refused > 1900);
}

#[test]
fn reports_about_unknown_sessions_are_counted() {
    let mut world = world(1);
    world.add_node(&[], LINK);
    let session = SessionKey { mesh: MESH, peer: NodeId([9; 32]) };
    let via = Path::Direct("203.0.113.1:4000".parse().unwrap());
    world.input(0, Input::Sent(session));
    world.input(0, Input::Authenticated { session, via, data: true });
    let ping = Probe::Ping { transaction: [0; 8], size: 56 }.encode();
    world.input(0, Input::Probe { session, via, bytes: &ping });
    assert_eq!(world.nodes[0].node.stats().unknown_sessions, 3);
}

#[test]
fn candidates_of_more_peers_than_there_can_be_are_refused() {
    let now = Instant::now();
    let mut node = Node::new(NodeConfig { id: NodeId([1; 32]), seed: 1 }, now);
    for number in 0..5000u32 {
        let mut id = [2; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let candidates = NodeCandidates {
            node: NodeId(id),
            sequence: 1,
            mapping: ObservedMapping::Unknown,
            nat: Default::default(),
            activity: Default::default(),
            candidates: vec![
                Candidate {
                    endpoint: "203.0.113.1:4000".parse().unwrap(),
                    kind: CandidateKind::Host
                };
                1000
            ],
        };
        assert_eq!(node.handle_input(now, Input::Candidates(candidates)).count(), 0);
    }
    assert_eq!(node.stats().orders_refused, 5000 - overlay_core::MAX_PEERS as u64);
}

#[test]
fn same_seed_and_inputs_give_the_same_outputs() {
    let run = || {
        let home: &[NatProfile] = &[NatProfile::HOME];
        let hard: &[NatProfile] = &[NatProfile::SYMMETRIC];
        let (mut world, _) = with_mesh(11, &[home, hard, &[]], LINK);
        world.run_for(Duration::from_secs(30));
        let counters = world.net.counters();
        let histories: Vec<_> = world.nodes.into_iter().map(|node| node.history).collect();
        (counters, histories)
    };
    assert_eq!(run(), run());
}

#[test]
fn outputs_for_nothing_are_none() {
    let now = Instant::now();
    let mut node = Node::new(NodeConfig { id: NodeId([1; 32]), seed: 1 }, now);
    let outputs: Vec<Output> = node.handle_input(now, Input::Wakeup).collect();
    assert_eq!(outputs, []);
    assert_eq!(node.next_wakeup(), None);
}

#[test]
fn relay_that_lies_about_addresses_cuts_no_pair_and_makes_no_storm() {
    let home: &[NatProfile] = &[NatProfile::HOME];
    let (mut world, mesh) = with_mesh(3, &[home, home], LINK);
    world.run_for(Duration::from_secs(10));
    assert!(world.is_direct(mesh, 0, 1));
    let before = world.net.counters().sent;
    for number in 0..600u16 {
        world.servers[0].relay.lies = Some(SocketAddr::from(([203, 0, 113, 99], 2000 + number)));
        world.send_data(mesh, 0, 1, number.into());
        world.send_data(mesh, 1, 0, number.into());
        world.run_for(Duration::from_millis(100));
    }
    world.run_for(Duration::from_secs(1));
    for (index, peer) in [(0, 1), (1, 0)] {
        assert_eq!(world.nodes[index].received[&world.key(mesh, peer)].len(), 600);
        assert!(world.is_direct(mesh, index, peer));
    }
    let packets = world.net.counters().sent - before;
    assert!(packets <= 1200 + 800, "{packets} packets for 1,200 of data in a minute");
}

#[test]
fn netmaps_of_an_older_era_and_epoch_change_nothing() {
    let (mut world, mesh) = with_mesh(4, &[&[], &[]], LINK);
    world.run_for(Duration::from_secs(5));
    let newer = overlay_core::Netmap { era: 5, ..world.netmap(mesh, 1, &[0, 1]) };
    world.input(0, Input::Netmap(newer));
    let refused = world.nodes[0].node.stats().netmaps_refused;
    for epoch in [0, 1, 2, u64::MAX] {
        let stale = world.netmap(mesh, epoch, &[]);
        world.input(0, Input::Netmap(stale));
    }
    assert_eq!(world.nodes[0].node.stats().netmaps_refused - refused, 4);
    assert!(world.pair(mesh, 0, 1).established && world.nodes[0].removed.is_empty());
}
