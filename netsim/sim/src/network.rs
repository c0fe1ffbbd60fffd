//! Hosts, realms and the packets between them.
//!
//! A packet that enters a realm goes to whoever owns its destination there: a host, or a NAT that
//! translates it into the realm behind. What nobody owns leaves through the realm's own NAT into the
//! parent realm, or is dropped in the public one. Links delay and lose; NATs decide when the packet
//! is at them, not when it is sent.

mod realm;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::link::Link;
use crate::nat::NatProfile;
use crate::nat::table::NatTable;
use realm::{Owner, Realm};

/// The most NATs that a packet crosses before it is dropped as going round in circles.
const MAX_HOPS: u8 = 16;

/// A host of a [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(usize);

/// A NAT of a [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NatId(usize);

/// An address space of a [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RealmId(usize);

/// The realm that every network begins with.
pub const PUBLIC: RealmId = RealmId(0);

/// A packet that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery<P> {
    /// The host that receives it.
    pub host: HostId,
    /// The sender as the receiver sees it.
    pub from: SocketAddr,
    /// The receiver's own endpoint.
    pub to: SocketAddr,
    /// What was sent.
    pub payload: P,
}

/// What became of the packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Handed to a host.
    pub delivered: u64,
    /// Lost on a link.
    pub lost: u64,
    /// Stopped by a NAT or by [`Network::block`].
    pub filtered: u64,
    /// To an address that nobody has.
    pub unroutable: u64,
}

/// An in-process network with its own clock, which starts at zero.
#[derive(Debug)]
pub struct Network<P> {
    now: Duration,
    rng: ChaCha8Rng,
    realms: Vec<Realm>,
    nats: Vec<Nat>,
    hosts: Vec<Host>,
    blocked: BTreeSet<(IpAddr, IpAddr)>,
    /// By time, then in the order of sending.
    in_flight: BTreeMap<(Duration, u64), (Arrival, Packet<P>)>,
    sent: u64,
    counters: Counters,
}

#[derive(Debug)]
struct Nat {
    table: NatTable,
    outside: RealmId,
    outer: IpAddr,
    inside: RealmId,
    uplink: Link,
}

#[derive(Clone, Copy, Debug)]
struct Host {
    realm: RealmId,
    address: IpAddr,
    link: Link,
}

#[derive(Debug)]
struct Packet<P> {
    from: SocketAddr,
    to: SocketAddr,
    hops: u8,
    payload: P,
}

#[derive(Clone, Copy, Debug)]
enum Arrival {
    Realm(RealmId),
    NatFromOutside(NatId),
    Host(HostId),
}

impl<P> Network<P> {
    /// A network with nothing in it but the public realm.
    pub fn new(seed: u64) -> Self {
        Self {
            now: Duration::ZERO,
            rng: ChaCha8Rng::seed_from_u64(seed),
            realms: vec![Realm::public()],
            nats: Vec::new(),
            hosts: Vec::new(),
            blocked: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            sent: 0,
            counters: Counters::default(),
        }
    }

    /// Puts a NAT into a realm and gives the private realm behind it. `uplink` is its link outwards.
    pub fn add_nat(
        &mut self,
        outside: RealmId,
        profile: NatProfile,
        uplink: Link,
    ) -> (NatId, RealmId) {
        let nat = NatId(self.nats.len());
        let inside = RealmId(self.realms.len());
        let depth = self.realms[outside.0].depth() + 1;
        self.realms.push(Realm::private(depth, nat));
        let outer = self.realms[outside.0].attach(Owner::Nat(nat));
        self.nats.push(Nat { table: NatTable::new(profile), outside, outer, inside, uplink });
        (nat, inside)
    }

    /// Puts a host into a realm. `link` is its link to the realm.
    pub fn add_host(&mut self, realm: RealmId, link: Link) -> HostId {
        let host = HostId(self.hosts.len());
        let address = self.realms[realm.0].attach(Owner::Host(host));
        self.hosts.push(Host { realm, address, link });
        host
    }

    /// Puts a host behind a chain of new NATs, given from the host outwards; none: a public host.
    pub fn add_host_behind(&mut self, chain: &[NatProfile], link: Link) -> HostId {
        let realm = chain.iter().rev().fold(PUBLIC, |outside, profile| {
            let (_, inside) = self.add_nat(outside, *profile, link);
            inside
        });
        self.add_host(realm, link)
    }

    /// Moves a host to another realm, where it gets a new address. What is on its way is lost.
    pub fn move_host(&mut self, host: HostId, realm: RealmId) {
        let Host { realm: old, address, .. } = self.hosts[host.0];
        self.realms[old.0].detach(address);
        let address = self.realms[realm.0].attach(Owner::Host(host));
        self.hosts[host.0].realm = realm;
        self.hosts[host.0].address = address;
    }

    /// Changes a host's link.
    pub fn set_link(&mut self, host: HostId, link: Link) {
        self.hosts[host.0].link = link;
    }

    /// A NAT forgets its mappings, as after a reboot.
    pub fn flush_nat(&mut self, nat: NatId) {
        self.nats[nat.0].table.flush();
    }

