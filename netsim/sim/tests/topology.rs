//! Networks from data: names, regions, firewalls, IPv6, and what happens on the timeline.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netsim_sim::{
    Built, Change, Delivery, Happening, HostId, HostState, Network, Outgoing, Topology,
    TopologyError,
};

const END: Duration = Duration::from_secs(1000);
const MS: Duration = Duration::from_millis(1);

fn topology(text: &str) -> Topology {
    serde_json::from_str(text).expect("the text is a topology")
}

fn build(text: &str) -> Built<u32> {
    topology(text).build(1, END).expect("the topology can be built")
}

/// Everything that happens until nothing is left.
fn run(network: &mut Network<u32>) -> Vec<(Duration, Happening<u32>)> {
    let mut seen = Vec::new();
    while network.next_event().is_some() {
        let happening = network.handle_next();
        seen.extend(happening.map(|happening| (network.now(), happening)));
    }
    seen
}

/// Sends one packet and tells how it arrived, and after how long.
fn send(
    network: &mut Network<u32>,
    from: HostId,
    packet: Outgoing<u32>,
) -> Option<(Duration, Delivery<u32>)> {
    let sent = network.now();
    network.send_packet(from, packet);
    run(network).into_iter().find_map(|(at, happening)| match happening {
        Happening::Delivered(delivery) => Some((at - sent, delivery)),
        Happening::TooBig(_) | Happening::Changed(_) => None,
    })
}

fn udp(to: IpAddr, port: u16) -> Outgoing<u32> {
    Outgoing::udp(5000, SocketAddr::new(to, port), 100, 0)
}

fn tcp(to: IpAddr, port: u16) -> Outgoing<u32> {
    Outgoing::tcp(5000, SocketAddr::new(to, port), 100, 0)
}

#[test]
fn regions_are_as_far_apart_as_the_way_between_them() {
    let Built { mut network, hosts, .. } = build(
        r#"{
            "regions": ["here", "there"],
            "ways": [{"between": ["here", "there"], "way": {"delay-us": 80000}}],
            "routers": [{"name": "home", "region": "there", "nat": {"preset": "home"}}],
            "hosts": [
                {"name": "near", "count": 2, "region": "here"},
                {"name": "far", "behind": "home"}
            ]
        }"#,
    );
    let (near, next) = (hosts["near-1"], hosts["near-2"]);
    let near_address = network.address(near);
    let (took, _) = send(&mut network, next, udp(near_address, 1)).unwrap();
    assert_eq!(took, Duration::ZERO);
    let (took, delivery) = send(&mut network, hosts["far"], udp(near_address, 1)).unwrap();
    assert_eq!(took, MS * 80);
    let answer = Outgoing::udp(1, delivery.from, 100, 0);
    assert_eq!(send(&mut network, near, answer).unwrap().0, MS * 80);
}

#[test]
fn firewalls_let_through_what_they_say() {
    let expected = [
        ("none", [true, true, true, true]),
        ("udp-blocked", [false, true, true, true]),
        ("tcp-80-443-only", [false, true, false, false]),
        ("proxy-only", [false, false, false, true]),
    ];
    for (firewall, expected) in expected {
        let text = r#"{
            "routers": [{"name": "gate", "nat": {"preset": "home"}, "firewall": "FIREWALL",
                         "proxy": "proxy"}],
            "hosts": [{"name": "server"}, {"name": "proxy"}, {"name": "pc", "behind": "gate"}]
        }"#;
        let Built { mut network, hosts, .. } = build(&text.replace("FIREWALL", firewall));
        let [server, proxy] = ["server", "proxy"].map(|name| network.address(hosts[name]));
        let packets = [udp(server, 443), tcp(server, 443), tcp(server, 6443), tcp(proxy, 3128)];
        let passed = packets.map(|packet| match send(&mut network, hosts["pc"], packet) {
            // What gets out is answered.
            Some((_, Delivery { host, from, to, protocol, .. })) => {
                let port = to.port();
                let answer = Outgoing { protocol, port, to: from, size_bytes: 100, payload: 1 };
                send(&mut network, host, answer).is_some()
            }
            None => false,
        });
        assert_eq!(passed, expected, "{firewall}");
        assert_eq!(network.counters().firewalled, passed.iter().filter(|p| !**p).count() as u64);
    }
}

