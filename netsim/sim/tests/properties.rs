//! What holds for every network, every traffic and every seed.

use std::net::SocketAddr;
use std::time::Duration;

use netsim_sim::{
    Change, Filtering, Firewall, GilbertElliott, Happening, HostId, LinkPreset, LinkProfile, Loss,
    MAX_IN_FLIGHT, Mtu, NatId, NatProfile, Network, OneWay, Outgoing, PUBLIC, Preset, Rate,
    RealmId, Reorder, RouterProfile, Stateful, TooBig,
};
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);
const PORT: u16 = 4000;

prop_compose! {
    fn ways()(
        delay_ms in 0u32..50,
        jitter_ms in 0u32..20,
        share in 0.0..0.2f64,
        bursty: bool,
        bits_per_s in prop::option::of(100_000u64..10_000_000),
        mtu in prop::option::of(500u32..1500),
    ) -> OneWay {
        let chain =
            GilbertElliott { enter: share, leave: 0.3, loss_good: 0.0, loss_bad: 0.9 };
        OneWay {
            delay: MS * delay_ms,
            jitter: MS * jitter_ms,
            jitter_reorders: bursty,
            loss: if bursty { Loss::Bursty(chain) } else { Loss::Independent(share) },
            rate: bits_per_s.map(|bits_per_s| Rate { bits_per_s, queue_bytes: 20_000 }),
            mtu: mtu.map(|bytes| Mtu { bytes, too_big: TooBig::Notice }),
            duplicate: share,
            reorder: Some(Reorder { share, hold: MS * 7 }),
        }
    }
}

prop_compose! {
    fn routers()(
        preset in prop::sample::select(Preset::ALL.to_vec()),
        firewall in prop::sample::select(Firewall::ALL.to_vec()),
        ipv6: bool,
        filtering in prop::option::of(Just(Filtering::AddressDependent)),
        up in ways(),
        down in ways(),
    ) -> RouterProfile {
        let stateful = filtering.map(|filtering| Stateful { filtering, ..Stateful::default() });
        let uplink = LinkProfile { up, down };
        RouterProfile { nat: preset.profile(), stateful, ipv6, ipv6_only: false, firewall, uplink }
    }
}

/// A network with machines behind its routers, in public and in a row, and what was used.
struct World {
    network: Network<u64>,
    hosts: Vec<HostId>,
    realms: Vec<RealmId>,
    nats: Vec<NatId>,
}

fn world(seed: u64, routers: &[RouterProfile], link: OneWay) -> World {
    let mut network = Network::new(seed);
    let link = LinkProfile::symmetric(link);
    let (mut realms, mut nats) = (vec![PUBLIC], vec![]);
    for (index, router) in routers.iter().enumerate() {
        let outside = realms[index / 2];
        let (nat, realm) = network.add_router(outside, router);
        nats.push(nat);
        realms.push(realm);
    }
    let hosts = realms.iter().map(|realm| network.add_host(*realm, link)).collect();
    World { network, hosts, realms, nats }
}

/// An action: which one, of whom, to whom, of what size.
type Action = (u8, usize, usize, u32);

impl World {
    fn act(&mut self, number: u64, (kind, who, whom, size): Action) {
        let (host, other) =
            (self.hosts[who % self.hosts.len()], self.hosts[whom % self.hosts.len()]);
        let nat = self.nats[whom % self.nats.len()];
        match kind {
            0 => self.change(Change::Roam(host, self.realms[whom % self.realms.len()])),
            1 => self.change(Change::NatReboot(nat)),
            2 => self.change(Change::LinkDown(host)),
            3 => self.change(Change::LinkUp(host)),
            4 => self.change(Change::Suspend(host)),
            5 => self.change(Change::Resume(host)),
            6 => self.change(Change::UplinkDown(nat)),
            7 => self.change(Change::UplinkUp(nat)),
            _ => {
                let address = match kind % 3 {
                    0 => self.network.address(other),
                    1 => self.network.public_address(other),
                    _ => match self.network.ipv6_address(other) {
                        Some(address) => address,
                        None => return,
                    },
                };
                let to = SocketAddr::new(address, PORT);
                let packet = match kind % 2 {
                    0 => Outgoing::udp(PORT, to, size, number),
                    _ => Outgoing::tcp(PORT, SocketAddr::new(address, 443), size, number),
                };
                self.network.send_packet(host, packet);
            }
        }
    }

