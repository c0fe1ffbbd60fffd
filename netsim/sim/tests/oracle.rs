//! The oracle against the simulator: machines that do no more than the oracle assumes reach each other
//! exactly where it says so.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use netsim_sim::{
    Delivery, Filtering, Gate, HostId, Link, Mapping, NatProfile, Network, PUBLIC, PortAllocation,
    Reach, RealmId, RouterProfile, Stateful, verdict, verdict_of_nats,
};

const PORT: u16 = 41641;
const LINK: Link = Link { delay: Duration::from_millis(5), loss: 0.0 };

const PORTS: [PortAllocation; 4] = [
    PortAllocation::Preserving,
    PortAllocation::PreservingOrRandom,
    PortAllocation::Sequential,
    PortAllocation::Random,
];

fn all_profiles(port: PortAllocation) -> impl Iterator<Item = NatProfile> {
    let mappings =
        [Mapping::EndpointIndependent, Mapping::AddressDependent, Mapping::AddressAndPortDependent];
    let filterings = [
        Filtering::EndpointIndependent,
        Filtering::AddressDependent,
        Filtering::AddressAndPortDependent,
    ];
    mappings.into_iter().flat_map(move |mapping| {
        let with = move |filtering| NatProfile { mapping, filtering, port, ..NatProfile::HOME };
        filterings.into_iter().map(with)
    })
}

/// Every NAT against every NAT, alone and in a row.
#[test]
fn punching_in_the_simulator_gives_what_the_oracle_says() {
    let mut chains: Vec<Vec<NatProfile>> = vec![vec![]];
    for port in PORTS {
        for profile in all_profiles(port) {
            chains.push(vec![profile]);
            chains.push(vec![profile, NatProfile::HOME]);
            chains.push(vec![NatProfile::RESTRICTED, profile]);
        }
        let sequential = NatProfile::SYMMETRIC_SEQUENTIAL;
        chains.push(vec![sequential, NatProfile { port, ..NatProfile::RESTRICTED }]);
        chains.push(vec![NatProfile::SYMMETRIC, NatProfile { port, ..sequential }]);
    }
    for a in &chains {
        for b in &chains {
            let place = |network: &mut Network<_>| {
                [network.add_host_behind(a, LINK), network.add_host_behind(b, LINK)]
            };
            assert_eq!(punched(&place), verdict_of_nats(a, b).reach, "{a:?} × {b:?}");
        }
    }
}

/// Two homes of one carrier, and machines in the carrier's own network.
#[test]
fn so_do_homes_behind_a_common_router() {
    for hairpin in [false, true] {
        for carrier in PORTS.into_iter().flat_map(all_profiles) {
            let carrier = NatProfile { hairpin, ..carrier };
            for a in [&[][..], &[NatProfile::HOME], &[NatProfile::SYMMETRIC_SEQUENTIAL]] {
                for b in [&[][..], &[NatProfile::FULL_CONE], &[NatProfile::SYMMETRIC]] {
                    let place = |network: &mut Network<_>| {
                        let (_, realm) = network.add_nat(PUBLIC, carrier, LINK);
                        [a, b].map(|chain| {
                            let realm = inside(network, realm, chain);
                            network.add_host(realm, LINK)
                        })
                    };
                    let chain = |own: &[NatProfile], first: usize| -> Vec<Gate> {
                        let own = own.iter().enumerate();
                        let own = own.map(|(index, nat)| gate(first + index, Some(*nat), None));
                        own.chain([gate(0, Some(carrier), None)]).collect()
                    };
                    let expected = verdict(&chain(a, 10), &chain(b, 20));
                    // Which of the two takes a port first is a race: no calculation counts.
                    let reach =
                        if punch(&place, [0, 0]) { Reach::Plain } else { Reach::Impossible };
                    let case = format!("{a:?} × {b:?} behind {carrier:?}: {expected:?}");
                    assert_eq!(reach, expected.reach, "{case}");
                }
            }
        }
    }
}

