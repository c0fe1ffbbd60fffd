//! Networks in the simulator's words, as the kernel has them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use netsim::topology::{Emulation, Machine, Topology};
use netsim_sim::topology::{HostSpec, LinkSpec, NatSpec, RouterSpec, WaySpec};
use netsim_sim::{Event, Firewall, LinkProfile, NatProfile, OneWay, Stateful};

/// How long an answer may take. Everything is on this machine.
const ANSWER: Duration = Duration::from_secs(2);
/// How long silence is listened to.
const SILENCE: Duration = Duration::from_millis(300);

fn router(name: &str) -> RouterSpec {
    RouterSpec { name: name.to_owned(), ..RouterSpec::default() }
}

fn home(name: &str) -> RouterSpec {
    RouterSpec { nat: NatSpec::Axes(NatProfile::HOME), ..router(name) }
}

fn host(name: &str, behind: Option<&str>) -> HostSpec {
    HostSpec { name: name.to_owned(), behind: behind.map(str::to_owned), ..HostSpec::default() }
}

fn build(routers: Vec<RouterSpec>, hosts: Vec<HostSpec>) -> Topology {
    let spec = netsim_sim::Topology { routers, hosts, ..netsim_sim::Topology::default() };
    Topology::build(&spec, 1).unwrap()
}

fn bound(machine: &Machine, address: IpAddr, port: u16) -> UdpSocket {
    let socket = machine.netns.run(move || UdpSocket::bind((address, port))).unwrap().unwrap();
    socket.set_read_timeout(Some(ANSWER)).unwrap();
    socket
}

/// Sends from a socket to another; the source that is seen there.
fn seen(from: &UdpSocket, to: &UdpSocket) -> io::Result<SocketAddr> {
    from.send_to(b"hello", to.local_addr()?)?;
    to.recv_from(&mut [0; 16]).map(|(_, from)| from)
}

/// Connects, and says what becomes of it.
fn connects(from: &Machine, to: SocketAddr) -> io::Result<()> {
    let limit = SILENCE;
    from.netns.run(move || TcpStream::connect_timeout(&to, limit).map(drop))?
}

fn listen(at: &Machine, port: u16) -> (TcpListener, SocketAddr) {
    let address = SocketAddr::from((at.address, port));
    let listener = at.netns.run(move || TcpListener::bind(address)).unwrap().unwrap();
    (listener, address)
}

#[test]
fn machines_share_a_network_behind_two_nats_and_have_different_ports_outside() {
    let _alone = common::alone();
    let inner = RouterSpec { behind: Some("carrier".to_owned()), ..home("flat") };
    let hosts = vec![HostSpec { count: 2, ..host("tenant", Some("flat")) }, host("server", None)];
    let net = build(vec![home("carrier"), inner], hosts);
    let [one, two, server] =
        ["tenant-1", "tenant-2", "server"].map(|name| net.machine(name).unwrap());
    let carrier = net.router("carrier").unwrap();
    let names: Vec<_> = one.routers.iter().map(|router| router.name.as_str()).collect();
    assert_eq!(names, ["flat", "carrier"]);

    let outside = bound(&server, server.address, 7000);
    let [at_one, at_two] = [&one, &two].map(|m| bound(m, m.address, 5000));
    let from_one = seen(&at_one, &outside).unwrap();
    let from_two = seen(&at_two, &outside).unwrap();
    assert_eq!(from_one.ip(), carrier.outer);
    assert_eq!(from_two.ip(), carrier.outer);
    assert_ne!(from_one, from_two);
    // And inside, directly.
    assert_eq!(seen(&at_one, &at_two).unwrap(), at_one.local_addr().unwrap());
}