    /// The NAT that leads out of a realm; none for the public one.
    pub fn gateway(&self, realm: RealmId) -> Option<NatId> {
        self.realms[realm.0].gateway()
    }

    /// The realm that a host is in.
    pub fn realm_of(&self, host: HostId) -> RealmId {
        self.hosts[host.0].realm
    }

    /// A host's own address.
    pub fn address(&self, host: HostId) -> IpAddr {
        self.hosts[host.0].address
    }

    /// The address that a host's packets have in the public realm.
    pub fn public_address(&self, host: HostId) -> IpAddr {
        let Host { mut realm, mut address, .. } = self.hosts[host.0];
        while let Some(nat) = self.realms[realm.0].gateway() {
            address = self.nats[nat.0].outer;
            realm = self.nats[nat.0].outside;
        }
        address
    }

    /// Drops what goes from one public address to another, both ways, until [`Network::unblock`].
    pub fn block(&mut self, a: IpAddr, b: IpAddr) {
        self.blocked.extend([(a, b), (b, a)]);
    }

    /// Ends [`Network::block`].
    pub fn unblock(&mut self, a: IpAddr, b: IpAddr) {
        self.blocked.remove(&(a, b));
        self.blocked.remove(&(b, a));
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// What became of the packets so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Sends a packet from a host's port.
    pub fn send(&mut self, host: HostId, port: u16, to: SocketAddr, payload: P) {
        let Host { realm, address, link } = self.hosts[host.0];
        let packet = Packet { from: SocketAddr::new(address, port), to, hops: 0, payload };
        self.travel(link, Arrival::Realm(realm), packet);
    }

    /// When the next packet arrives somewhere.
    pub fn next_event(&self) -> Option<Duration> {
        self.in_flight.first_key_value().map(|((at, _), _)| *at)
    }

    /// Moves the clock forward without handling anything; never backward.
    pub fn advance_to(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    /// Handles the next event, moving the clock to it. None when it gave no delivery.
    pub fn step(&mut self) -> Option<Delivery<P>> {
        let ((at, _), (arrival, packet)) = self.in_flight.pop_first()?;
        self.advance_to(at);
        match arrival {
            Arrival::Realm(realm) => self.enter(realm, packet),
            Arrival::NatFromOutside(nat) => self.translate_inbound(nat, packet),
            Arrival::Host(host) => return self.deliver(host, packet),
        }
        None
    }

    fn travel(&mut self, link: Link, arrival: Arrival, packet: Packet<P>) {
        match link.transit(&mut self.rng) {
            Some(delay) => {
                self.sent += 1;
                self.in_flight.insert((self.now + delay, self.sent), (arrival, packet));
            }
            None => self.counters.lost += 1,
        }
    }

    fn enter(&mut self, realm: RealmId, packet: Packet<P>) {
        if realm == PUBLIC && self.blocked.contains(&(packet.from.ip(), packet.to.ip())) {
            self.counters.filtered += 1;
            return;
        }
        match (self.realms[realm.0].owner(packet.to.ip()), self.realms[realm.0].gateway()) {
            (Some(Owner::Host(host)), _) => {
                self.travel(self.hosts[host.0].link, Arrival::Host(host), packet);
            }
            (Some(Owner::Nat(nat)), _) => {
                self.travel(self.nats[nat.0].uplink, Arrival::NatFromOutside(nat), packet);
            }
            (None, Some(nat)) => self.translate_outbound(nat, packet),
            (None, None) => self.counters.unroutable += 1,
        }
    }

    fn translate_outbound(&mut self, nat: NatId, mut packet: Packet<P>) {
        let Nat { table, outer, outside, uplink, .. } = &mut self.nats[nat.0];
        let hairpins = packet.to.ip() == *outer;
        let allowed = packet.hops < MAX_HOPS && (!hairpins || table.profile().hairpin);
        let port = allowed
            .then(|| table.outbound(self.now, packet.from, packet.to, &mut self.rng))
            .flatten();
        let Some(port) = port else {
            self.counters.filtered += 1;
            return;
        };
        packet.from = SocketAddr::new(*outer, port);
        packet.hops += 1;
        let (uplink, outside) = (*uplink, *outside);
        self.travel(uplink, Arrival::Realm(outside), packet);
    }

    fn translate_inbound(&mut self, nat: NatId, mut packet: Packet<P>) {
        let Nat { table, inside, .. } = &mut self.nats[nat.0];
        match table.inbound(self.now, packet.to.port(), packet.from) {
            Some(inner) => {
                packet.to = inner;
                let inside = *inside;
                self.enter(inside, packet);
            }
            None => self.counters.filtered += 1,
        }
    }

    fn deliver(&mut self, host: HostId, packet: Packet<P>) -> Option<Delivery<P>> {
        // The host may have moved while the packet was on its way.
        if self.hosts[host.0].address != packet.to.ip() {
            self.counters.unroutable += 1;
            return None;
        }
        self.counters.delivered += 1;
        Some(Delivery { host, from: packet.from, to: packet.to, payload: packet.payload })
    }
}
