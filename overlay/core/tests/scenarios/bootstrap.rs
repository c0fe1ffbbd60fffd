//! From joining a mesh to the first packet, and the order of what the coordinator says.

use std::time::Duration;

use netsim_sim::{Link, NatProfile, PUBLIC};
use netsim_virtual::{LINK, PORT, World};
use overlay_core::netmap::ObservedMapping;
use overlay_core::wire::format_hex;
use overlay_core::{Input, MeshId, NodeCandidates, NodeId, Path, RelayTicket};

use crate::{with_mesh, world};

const HARD: &[NatProfile] = &[NatProfile::SYMMETRIC];

#[test]
fn six_nodes_are_connected_over_the_relay_within_two_seconds() {
    for seed in 0..5 {
        let (mut world, mesh) = with_mesh(seed, &[HARD; 6], LINK);
        let limit = Duration::from_secs(2);
        assert!(world.run_until(limit, |world| world.all_pairs(mesh, |pair| pair.established)));
        assert!(world.all_pairs(mesh, |pair| {
            matches!(pair.path, Some(Path::Relayed { .. }))
                && pair.established_after_ms.is_some_and(|after| after <= 2000)
        }));
    }
}

#[test]
fn slow_and_lossy_links_take_longer_but_get_there() {
    for seed in 0..20 {
        let link = Link { delay: Duration::from_millis(150), loss: 0.1 };
        let (mut world, mesh) = with_mesh(seed, &[HARD; 3], link);
        let limit = Duration::from_secs(60);
        assert!(
            world.run_until(limit, |world| world.all_pairs(mesh, |pair| pair.established)),
            "seed {seed}"
        );
    }
}

#[test]
fn pairs_settle_soon_after_the_session_is_up() {
    let (mut world, mesh) = with_mesh(1, &[HARD, &[NatProfile::HOME], &[]], LINK);
    let limit = Duration::from_secs(2);
    assert!(world.run_until(limit, |world| world.all_pairs(mesh, |pair| pair.established)));
    let limit = Duration::from_millis(3500);
    assert!(world.run_until(limit, |world| world.all_pairs(mesh, |pair| pair.settled)));
}

#[test]
fn mapping_is_measured_and_announced() {
    let chains: [(&[NatProfile], ObservedMapping); 4] = [
        (&[], ObservedMapping::None),
        (&[NatProfile::HOME], ObservedMapping::EndpointIndependent),
        (HARD, ObservedMapping::EndpointDependent),
        (&[NatProfile::HOME, NatProfile::SYMMETRIC], ObservedMapping::EndpointDependent),
    ];
    for (chain, expected) in chains {
        let mut world = world(1);
        world.add_node(chain, LINK);
        world.run_for(Duration::from_secs(2));
        let view = world.nodes[0].node.snapshot();
        assert_eq!(view.mapping, expected, "{chain:?}");
        assert_eq!(view.candidates.unwrap().mapping, expected);
    }
}

#[test]
fn mesh_without_a_relay_comes_up_directly() {
    let mut world = world(3);
    world.add_node(&[NatProfile::HOME], LINK);
    world.add_node(&[], LINK);
    world.run_for(Duration::from_secs(2));
    world.servers[0].relay.down = true;
    let mesh = MeshId { job: 1, generation: 1 };
    world.join(mesh);
    let limit = Duration::from_secs(10);
    let is_direct =
        |world: &World| world.all_pairs(mesh, |pair| matches!(pair.path, Some(Path::Direct(_))));
    assert!(world.run_until(limit, is_direct));
}

