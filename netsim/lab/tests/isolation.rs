//! What a job can reach, and what of it can be seen: two jobs on the machines of six volunteers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/probes.rs"]
mod probes;
#[path = "common/shared.rs"]
mod shared;
#[path = "common/worlds.rs"]
mod worlds;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::Duration;

use coordinator_api::job::{Job, JobState};
use netsim::capture::{Capture, Seen};
use netsim::netns::Netns;
use netsim::probe::{self, Commands, TOKEN_PORT};
use netsim::wait;
use netsim::world::{JobNetwork, Volunteer, World};
use netsim_scenario::Preset;
use netsim_scenario::resolved::Coordinator;

use probes::{end, probes, submit_probe};
use shared::Shared;
use worlds::SOON;

static WORLD: Shared = Shared::new();

const VOLUNTEERS: [(Preset, u16); 6] = [
    (Preset::Home, 2),
    (Preset::Home, 2),
    (Preset::FullCone, 2),
    (Preset::Carrier, 2),
    (Preset::Symmetric, 2),
    (Preset::None, 2),
];

/// A port of the listeners that tests put where a job must not reach.
const LISTENER: u16 = 7710;

fn settings() -> Coordinator {
    let poll_interval = Duration::from_millis(500);
    let launch_deadline = Duration::from_secs(40);
    Coordinator { poll_interval, launch_deadline, ..Coordinator::default() }
}

/// Answers on an address of a namespace, by TCP and UDP, until the program ends.
fn listen(netns: &Netns, address: SocketAddr) {
    let sockets = netns.run(move || (TcpListener::bind(address), UdpSocket::bind(address)));
    let (tcp, udp) = sockets.unwrap();
    probe::answer_tcp(tcp.unwrap(), "outside");
    probe::answer_udp(udp.unwrap(), "outside");
}

/// The volunteer's own machine reaches `target`; the job on it does not.
fn assert_shut(volunteer: &Volunteer, job: &mut Commands, target: &str) {
    let wanted = target.to_owned();
    let outside = volunteer.machine.netns.run(move || probe::dial(&wanted)).unwrap();
    outside.unwrap_or_else(|e| panic!("{} itself does not reach {target}: {e}", volunteer.host));
    let inside = job.dial(target).unwrap();
    assert!(inside.is_err(), "the job on {} reaches {target}: {inside:?}", volunteer.host);
}

fn assert_ended_well(world: &World, ids: &[u64]) {
    for id in ids {
        let Job { state, exit_code, message, .. } =
            world.scientist().wait_for_end(*id, SOON).unwrap();
        assert_eq!((state, exit_code), (JobState::Terminated, Some(0)), "job {id}: {message}");
    }
}

/// A job's part reaches the members of its job, and neither its machine, its router, the coordinator nor
/// another job.
fn assert_confined(world: &World, network: &JobNetwork, red: &[JobNetwork], blue: &[JobNetwork]) {
    let volunteer = world.volunteers.iter().find(|v| v.host == network.host).unwrap();
    let mut job = network.probe().unwrap();
    assert_eq!(network.interfaces, ["lo", "mesh0"], "{}", network.host);

    // Members: by address, by number and by OAR's host name.
    for member in red {
        let names = [member.ipv4.unwrap().to_string(), member.host.clone()];
        for name in names {
            let target = format!("tcp:{name}:{TOKEN_PORT}");
            assert_eq!(job.dial(&target).unwrap().unwrap(), "red", "{target}");
        }
        let target = format!("udp:[{}]:{TOKEN_PORT}", member.ipv6.unwrap());
        assert_eq!(job.dial(&target).unwrap().unwrap(), "red", "{target}");
    }

    // The volunteer's router and its own machine, on the addresses of its LAN.
    let router = volunteer.machine.own_router();
    let lan = SocketAddr::from((router.inner, LISTENER));
    listen(&router.netns, lan);
    let own = SocketAddr::from((volunteer.machine.address, LISTENER));
    listen(&volunteer.machine.netns, own);
    for address in [lan, own] {
        assert_shut(volunteer, &mut job, &format!("tcp:{address}"));
        assert_shut(volunteer, &mut job, &format!("udp:{address}"));
    }
    // The coordinator.
    let coordinator = format!("connect:{}:6443", world.servers[0].machine.address);
    assert_shut(volunteer, &mut job, &coordinator);

    // The other job: its own members reach the address, this one does not.
    for other in blue {
        let target = format!("tcp:[{}]:{TOKEN_PORT}", other.ipv6.unwrap());
        let itself = other.probe().unwrap().dial(&target).unwrap();
        assert_eq!(itself.unwrap(), "blue", "{target}");
        let inside = job.dial(&target).unwrap();
        assert!(inside.is_err(), "red reaches blue at {target}: {inside:?}");
    }
}

