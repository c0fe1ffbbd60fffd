//! Bad peers and bad networks, each case with what must not come of it.
//!
//! | case | test |
//! |---|---|
//! | replayed packets | here; the window itself: overlay/driver/tests/wireguard |
//! | truncated, damaged | `tests/corpus.rs`, [`super::hostile`]; on a socket: overlay/driver/tests/overlay.rs |
//! | spoofed control frames, lying probes | [`super::hostile`] |
//! | reordered, duplicated | here |
//! | flooding with handshakes, with packets for nobody | overlay/driver/src/worker/plane/tests |
//! | flooding with hints, asking to pass on | here |
//! | spoofed inner addresses, addresses outside the job | overlay/driver/src/worker/plane/tests; netsim/lab/tests/isolation.rs |
//! | another job's members | here |
//! | stale epoch | [`super::hostile`] (netmaps), here (peers) |
//! | clock jumps | [`super::resume`] |
//! | a relay that lies, drops, delays | [`super::hostile`], [`super::relays`], overlay/relay |

use std::net::SocketAddr;
use std::time::Duration;

use netsim_sim::{Link, LinkProfile, NatProfile, OneWay, PUBLIC, Reorder};
use netsim_virtual::wireguard::Inner;
use netsim_virtual::{LINK, PORT, Packet, World};
use overlay_core::netmap::MAX_CANDIDATES;
use overlay_core::wire::Probe;
use overlay_core::wire::probe::Purpose;
use overlay_core::{Input, MeshId, NodeId, Path};

use crate::with_mesh;

const HOME: &[NatProfile] = &[NatProfile::HOME];

fn talk(world: &mut World, mesh: MeshId, first: u64, count: u64) {
    for number in first..first + count {
        world.send_data(mesh, 0, 1, number);
        world.send_data(mesh, 1, 0, number);
        world.run_for(Duration::from_millis(50));
    }
}

#[test]
fn packets_that_are_replayed_from_elsewhere_change_nothing_and_arrive_once() {
    let (mut world, mesh) = with_mesh(1, &[&[], HOME], LINK);
    let thief = world.net.add_host(PUBLIC, LINK);
    world.run_for(Duration::from_secs(5));
    world.tapped = Some(Vec::new());
    for _ in 0..40 {
        world.send_inner(mesh, 0, 1, Inner::Bulk(1000));
        world.send_inner(mesh, 1, 0, Inner::Bulk(1000));
        world.run_for(Duration::from_secs(5));
    }
    let stolen = world.tapped.take().unwrap();
    assert!(stolen.len() > 80 && world.is_direct(mesh, 0, 1));
    let (mut answers, before) = (0, world.nodes[0].node.stats().pings_sent);
    // All of it, backwards and twice, some of it while it is fresh.
    for (to, packet) in stolen.iter().rev().chain(&stolen) {
        world.net.send(thief, PORT, *to, packet.clone());
        world.run_for(Duration::from_millis(20));
        answers += usize::from(world.is_direct(mesh, 0, 1));
    }
    assert_eq!(answers, 2 * stolen.len(), "the path in use stayed");
    let at = SocketAddr::new(world.net.address(thief), PORT);
    for (index, peer) in [(0, 1), (1, 0)] {
        assert_ne!(world.pair(mesh, index, peer).path, Some(Path::Direct(at)));
        assert_eq!(world.nodes[index].bulk[&world.key(mesh, peer)], 40_000, "each arrived once");
    }
    let pings = world.nodes[0].node.stats().pings_sent - before;
    assert!(pings < stolen.len() as u64 / 4, "{pings} pings");
}

#[test]
fn network_that_reorders_and_repeats_loses_no_packet_and_moves_no_path() {
    let way = OneWay {
        delay: Duration::from_millis(5),
        jitter: Duration::from_millis(30),
        jitter_reorders: true,
        duplicate: 0.2,
        reorder: Some(Reorder { share: 0.1, hold: Duration::from_millis(60) }),
        ..OneWay::PERFECT
    };
    for seed in 0..10 {
        let (mut world, mesh) = with_mesh(seed, &[HOME, HOME], LINK);
        for index in 0..2 {
            world.net.set_link(world.nodes[index].host, LinkProfile { up: way, down: way });
        }
        world.run_for(Duration::from_secs(10));
        talk(&mut world, mesh, 0, 400);
        world.run_for(Duration::from_secs(1));
        for (index, peer) in [(0, 1), (1, 0)] {
            let received = world.nodes[index].received[&world.key(mesh, peer)].len();
            assert_eq!(received, 400, "seed {seed}, node {index}");
            assert!(world.is_direct(mesh, index, peer), "seed {seed}, node {index}");
            assert_eq!(world.nodes[index].node.stats().demotions, 0, "seed {seed}");
        }
    }
}

/// Endpoints of somebody who has nothing to do with it.
fn strangers(number: u16) -> [Option<SocketAddr>; MAX_CANDIDATES] {
    let mut slots = [None; MAX_CANDIDATES];
    for (slot, more) in slots.iter_mut().zip(0u16..) {
        let port = 2000 + (number * 8 + more) % 60_000;
        *slot = Some(SocketAddr::from(([203, 0, 113, 77], port)));
    }
    slots
}