    fn change(&mut self, change: Change) {
        self.network.schedule(self.network.now() + MS, change);
    }

    fn is_conserved(&self) -> bool {
        let counters = self.network.counters();
        counters.sent + counters.duplicated
            == counters.delivered + counters.dropped() + self.network.in_flight() as u64
    }
}

type Trace = Vec<(Duration, Happening<u64>)>;

/// Carries out the actions, some milliseconds after one another, answering every third packet.
fn trace(world: &mut World, actions: &[Action]) -> Result<Trace, TestCaseError> {
    let mut trace = Vec::new();
    for (number, action) in actions.iter().enumerate() {
        world.act(number as u64, *action);
        let until = world.network.now() + MS * (number as u32 % 5);
        while world.network.next_event().is_some_and(|at| at <= until) {
            take(world, &mut trace)?;
        }
        world.network.advance_to(until);
    }
    while world.network.next_event().is_some() {
        take(world, &mut trace)?;
    }
    prop_assert_eq!(world.network.in_flight(), 0);
    Ok(trace)
}

fn take(world: &mut World, trace: &mut Trace) -> Result<(), TestCaseError> {
    let before = world.network.now();
    let happening = world.network.handle_next();
    prop_assert!(world.network.now() >= before);
    prop_assert!(world.is_conserved(), "{:?}", world.network.counters());
    if let Some(Happening::Delivered(delivery)) = &happening
        && delivery.payload.is_multiple_of(3)
    {
        let answer = Outgoing::udp(PORT, delivery.from, 100, delivery.payload + 1);
        world.network.send_packet(delivery.host, answer);
    }
    trace.extend(happening.map(|happening| (world.network.now(), happening)));
    Ok(())
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    prop::collection::vec((0u8..40, 0usize..100, 0usize..100, 40u32..1500), 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Every packet is delivered, dropped with a counted reason or in flight, after every event.
    #[test]
    fn packets_are_conserved_and_the_same_seed_gives_the_same_trace(
        routers in prop::collection::vec(routers(), 1..6),
        link in ways(),
        actions in actions(),
        seed: u64,
    ) {
        let run = |seed| -> Result<_, TestCaseError> {
            let mut world = world(seed, &routers, link);
            let trace = trace(&mut world, &actions)?;
            Ok((trace, world.network.counters()))
        };
        prop_assert_eq!(run(seed)?, run(seed)?);
    }

    #[test]
    fn nothing_arrives_before_the_delays_on_its_way(
        routers in prop::collection::vec(routers(), 1..6),
        link in ways(),
        seed: u64,
    ) {
        let mut world = world(seed, &routers, link);
        for index in 0..100u64 {
            let (from, to) = (index as usize % world.hosts.len(), index as usize / 7 % world.hosts.len());
            let to = world.network.address(world.hosts[to]);
            let packet = Outgoing::tcp(PORT, SocketAddr::new(to, 443), 100, index);
            world.network.send_packet(world.hosts[from], packet);
        }
        while world.network.next_event().is_some() {
            if world.network.step().is_some() {
                prop_assert!(world.network.now() >= link.delay * 2);
            }
        }
    }
}

#[test]
fn thousands_of_seeds_differ_only_in_what_is_random() {
    let exchange = |seed| {
        let mut network = Network::new(seed);
        let chain = [NatProfile::HOME, NatProfile::CARRIER_GRADE];
        let a = network.add_host_behind(&chain, LinkPreset::Wifi.profile());
        let b = network.add_host(PUBLIC, LinkPreset::FourG.profile());
        let to = SocketAddr::new(network.address(b), PORT);
        for number in 0..20 {
            network.send(a, PORT, to, number);
        }
        let mut arrivals = Vec::new();
        while network.next_event().is_some() {
            arrivals.extend(network.step().map(|delivery| (network.now(), delivery)));
        }
        arrivals
    };
    let all: Vec<_> = (0..3_000).map(exchange).collect();
    let different: std::collections::BTreeSet<_> =
        all.iter().map(|arrivals| arrivals.iter().map(|(at, _)| *at).collect::<Vec<_>>()).collect();
    assert_eq!(different.len(), all.len());
    let delivered: usize = all.iter().map(Vec::len).sum();
    assert!((55_000..60_000).contains(&delivered), "{delivered}");
}

/// 2,000 machines, each behind its own router on a real line, talk to a server and ten others.
#[test]
fn two_thousand_hosts_keep_their_paths_through_an_hour() {
    const HOSTS: usize = 2_000;
    let mut network = Network::new(5);
    let server = network.add_host(PUBLIC, LinkProfile::PERFECT);
    let nats: Vec<NatProfile> = Preset::ALL.iter().filter_map(|preset| preset.profile()).collect();
    let hosts: Vec<HostId> = (0..HOSTS)
        .map(|index| {
            let uplink = LinkPreset::ALL[index % LinkPreset::ALL.len()].profile();
            let (_, realm) = network.add_nat(PUBLIC, nats[index % nats.len()], uplink);
            network.add_host(realm, LinkPreset::Lan.profile())
        })
        .collect();
    let to = SocketAddr::new(network.address(server), PORT);
    let mut seen = vec![None; HOSTS];
    // One round each 15 seconds; what arrives is answered.
    for round in 0..240u32 {
        let start = Duration::from_secs(15) * round;
        while network.next_event().is_some_and(|at| at < start) {
            let Some(delivery) = network.step() else { continue };
            if delivery.host == server {
                seen[delivery.payload] = Some(delivery.from);
                network.send(server, PORT, delivery.from, delivery.payload);
            }
        }
        network.advance_to(start);
        for (index, host) in hosts.iter().enumerate() {
            network.send(*host, PORT, to, index);
            let peer = seen[(index * 7 + round as usize) % HOSTS];
            if let Some(peer) = peer.filter(|_| round % 24 == 0) {
                network.send(*host, PORT, peer, index);
            }
        }
        assert!(network.in_flight() < HOSTS * 4);
    }
    let counters = network.counters();
    assert!(seen.iter().all(Option::is_some));
    assert!(counters.delivered > 900_000, "{counters:?}");
    assert_eq!(counters.overflowed + counters.table_full, 0);
}

#[test]
fn memory_is_bounded_however_much_is_sent() {
    let mut network = Network::new(1);
    let slow = OneWay { delay: MS * 60_000, ..OneWay::PERFECT };
    let host = network.add_host(PUBLIC, LinkProfile::symmetric(slow));
    let to = SocketAddr::new(network.address(host), PORT);
    for _ in 0..MAX_IN_FLIGHT + 500 {
        network.send(host, PORT, to, ());
    }
    assert_eq!((network.in_flight(), network.counters().overflowed), (MAX_IN_FLIGHT, 500));
}

#[test]
fn full_table_refuses_and_counts() {
    let mut network = Network::new(1);
    let server = network.add_host(PUBLIC, LinkProfile::PERFECT);
    let profile = NatProfile { table_size: 10, ..NatProfile::HOME };
    let host = network.add_host_behind(&[profile], LinkProfile::PERFECT);
    let to = SocketAddr::new(network.address(server), PORT);
    for port in 0..15 {
        network.send(host, PORT + port, to, ());
    }
    while network.next_event().is_some() {
        network.step();
    }
    assert_eq!((network.counters().delivered, network.counters().table_full), (10, 5));
}

#[test]
fn rebooted_nat_maps_elsewhere_and_knows_nobody() {
    let mut network = Network::new(1);
    let server = network.add_host(PUBLIC, LinkProfile::PERFECT);
    let (nat, realm) =
        network.add_nat(PUBLIC, NatProfile::SYMMETRIC_SEQUENTIAL, LinkProfile::PERFECT);
    let host = network.add_host(realm, LinkProfile::PERFECT);
    let to = SocketAddr::new(network.address(server), PORT);
    let mut exchange = |from, to| {
        network.send(from, PORT, to, ());
        let mut seen = None;
        while network.next_event().is_some() {
            seen = network.step().or(seen);
        }
        network.apply(Change::NatReboot(nat));
        seen
    };
    let before = exchange(host, to).unwrap().from;
    assert_eq!(exchange(server, before), None);
    assert_ne!(exchange(host, to).unwrap().from, before);
}