#[test]
fn a_job_reaches_its_members_and_nothing_else() {
    let _alone = common::alone();
    WORLD.with(&settings(), &VOLUNTEERS, |world| {
        // Two jobs at once on the same six machines: each has a core of every one.
        let ids = [submit_probe(world, "red", 6, &[]), submit_probe(world, "blue", 6, &[])];
        let (red, blue) = (probes(world, "red", 6), probes(world, "blue", 6));

        // What does not arrive takes its time: all of them try at once.
        thread::scope(|scope| {
            for network in &red {
                scope.spawn(|| assert_confined(world, network, &red, &blue));
            }
        });
        end(&red, 0);
        end(&blue, 0);
        assert_ended_well(world, &ids);
    });
}

#[test]
fn what_a_job_sends_is_seen_in_its_mesh_and_on_no_outer_link() {
    let _alone = common::alone();
    WORLD.with(&settings(), &VOLUNTEERS, |world| {
        let marker = marker();
        // The links are watched before the job is there: its launch opens flows too.
        let mut outer = Vec::new();
        for volunteer in &world.volunteers {
            let machine = &volunteer.machine;
            let start = |netns, name| Capture::start(netns, name, marker.as_bytes()).unwrap();
            outer.push((&volunteer.host, true, start(&machine.netns, "eth0")));
            for router in &machine.routers {
                outer.push((&router.name, false, start(&router.netns, &router.wan)));
            }
        }
        let id = submit_probe(world, "marked", 6, &[]);
        let networks = probes(world, "marked", 6);
        let (first, others) = networks.split_first().unwrap();
        let mut sender = first.probe().unwrap();
        let inner = Capture::start(&first.netns, "mesh0", marker.as_bytes()).unwrap();
        for other in others {
            let receiver = Capture::start(&other.netns, "mesh0", marker.as_bytes()).unwrap();
            let to = format!("{}:{TOKEN_PORT}", other.ipv4.unwrap());
            let arrived = wait::until(format!("the marker at {}", other.host), SOON, || {
                assert_eq!(sender.ask(&format!("send {to} {marker}")).unwrap(), "sent");
                (receiver.seen().marked > 0).then_some(())
            });
            arrived.unwrap();
        }
        assert!(inner.seen().marked >= others.len() as u64, "{:?}", inner.seen());
        drop(sender);
        end(&networks, 0);
        assert_ended_well(world, &[id]);

        // The markers have arrived, so whatever carried them has been on these links. Connections
        // are tried in both directions: outwards they work and are seen, inwards they do not arrive.
        for volunteer in &world.volunteers {
            let coordinator = format!("connect:{}:6443", world.servers[0].machine.address);
            volunteer.machine.netns.run(move || probe::dial(&coordinator)).unwrap().unwrap();
            if let Some(router) = volunteer.machine.routers.last().filter(|r| r.nat.is_some()) {
                let inwards = format!("connect:{}:22", router.outer);
                world.servers[0]
                    .machine
                    .netns
                    .run(move || probe::dial(&inwards))
                    .unwrap()
                    .unwrap_err();
            }
        }
        for (link, is_machine, capture) in &outer {
            let seen = wait::until(format!("a connection on {link}"), SOON, || {
                Some(capture.seen()).filter(|seen| seen.outbound_syns > 0)
            });
            let Seen { marked, inbound_syns, .. } = seen.unwrap();
            assert_eq!(marked, 0, "{link}: the marker went over it in clear");
            if *is_machine {
                assert_eq!(inbound_syns, 0, "{link}: a connection came from outside");
            }
        }
        assert_routers_stayed_shut(world);
    });
}

fn assert_routers_stayed_shut(world: &World) {
    for router in world.volunteers.iter().flat_map(|v| &v.machine.routers) {
        let audit = router.audit().unwrap();
        assert_eq!(audit.port_forwards, [""; 0], "{}", router.name);
        if router.is_shut() {
            assert_eq!(audit.opened_from_outside, 0, "{}", router.name);
        }
    }
}

/// 32 random characters: nothing else on the links looks like them.
fn marker() -> String {
    let random = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap();
    random.trim().replace('-', "")
}