#[test]
fn firewalls_let_through_what_they_say() {
    let _alone = common::alone();
    let wall = |name, firewall| RouterSpec { firewall, ..home(name) };
    let proxied =
        RouterSpec { proxy: Some("proxy".to_owned()), ..wall("proxied", Firewall::ProxyOnly) };
    let routers =
        vec![wall("no-udp", Firewall::UdpBlocked), wall("web", Firewall::Tcp80443Only), proxied];
    let hosts = vec![
        host("a", Some("no-udp")),
        host("b", Some("web")),
        host("c", Some("proxied")),
        host("proxy", None),
        host("server", None),
    ];
    let net = build(routers, hosts);
    let [a, b, c, proxy, server] =
        ["a", "b", "c", "proxy", "server"].map(|name| net.machine(name).unwrap());
    let (_at_443, web) = listen(&server, 443);
    let (_at_8443, other) = listen(&server, 8443);
    let (_at_proxy, through) = listen(&proxy, 3128);
    let outside = bound(&server, server.address, 443);
    outside.set_read_timeout(Some(SILENCE)).unwrap();

    for (machine, open) in [(&a, [web, other, through]), (&b, [web; 3]), (&c, [through; 3])] {
        for target in [web, other, through] {
            let expected = open.contains(&target);
            let got = connects(machine, target);
            assert_eq!(got.is_ok(), expected, "{} to {target}: {got:?}", machine.name);
        }
        let inside = bound(machine, machine.address, 0);
        let from = seen(&inside, &outside);
        assert!(from.is_err(), "{} got a datagram out: {from:?}", machine.name);
    }
}

#[test]
fn ipv6_is_reached_where_all_routers_forward_it_and_a_filter_lets_in_answers_only() {
    let _alone = common::alone();
    let dual = RouterSpec { ipv6: true, stateful: Some(Stateful::default()), ..home("dual") };
    let net = build(
        vec![dual, home("old")],
        vec![host("six", Some("dual")), host("four", Some("old")), host("server", None)],
    );
    let [six, four, server] = ["six", "four", "server"].map(|name| net.machine(name).unwrap());
    assert_eq!(four.ipv6, None);
    let [inner, outer] = [&six, &server].map(|m| m.ipv6.unwrap());

    let inside = bound(&six, inner.into(), 5000);
    let outside = bound(&server, outer.into(), 7000);
    let stranger = bound(&server, outer.into(), 7001);
    assert_eq!(seen(&inside, &outside).unwrap(), SocketAddr::from((inner, 5000)));
    stranger.send_to(b"stranger", (inner, 5000)).unwrap();
    outside.send_to(b"friend", (inner, 5000)).unwrap();
    let mut bytes = [0; 16];
    let (length, _) = inside.recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"friend");
    assert_ne!(inner, Ipv6Addr::UNSPECIFIED);
}

#[test]
fn machines_with_ipv6_only_have_no_other_address_and_open_their_filters_themselves() {
    let _alone = common::alone();
    let six = |name| {
        let stateful = Some(Stateful::default());
        RouterSpec { ipv6: true, ipv6_only: true, stateful, ..router(name) }
    };
    let hosts = vec![host("a", Some("one")), host("b", Some("two")), host("server", None)];
    let net = build(vec![six("one"), six("two")], hosts);
    let [a, b, server] = ["a", "b", "server"].map(|name| net.machine(name).unwrap());
    assert!(a.address.is_ipv6() && a.own_router().outer.is_ipv6(), "{a:?}");
    assert_eq!(a.ipv6.map(IpAddr::from), Some(a.address));
    let [at_a, at_b] = [&a, &b].map(|machine| bound(machine, machine.address, 5000));

    at_b.set_read_timeout(Some(SILENCE)).unwrap();
    assert!(seen(&at_a, &at_b).is_err(), "a stranger was let in");
    assert_eq!(seen(&at_b, &at_a).unwrap(), SocketAddr::from((b.address, 5000)));
    assert_eq!(seen(&at_a, &at_b).unwrap(), SocketAddr::from((a.address, 5000)));
    // Its kernel knows no way to an IPv4 address.
    let (_listens, at_server) = listen(&server, 443);
    let refused = connects(&a, at_server).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::NetworkUnreachable);
}

