//! Each router is what its preset says, seen from outside with UDP probes; and it stays shut.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::OnceLock;
use std::time::Duration;

use netsim::topology::{Machine, Topology};
use netsim_scenario::Preset;
use netsim_sim::{Filtering, Mapping};

/// How long an answer may take. Everything is on this machine.
const ANSWER: Duration = Duration::from_secs(2);
/// Ports of the servers.
const PORTS: [u16; 3] = [7001, 7002, 7003];

/// The presets that the kernel's own rules can do.
const KERNEL: [Preset; 6] = [
    Preset::None,
    Preset::Home,
    Preset::FullCone,
    Preset::Restricted,
    Preset::Carrier,
    Preset::Symmetric,
];

struct Probes {
    _topology: Topology,
    machines: Vec<(Preset, Machine)>,
    servers: [Machine; 2],
}

fn probes() -> &'static Probes {
    static PROBES: OnceLock<Probes> = OnceLock::new();
    PROBES.get_or_init(|| {
        let topology = Topology::new().unwrap();
        let machines = KERNEL.map(|p| (p, topology.add(p.name(), p).unwrap())).into();
        let servers = ["server-1", "server-2"].map(|s| topology.add(s, Preset::None).unwrap());
        Probes { _topology: topology, machines, servers }
    })
}

/// Sends from `inner` to `server` and returns the endpoint that the server sees.
fn mapped(inner: &UdpSocket, server: &UdpSocket) -> SocketAddr {
    inner.send_to(b"out", server.local_addr().unwrap()).unwrap();
    server.set_read_timeout(Some(ANSWER)).unwrap();
    let (_, from) = server.recv_from(&mut [0; 16]).expect("the packet gets out");
    from
}

/// Whether a packet from `server` to `endpoint` reaches `inner`. The packet that `friend`, which is
/// always let in, sends afterwards tells when to stop waiting.
fn gets_in(
    inner: &UdpSocket,
    server: &UdpSocket,
    friend: &UdpSocket,
    endpoint: SocketAddr,
) -> bool {
    server.send_to(b"stranger", endpoint).unwrap();
    friend.send_to(b"friend", endpoint).unwrap();
    inner.set_read_timeout(Some(ANSWER)).unwrap();
    let mut stranger = false;
    loop {
        let mut bytes = [0; 16];
        let (length, _) = inner.recv_from(&mut bytes).expect("a friend's packet gets in");
        match &bytes[..length] {
            b"stranger" => stranger = true,
            _ => return stranger,
        }
    }
}

/// How much of the sender's endpoint a filter looks at.
fn strictness(filtering: Filtering) -> u8 {
    match filtering {
        Filtering::EndpointIndependent => 0,
        Filtering::AddressDependent => 1,
        Filtering::AddressAndPortDependent => 2,
    }
}

/// Where the world sees the machine.
fn public_address(machine: &Machine) -> IpAddr {
    match machine.routers.last() {
        Some(router) if router.nat.is_some() => router.outer,
        _ => machine.address,
    }
}

fn bound(machine: &Machine, port: u16) -> UdpSocket {
    let address = machine.address;
    machine.netns.run(move || UdpSocket::bind((address, port))).unwrap().unwrap()
}

#[test]
fn every_router_maps_and_filters_as_its_profile_says() {
    let _alone = common::alone();
    let Probes { machines, servers: [near, far], .. } = probes();
    for (behind, machine) in machines {
        let name = &machine.name;
        let inner = machine.udp(4242).unwrap();
        let near_sockets = PORTS.map(|port| bound(near, port));
        let far_socket = bound(far, PORTS[0]);
        let chain = behind.chain();

        let seen: BTreeSet<SocketAddr> =
            near_sockets.iter().map(|server| mapped(&inner, server)).collect();
        let independent = chain.iter().all(|nat| nat.mapping == Mapping::EndpointIndependent);
        assert_eq!(seen.len(), if independent { 1 } else { 3 }, "{name}: mapping {seen:?}");

        // A fresh socket: only `friend` has been written to.
        let inner = machine.udp(4343).unwrap();
        let [friend, other_port, _] = &near_sockets;
        let endpoint = mapped(&inner, friend);
        let strictest = chain.iter().map(|nat| strictness(nat.filtering)).max().unwrap_or(0);
        let same_address = gets_in(&inner, other_port, friend, endpoint);
        let other_address = gets_in(&inner, &far_socket, friend, endpoint);
        assert_eq!(other_address, strictest == 0, "{name}: from anybody");
        assert_eq!(same_address, strictest <= 1, "{name}: from another port");
    }
}

#[test]
fn unsolicited_packets_leave_the_mapping_alone() {
    let _alone = common::alone();
    let Probes { machines, servers: [near, far], .. } = probes();
    for (_, machine) in machines.iter().filter(|(behind, _)| *behind != Preset::Symmetric) {
        let public = public_address(machine);
        let (friend, stranger) = (bound(near, 7010), bound(far, 7011));
        let port = 4545;
        // Twice: before the machine has sent anything, and when a mapping exists.
        stranger.send_to(b"knock", (public, port)).unwrap();
        let inner = machine.udp(port).unwrap();
        let first = mapped(&inner, &friend);
        stranger.send_to(b"knock", first).unwrap();

        assert_eq!(mapped(&inner, &stranger), first, "{}", machine.name);
    }
}

#[test]
fn nobody_reaches_a_machine_behind_a_router_by_tcp() {
    let _alone = common::alone();
    let Probes { machines, servers: [near, _], .. } = probes();
    for (behind, machine) in machines {
        let address = machine.address;
        let listener =
            machine.netns.run(move || TcpListener::bind((address, 4646))).unwrap().unwrap();
        let dial = |target: IpAddr| -> io::Result<()> {
            let target = SocketAddr::from((target, 4646));
            let limit = Duration::from_millis(300);
            near.netns.run(move || TcpStream::connect_timeout(&target, limit).map(drop))?
        };
        if *behind == Preset::None {
            dial(address).expect("a public machine is reachable");
        } else {
            dial(address).expect_err("private addresses lead nowhere");
            dial(public_address(machine)).expect_err("nothing is forwarded");
        }
        drop(listener);
    }
}

#[test]
fn routers_have_no_port_forwards_and_filtering_ones_let_no_flow_be_opened() {
    let _alone = common::alone();
    for (_, machine) in &probes().machines {
        for router in &machine.routers {
            let audit = router.audit().unwrap();
            assert_eq!(audit.port_forwards, [""; 0], "{}", router.name);
            if router.nat.is_some_and(|nat| strictness(nat.filtering) == 2) {
                assert_eq!(audit.opened_from_outside, 0, "{}", router.name);
            }
        }
    }
}