#[test]
fn candidates_that_come_late_are_tried() {
    let mut world = world(4);
    world.add_node(&[NatProfile::HOME], LINK);
    let host = world.net.add_host(PUBLIC, LINK);
    world.add_node_at(host);
    world.run_for(Duration::from_secs(2));
    let (first, second) = (world.nodes[0].id, world.nodes[1].id);
    let mesh = MeshId { job: 1, generation: 1 };
    // Only tickets and netmaps: nobody knows an endpoint, and both search in vain.
    for index in 0..2 {
        world.input(index, Input::JoinMesh(mesh));
        let peer = if index == 0 { second } else { first };
        let nowhere = NodeCandidates {
            node: peer,
            sequence: 1,
            mapping: ObservedMapping::Unknown,
            nat: Default::default(),
            activity: Default::default(),
            candidates: vec![],
        };
        world.input(index, Input::Candidates(nowhere));
    }
    world.join_without_candidates(mesh);
    world.run_for(Duration::from_secs(30));
    assert!(!world.is_direct(mesh, 0, 1));
    assert!(world.pair(mesh, 0, 1).settled);
    let late = world.nodes[1].node.snapshot().candidates.unwrap();
    world.input(0, Input::Candidates(NodeCandidates { sequence: 7, ..late }));
    let limit = Duration::from_secs(2);
    assert!(world.run_until(limit, |world| world.is_direct(mesh, 0, 1)));
    assert!(world.run_until(limit, |world| world.is_direct(mesh, 1, 0)));
}

#[test]
fn two_meshes_on_one_pair_share_the_path() {
    let home: &[NatProfile] = &[NatProfile::HOME];
    let (mut world, first) = with_mesh(5, &[home, home], LINK);
    world.run_for(Duration::from_secs(10));
    assert!(world.is_direct(first, 0, 1) && world.is_direct(first, 1, 0));
    let second = MeshId { job: 2, generation: 1 };
    world.join(second);
    let limit = Duration::from_millis(500);
    assert!(world.run_until(limit, |world| world.all_pairs(second, |pair| pair.established)));
    assert!(world.is_direct(second, 0, 1) && world.pair(second, 0, 1).settled);
    // The first mesh ends; the second goes on as if nothing had happened.
    for index in 0..2 {
        world.input(index, Input::LeaveMesh(first));
    }
    world.run_for(Duration::from_secs(25));
    assert!(world.is_direct(second, 0, 1) && world.is_direct(second, 1, 0));
    let (stats, key) = (*world.nodes[0].node.stats(), world.key(first, 1));
    assert_eq!(stats.demotions, 0);
    assert_eq!(world.nodes[0].removed, [key]);
}

#[test]
fn older_netmaps_are_refused_and_one_without_the_node_closes() {
    let (mut world, mesh) = with_mesh(6, &[&[], &[], &[]], LINK);
    world.run_for(Duration::from_secs(5));
    world.send_netmap(mesh, 3, &[0, 1]);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.nodes[2].removed.len(), 2);
    assert_eq!(world.nodes[0].removed, [world.key(mesh, 2)]);
    world.send_netmap(mesh, 2, &[0, 1, 2]);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.nodes[0].pairs.len(), 1);
    assert_eq!(world.nodes[0].node.stats().netmaps_refused, 1);
}

#[test]
fn netmap_of_a_mesh_that_was_not_joined_is_refused() {
    let mut world = world(7);
    world.add_node(&[], LINK);
    world.add_node(&[], LINK);
    let netmap = world.netmap(MeshId { job: 9, generation: 1 }, 1, &[0, 1]);
    world.input(0, Input::Netmap(netmap));
    assert_eq!(world.nodes[0].node.stats().netmaps_refused, 1);
    assert!(world.nodes[0].pairs.is_empty());
}

#[test]
fn ticket_that_contradicts_itself_is_refused() {
    let mut world = world(8);
    world.add_node(&[], LINK);
    for sealed in [String::new(), format_hex(&[1; 30]), "x".repeat(60)] {
        let relay = format!("198.18.0.1:{PORT}").parse().unwrap();
        let peer = NodeId([9; 32]);
        let ticket = RelayTicket { peer, relay, channel: 5, expires_unix: 0, sealed };
        world.input(0, Input::Ticket(ticket));
    }
    assert_eq!(world.nodes[0].node.stats().orders_refused, 3);
}

#[test]
fn forty_nodes_connect_within_two_seconds() {
    let home: &[NatProfile] = &[NatProfile::HOME];
    let (mut world, mesh) = with_mesh(1, &[home; 40], LINK);
    let limit = Duration::from_secs(2);
    assert!(world.run_until(limit, |world| world.all_pairs(mesh, |pair| pair.established)));
    world.run_for(Duration::from_secs(4));
    assert!(world.all_pairs(mesh, |pair| pair.explain.is_empty()));
}