#[test]
fn machines_roam_and_connections_of_a_router_that_starts_again_are_forgotten() {
    let _alone = common::alone();
    let symmetric = RouterSpec { nat: NatSpec::Axes(NatProfile::SYMMETRIC), ..router("cafe") };
    // With a link of its own, which goes with it.
    let slow = link(LinkProfile::symmetric(delayed(1)));
    let laptop = HostSpec { link: slow, ..host("laptop", Some("home")) };
    let net = build(vec![home("home"), symmetric], vec![laptop, host("server", None)]);
    let server = net.machine("server").unwrap();
    let outside = bound(&server, server.address, 7000);
    let at_home = net.machine("laptop").unwrap();
    let inside = bound(&at_home, Ipv4Addr::UNSPECIFIED.into(), 5000);
    let before = seen(&inside, &outside).unwrap();
    assert_eq!(before.ip(), net.router("home").unwrap().outer);

    let behind = Some("cafe".to_owned());
    net.apply(&Event::Roam { host: "laptop".to_owned(), behind }).unwrap();
    let away = net.machine("laptop").unwrap();
    assert_ne!(away.address, at_home.address);
    assert_eq!(away.own_router().name, "cafe");
    // The same socket, from another place.
    let there = seen(&inside, &outside).unwrap();
    assert_eq!(there.ip(), net.router("cafe").unwrap().outer);
    assert_eq!(seen(&inside, &outside).unwrap(), there);
    net.apply(&Event::NatReboot("cafe".to_owned())).unwrap();
    assert_ne!(seen(&inside, &outside).unwrap(), there);

    net.apply(&Event::Roam { host: "laptop".to_owned(), behind: None }).unwrap();
    let public = net.machine("laptop").unwrap();
    assert_eq!(seen(&inside, &outside).unwrap(), SocketAddr::from((public.address, 5000)));
}

#[test]
fn broken_links_carry_nothing_until_they_are_mended() {
    let _alone = common::alone();
    let net = build(vec![home("home")], vec![host("laptop", Some("home")), host("server", None)]);
    let [laptop, server] = ["laptop", "server"].map(|name| net.machine(name).unwrap());
    let (listener, address) = listen(&server, 7000);
    let (mut near, mut far) = {
        let near = laptop.netns.run(move || TcpStream::connect(address)).unwrap().unwrap();
        (near, listener.accept().unwrap().0)
    };
    near.set_read_timeout(Some(SILENCE)).unwrap();
    let down_up = [[Event::LinkDown("laptop".to_owned()), Event::LinkUp("laptop".to_owned())]];
    for [down, up] in down_up {
        net.apply(&down).unwrap();
        far.write_all(b"x").unwrap();
        let silent = near.read(&mut [0; 8]).unwrap_err();
        assert_eq!(silent.kind(), io::ErrorKind::WouldBlock, "{down:?}");
        net.apply(&up).unwrap();
        near.set_read_timeout(Some(ANSWER * 5)).unwrap();
        // What was sent while it was down is sent again.
        assert_eq!(near.read(&mut [0; 8]).unwrap(), 1, "{up:?}");
        near.set_read_timeout(Some(SILENCE)).unwrap();
    }
}

/// The shortest of some round trips, in the hope that one of them met no other work on this machine.
fn best_round_trip(from: &UdpSocket, to: &UdpSocket) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..20 {
        let begun = Instant::now();
        let back = seen(from, to).unwrap();
        to.send_to(b"back", back).unwrap();
        from.recv_from(&mut [0; 16]).unwrap();
        best = best.min(begun.elapsed());
    }
    best
}

const fn delayed(millis: u64) -> OneWay {
    OneWay { delay: Duration::from_millis(millis), ..OneWay::PERFECT }
}

fn link(profile: LinkProfile) -> LinkSpec {
    LinkSpec::Profile(Box::new(profile))
}