#[test]
fn ipv6_is_not_translated_but_filtered() {
    let Built { mut network, hosts, .. } = build(
        r#"{
            "routers": [
                {"name": "home", "nat": {"preset": "symmetric"}, "ipv6": true, "stateful": {}},
                {"name": "inner", "behind": "home", "ipv6": true},
                {"name": "old", "nat": {"preset": "home"}}
            ],
            "hosts": [{"name": "server"}, {"name": "pc", "behind": "inner"},
                      {"name": "pc4", "behind": "old"}]
        }"#,
    );
    let (server, pc) = (hosts["server"], hosts["pc"]);
    let [server6, pc6] = [server, pc].map(|host| network.ipv6_address(host).unwrap());
    assert_eq!(network.ipv6_address(hosts["pc4"]), None);
    assert!(send(&mut network, server, udp(pc6, 5000)).is_none(), "nobody asked for it");
    let (_, delivery) = send(&mut network, pc, udp(server6, 53)).unwrap();
    assert_eq!(delivery.from, SocketAddr::new(pc6, 5000));
    let answer = Outgoing::udp(53, delivery.from, 100, 0);
    assert_eq!(send(&mut network, server, answer).unwrap().1.host, pc);
    let other_port = Outgoing::udp(54, delivery.from, 100, 0);
    assert!(send(&mut network, server, other_port).is_none());
    assert!(send(&mut network, hosts["pc4"], udp(server6, 53)).is_none());
    assert_eq!((network.counters().filtered, network.counters().unroutable), (2, 1));
}

#[test]
fn router_without_nat_has_public_addresses_behind_it() {
    let Built { mut network, hosts, .. } = build(
        r#"{
            "routers": [{"name": "campus", "stateful": {"filtering": "address-dependent"}}],
            "hosts": [{"name": "server"}, {"name": "pc", "behind": "campus"}],
            "events": [{"at-ms": 5000, "event": {"roam": {"host": "pc"}}}]
        }"#,
    );
    let (server, pc) = (hosts["server"], hosts["pc"]);
    let (server_at, pc_at) = (network.address(server), network.address(pc));
    assert_eq!(network.public_address(pc), pc_at);
    network.send_packet(server, udp(pc_at, 5000));
    network.step();
    network.step();
    assert_eq!(network.counters().filtered, 1);
    network.send_packet(pc, udp(server_at, 1));
    let from = std::iter::from_fn(|| Some(network.step())).flatten().next().unwrap().from;
    assert_eq!(from.ip(), pc_at);
    run(&mut network);
    assert_ne!(network.address(pc), pc_at);
    assert!(send(&mut network, server, udp(pc_at, 1)).is_none());
    assert_eq!(network.counters().unroutable, 1);
}

#[test]
fn timeline_takes_place_at_its_times() {
    let Built { mut network, hosts, .. } = build(
        r#"{
            "hosts": [{"name": "a"}, {"name": "b"}],
            "events": [
                {"at-ms": 10, "event": {"suspend": "b"}},
                {"at-ms": 20, "event": {"resume": "b"}},
                {"at-ms": 30, "event": {"link-down": "b"}},
                {"at-ms": 40, "event": {"link-up": "b"}},
                {"at-ms": 50, "event": {"kill": "b"}},
                {"at-ms": 55, "event": {"resume": "b"}},
                {"at-ms": 60, "event": {"start": "b"}}
            ]
        }"#,
    );
    let to = network.address(hosts["b"]);
    let mut heard = Vec::new();
    for ms in (5..70).step_by(10) {
        while network.next_event().is_some_and(|at| at <= MS * ms) {
            network.handle_next();
        }
        network.advance_to(MS * ms);
        network.send_packet(hosts["a"], udp(to, 1));
        let at_once = std::iter::from_fn(|| {
            network.next_event().filter(|at| *at <= MS * ms)?;
            Some(network.step())
        });
        heard.push(at_once.flatten().count() == 1);
    }
    assert_eq!(heard, [true, false, true, false, true, false, true]);
    assert_eq!(network.counters().down, 3);
}

#[test]
fn churn_takes_hosts_away_and_brings_them_back() {
    let Built { mut network, hosts, .. } = build(
        r#"{"hosts": [{"name": "pc", "count": 50,
            "churn": {"exponential": {"mean-on-ms": 100000, "mean-off-ms": 50000}}}]}"#,
    );
    let on = hosts.values().filter(|host| network.state(**host) == HostState::Running).count();
    assert!((20..45).contains(&on), "{on}");
    let changes = run(&mut network);
    assert!((400..1000).contains(&changes.len()), "{}", changes.len());
    assert!(changes.iter().all(|(at, change)| *at < END
        && matches!(change, Happening::Changed(Change::Kill(_) | Change::Start(_)))));
}