#[test]
fn member_that_names_strangers_endpoints_makes_few_packets() {
    let (mut world, mesh) = with_mesh(2, &[&[], HOME], LINK);
    world.run_for(Duration::from_secs(10));
    let session = world.key(mesh, 1);
    let Some(via) = world.pair(mesh, 0, 1).path else { panic!("there is a path") };
    world.tapped = Some(Vec::new());
    for number in 0..3000u16 {
        let bytes = Probe::Hint { purpose: Purpose::Here, endpoints: strangers(number) }.encode();
        world.input(0, Input::Probe { session, via, bytes: &bytes });
        world.run_for(Duration::from_millis(20));
    }
    // A minute of 24,000 names. The node makes 50 new mappings in ten seconds at most, see `budget`.
    let tapped = world.tapped.take().unwrap();
    let strangers = strangers(0)[0].unwrap().ip();
    let sent = tapped.iter().filter(|(to, _)| to.ip() == strangers).count();
    assert!((50..1500).contains(&sent), "{sent} packets to strangers");
    assert!(world.pair(mesh, 0, 1).established, "and the pair is as it was");
}

#[test]
fn member_that_asks_to_pass_on_all_the_time_is_heard_once_a_second() {
    let (mut world, mesh) = with_mesh(3, &[&[], HOME, HOME], LINK);
    world.run_for(Duration::from_secs(10));
    let (session, third) = (world.key(mesh, 1), world.nodes[2].id);
    let Some(via) = world.pair(mesh, 0, 1).path else { panic!("there is a path") };
    let before = world.between_nodes();
    for _ in 0..1000 {
        let purpose = Purpose::PassOn(third);
        let bytes = Probe::Hint { purpose, endpoints: strangers(1) }.encode();
        world.input(0, Input::Probe { session, via, bytes: &bytes });
        world.run_for(Duration::from_millis(10));
    }
    let sent = world.between_nodes() - before;
    // Ten times, over two paths each; the third node then tries what it was told.
    assert!(sent < 250, "{sent} messages");
    assert!(world.is_direct(mesh, 2, 1) && world.is_direct(mesh, 1, 2));
}

#[test]
fn member_of_one_job_can_ask_nothing_about_another_jobs_members() {
    let (mut world, mesh) = with_mesh(4, &[&[], HOME], LINK);
    let host = world.net.add_host(PUBLIC, LINK);
    let third = world.add_node_at(host);
    world.run_for(Duration::from_secs(2));
    let other = MeshId { job: 2, generation: 1 };
    world.join_members(other, &[0, third], true);
    world.run_for(Duration::from_secs(10));
    assert!(world.is_direct(other, 0, third));
    let session = world.key(mesh, 1);
    let Some(via) = world.pair(mesh, 0, 1).path else { panic!("there is a path") };
    let (refused, before) = (world.nodes[0].node.stats().probes_refused, world.between_nodes());
    for about in [world.nodes[third].id, world.nodes[0].id, NodeId([0xee; 32])] {
        for purpose in [Purpose::PassOn(about), Purpose::About(about)] {
            let bytes = Probe::Hint { purpose, endpoints: strangers(1) }.encode();
            world.input(0, Input::Probe { session, via, bytes: &bytes });
        }
    }
    assert_eq!(world.nodes[0].node.stats().probes_refused - refused, 6);
    assert_eq!(world.between_nodes(), before);
    assert!(world.is_direct(other, 0, third));
}

#[test]
fn peer_that_was_removed_and_does_not_know_it_is_not_heard() {
    let (mut world, mesh) = with_mesh(5, &[&[], &[], HOME], LINK);
    world.run_for(Duration::from_secs(5));
    // Only node 0 has heard of the epoch without node 2.
    let newer = world.netmap(mesh, 2, &[0, 1]);
    world.input(0, Input::Netmap(newer));
    let key = world.key(mesh, 2);
    assert_eq!(world.nodes[0].removed, [key]);
    for number in 0..600 {
        world.send_data(mesh, 2, 0, number);
        world.send_data(mesh, 2, 1, number);
        world.run_for(Duration::from_millis(100));
    }
    assert!(!world.nodes[0].received.contains_key(&key), "nothing of it has arrived");
    assert_eq!(world.nodes[1].received[&key].len(), 600, "who does not know either still hears it");
    assert!(world.pair(mesh, 0, 1).established);
}

#[test]
fn pair_is_not_cut_by_a_flood_on_its_link() {
    // 100 kB/s, of which a flood from elsewhere takes nine tenths.
    let narrow = OneWay {
        delay: Duration::from_millis(10),
        rate: Some(netsim_sim::Rate { bits_per_s: 800_000, queue_bytes: 20_000 }),
        ..OneWay::PERFECT
    };
    let (mut world, mesh) = with_mesh(6, &[&[], HOME], Link { ..LINK });
    world.net.set_link(world.nodes[0].host, LinkProfile { up: narrow, down: narrow });
    let flooder = world.net.add_host(PUBLIC, LINK);
    world.run_for(Duration::from_secs(5));
    let to = SocketAddr::new(world.net.address(world.nodes[0].host), PORT);
    for number in 0..3000u64 {
        let rubbish = Packet::Control(vec![0x0b; 32]);
        let size = 900;
        world.net.send_packet(flooder, netsim_sim::Outgoing::udp(PORT, to, size, rubbish));
        if number % 10 == 0 {
            world.send_data(mesh, 1, 0, number);
            world.send_data(mesh, 0, 1, number);
        }
        world.run_for(Duration::from_millis(10));
    }
    world.run_for(Duration::from_secs(1));
    let received = world.nodes[0].received[&world.key(mesh, 1)].len();
    assert!(received >= 290, "{received} of 300");
    assert!(world.is_direct(mesh, 0, 1) && world.is_direct(mesh, 1, 0));
    assert!(world.nodes[0].node.stats().control_refused >= 2900);
}