#[test]
fn links_uplinks_and_ways_between_regions_take_their_time_and_no_less() {
    let _alone = common::alone();
    let profile = |up, down| link(LinkProfile { up: delayed(up), down: delayed(down) });
    let home =
        RouterSpec { uplink: profile(7, 11), region: Some("west".to_owned()), ..home("home") };
    let laptop = HostSpec { link: profile(3, 2), ..host("laptop", Some("home")) };
    let far = HostSpec { region: Some("east".to_owned()), ..host("far", None) };
    let near = HostSpec { region: Some("west".to_owned()), ..host("near", None) };
    let between = ["west".to_owned(), "east".to_owned()];
    let spec = netsim_sim::Topology {
        regions: between.to_vec(),
        ways: vec![WaySpec { between, way: delayed(20) }],
        routers: vec![home],
        hosts: vec![laptop, far, near],
        ..netsim_sim::Topology::default()
    };
    let net = Topology::build_with(&spec, Emulation::UserSpace, 1).unwrap();
    let [laptop, far, near] = ["laptop", "far", "near"].map(|name| net.machine(name).unwrap());
    let inside = bound(&laptop, laptop.address, 5000);
    for (machine, expected) in [(&near, 23), (&far, 63)] {
        let outside = bound(machine, machine.address, 7000);
        let took = best_round_trip(&inside, &outside);
        let expected = Duration::from_millis(expected);
        assert!(took >= expected, "{}: {took:?} is faster than {expected:?}", machine.name);
        // Nothing is passed twice; a busy machine may add a lot.
        let most = expected * 2 + Duration::from_millis(50);
        assert!(took < most, "{}: {took:?}", machine.name);
    }
}

#[test]
fn nats_that_the_kernel_cannot_be_are_made_in_user_space() {
    let _alone = common::alone();
    let nat = |profile| NatSpec::Axes(profile);
    let sequential =
        RouterSpec { nat: nat(NatProfile::SYMMETRIC_SEQUENTIAL), ..router("sequential") };
    let carrier = RouterSpec { nat: nat(NatProfile::CARRIER_GRADE), ..router("carrier") };
    let behind = RouterSpec { behind: Some("carrier".to_owned()), ..home("flat") };
    let net = build(
        vec![sequential, carrier, behind],
        vec![
            host("a", Some("sequential")),
            host("b", Some("flat")),
            host("c", Some("carrier")),
            host("server", None),
        ],
    );
    let [a, b, c, server] = ["a", "b", "c", "server"].map(|name| net.machine(name).unwrap());
    let outside = [7000, 7001].map(|port| bound(&server, server.address, port));
    let inside = bound(&a, a.address, 5000);
    let [first, second] = outside.each_ref().map(|server| seen(&inside, server).unwrap());
    assert_eq!(first.ip(), net.router("sequential").unwrap().outer);
    assert_eq!(second.port(), first.port() + 1);
    // Answers come back, and TCP goes through as well.
    outside[0].send_to(b"back", first).unwrap();
    inside.recv_from(&mut [0; 16]).unwrap();
    let (listener, address) = listen(&server, 7000);
    for machine in [&a, &b, &c] {
        connects(machine, address).unwrap();
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), machine.routers.last().unwrap().outer);
    }
    // Behind the carrier two machines reach each other through its hairpin.
    let [at_b, at_c] = [&b, &c].map(|m| bound(m, m.address, 6000));
    let of_b = seen(&at_b, &outside[0]).unwrap();
    let of_c = seen(&at_c, &outside[0]).unwrap();
    assert_eq!(of_b.ip(), of_c.ip());
    at_b.send_to(b"round", of_c).unwrap();
    let (_, from) = at_c.recv_from(&mut [0; 16]).unwrap();
    assert_eq!(from, of_b);
    at_c.send_to(b"round", of_b).unwrap();
    at_b.recv_from(&mut [0; 16]).unwrap();
    // And a new life.
    net.apply(&Event::NatReboot("sequential".to_owned())).unwrap();
    assert_ne!(seen(&inside, &outside[0]).unwrap(), first);
}