/// A firewall that translates nothing in front of a machine, or of a NAT.
#[test]
fn so_do_machines_behind_a_firewall_without_nat() {
    let filterings = [
        Filtering::EndpointIndependent,
        Filtering::AddressDependent,
        Filtering::AddressAndPortDependent,
    ];
    for filtering in filterings {
        let stateful = Some(Stateful { filtering, ..Stateful::default() });
        for b in PORTS.into_iter().flat_map(all_profiles) {
            for a in [None, Some(NatProfile::HOME), Some(NatProfile::SYMMETRIC_SEQUENTIAL)] {
                let place = |network: &mut Network<_>| {
                    let firewall = RouterProfile { stateful, ..RouterProfile::default() };
                    let (_, campus) = network.add_router(PUBLIC, &firewall);
                    let realm = inside(network, campus, &a.into_iter().collect::<Vec<_>>());
                    [network.add_host(realm, LINK), network.add_host_behind(&[b], LINK)]
                };
                let own = a.map(|nat| gate(1, Some(nat), None));
                let a_gates: Vec<Gate> = own.into_iter().chain([gate(0, None, stateful)]).collect();
                let expected = verdict(&a_gates, &[gate(2, Some(b), None)]);
                assert_eq!(punched(&place), expected.reach, "{a_gates:?} × {b:?}: {expected:?}");
            }
        }
    }
}

fn gate(router: usize, nat: Option<NatProfile>, stateful: Option<Stateful>) -> Gate {
    Gate { router, nat, stateful, ipv4: true, ipv6: false, firewall: Default::default() }
}

fn inside(network: &mut Network<Message>, realm: RealmId, chain: &[NatProfile]) -> RealmId {
    chain.iter().rev().fold(realm, |outside, nat| network.add_nat(outside, *nat, LINK).1)
}

type Place<'a> = &'a dyn Fn(&mut Network<Message>) -> [HostId; 2];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Message {
    Register,
    /// Names who is meant: a private address may be somebody else's next door.
    Ping(HostId),
    Pong(HostId),
}

/// How two machines can reach each other: by what they were told, or by the next port.
fn punched(place: Place<'_>) -> Reach {
    if punch(place, [0, 0]) {
        return Reach::Plain;
    }
    let predicted = [[0, 1], [1, 0], [1, 1]].into_iter().any(|ahead| punch(place, ahead));
    if predicted { Reach::Predicted } else { Reach::Impossible }
}

/// Both sides send to what they know of the other, in rounds, and answer what they receive: its own
/// address, and the endpoint that a server saw, or the port so far ahead of it. A path is there when
/// one of them has received an answer.
fn punch(place: Place<'_>, ahead: [u16; 2]) -> bool {
    let mut network = Network::new(3);
    let server = network.add_host(PUBLIC, LINK);
    let hosts = place(&mut network);
    let to_server = SocketAddr::new(network.address(server), PORT);
    let seen = hosts.map(|host| {
        network.send(host, PORT, to_server, Message::Register);
        run_until_idle(&mut network)[0].from
    });
    let told = [0, 1].map(|index| {
        let own = SocketAddr::new(network.address(hosts[index]), PORT);
        let outer =
            SocketAddr::new(seen[index].ip(), seen[index].port().wrapping_add(ahead[index]));
        // Who calculates a port sends nowhere else: that would take it.
        if ahead == [0, 0] { BTreeSet::from([outer, own]) } else { BTreeSet::from([outer]) }
    });
    let [a, b] = told;
    let mut targets = [b, a];
    for _ in 0..4 {
        for (index, host) in hosts.into_iter().enumerate() {
            for to in targets[index].clone() {
                network.send(host, PORT, to, Message::Ping(hosts[1 - index]));
            }
        }
        while network.next_event().is_some() {
            let Some(Delivery { host, from, payload, .. }) = network.step() else { continue };
            let Some(index) = hosts.iter().position(|other| *other == host) else { continue };
            match payload {
                Message::Pong(meant) if meant == host => return true,
                Message::Ping(meant) if meant == host => {
                    targets[index].insert(from);
                    network.send(host, PORT, from, Message::Pong(hosts[1 - index]));
                }
                Message::Register | Message::Ping(_) | Message::Pong(_) => {}
            }
        }
    }
    false
}

fn run_until_idle(network: &mut Network<Message>) -> Vec<Delivery<Message>> {
    let mut deliveries = Vec::new();
    while network.next_event().is_some() {
        deliveries.extend(network.step());
    }
    deliveries
}