#[test]
fn too_big_packets_are_noticed_or_vanish() {
    for (too_big, noticed) in [("notice", true), ("drop", false)] {
        let text = r#"{
            "routers": [{"name": "adsl", "nat": {"preset": "symmetric"}, "uplink": {"profile": {
                "up": {"mtu": {"bytes": 1492, "too-big": "TOO-BIG"}}}}}],
            "hosts": [{"name": "server"}, {"name": "pc", "behind": "adsl",
                "link": {"profile": {"up": {"delay-us": 3000}}}}]
        }"#;
        let Built { mut network, hosts, .. } = build(&text.replace("TOO-BIG", too_big));
        let to = SocketAddr::new(network.address(hosts["server"]), 1);
        network.send_packet(hosts["pc"], Outgoing::udp(5000, to, 1493, 0));
        let seen = run(&mut network);
        match &seen[..] {
            [(at, Happening::TooBig(notice))] => {
                assert!(noticed && *at == MS * 6);
                let told = (notice.host, notice.port, notice.to, notice.mtu_bytes);
                assert_eq!(told, (hosts["pc"], 5000, to, 1492));
            }
            other => assert!(!noticed && other.is_empty(), "{other:?}"),
        }
        assert_eq!(network.counters().too_big, 1);
        assert!(send(&mut network, hosts["pc"], Outgoing::udp(5000, to, 1492, 0)).is_some());
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    // A network that is built after all is not one to print.
    let refused = |text: &str| topology(text).build::<u32>(1, END).map(|_| ()).unwrap_err();
    let unknown = |kind, name: &str| TopologyError::Unknown { kind, name: name.to_owned() };
    assert_eq!(refused(r#"{"hosts": [{"name": "a", "behind": "x"}]}"#), unknown("router", "x"));
    assert_eq!(
        refused(r#"{"events": [{"at-ms": 1, "event": {"kill": "x"}}]}"#),
        unknown("host", "x")
    );
    let name = "a".to_owned();
    let twice = TopologyError::Twice { kind: "host", name };
    assert_eq!(refused(r#"{"hosts": [{"name": "a"}, {"name": "a"}]}"#), twice);
    for text in [
        r#"{"hosts": [{"name": "a", "count": 4000000000}]}"#,
        r#"{"hosts": [{"name": "a", "count": 140000}]}"#,
        r#"{"routers": [{"name": "r"}], "hosts": [{"name": "b", "behind": "r", "count": 70000}]}"#,
        r#"{"hosts": [{"name": "a", "count": 2000,
            "churn": {"exponential": {"mean-on-ms": 1000, "mean-off-ms": 1000}}}]}"#,
    ] {
        assert!(matches!(refused(text), TopologyError::TooMany { .. }));
    }
    let share = r#"{"hosts": [{"name": "a", "link": {"profile": {"up": {"duplicate": 2}}}}]}"#;
    assert!(matches!(refused(share), TopologyError::Link { .. }));
    let typo = r#"{"hosts": [{"name": "a", "behnid": "x"}]}"#;
    assert!(serde_json::from_str::<Topology>(typo).is_err());
}

#[test]
fn text_and_back_is_the_same() {
    let text = r#"{
        "regions": ["eu"],
        "routers": [{"name": "cgn", "nat": {"preset": "carrier-grade"}},
            {"name": "r", "behind": "cgn", "nat": {"axes": {"mapping": "address-dependent",
             "filtering": "address-dependent", "port": "sequential", "hairpin": true,
             "lifetime-s": 30, "refresh": "outbound", "when-full": "evict-oldest"}}}],
        "hosts": [{"name": "a", "behind": "r", "link": {"preset": "4g"},
            "churn": {"intervals": [{"from-ms": 0, "to-ms": 10}]}}],
        "events": [{"at-ms": 3, "event": {"nat-reboot": "r"}}]
    }"#;
    let once = topology(text);
    let again = topology(&serde_json::to_string(&once).unwrap());
    assert_eq!(once, again);
    assert!(once.build::<u32>(1, END).is_ok());
}

#[test]
fn a_machine_is_in_the_region_of_the_router_that_it_is_behind_at_last() {
    let topology = topology(
        r#"{"regions": ["us", "eu"],
            "routers": [{"name": "carrier", "region": "eu"}, {"name": "home", "behind": "carrier"}],
            "hosts": [{"name": "a", "behind": "home"}, {"name": "b", "region": "us"}, {"name": "c"}]}"#,
    );

    let regions = topology.regions_by_name();

    let found = ["carrier", "home", "a", "b", "c"].map(|name| regions.get(name).copied());
    assert_eq!(found, [Some("eu"), Some("eu"), Some("eu"), Some("us"), None]);
}
