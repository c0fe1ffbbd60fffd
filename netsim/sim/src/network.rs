//! Hosts, realms and the packets between them.
//!
//! A packet that enters a realm goes to whoever owns its destination there: a host, or a router
//! that knows it behind itself (its own address, which it translates, or one that it forwards
//! untouched). What nobody owns leaves through the realm's own router into the realm outside, or is
//! dropped in the public one. Links delay and lose; routers decide when the packet is at them, not
//! when it is sent.

mod build;
mod change;
mod counters;
mod links;
mod packet;
mod realm;
mod route;
mod router;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::link::{LinkProfile, Pipe};
use links::Duplex;
use packet::{Entry, Packet};
use realm::Realm;
use router::Router;

pub use change::{Change, HostState};
pub use counters::Counters;
pub use packet::{DEFAULT_SIZE_BYTES, Delivery, Happening, Outgoing, TooBigNotice};
pub use router::RouterProfile;

/// The most routers that a packet crosses before it is dropped as going round in circles.
const MAX_HOPS: u8 = 16;

/// The most packets in flight; those beyond are dropped and counted. Chosen: 500 for each of 2,000
/// hosts, some 200 MB, where a real network would have dropped them long before.
pub const MAX_IN_FLIGHT: usize = 1_000_000;

/// A host of a [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(usize);

impl HostId {
    /// Its place among all hosts, in the order of making, from 0.
    pub fn index(self) -> usize {
        self.0
    }
}

/// A NAT, or another router, of a [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NatId(usize);

/// An address space of a [`Network`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RealmId(usize);

/// A part of the public realm, with ways to the other parts that take their time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(u16);

/// The realm that every network begins with.
pub const PUBLIC: RealmId = RealmId(0);

/// The region that everything is in unless it is put elsewhere.
pub const HOME_REGION: RegionId = RegionId(0);

/// An in-process network with its own clock, which starts at zero.
#[derive(Debug)]
pub struct Network<P> {
    now: Duration,
    rng: ChaCha8Rng,
    realms: Vec<Realm>,
    routers: Vec<Router>,
    hosts: Vec<Host>,
    regions: u16,
    backbone: BTreeMap<(RegionId, RegionId), Pipe>,
    blocked: BTreeSet<(IpAddr, IpAddr)>,
    /// By time, then in the order of making.
    in_flight: BTreeMap<(Duration, u64), Entry<P>>,
    packets_in_flight: usize,
    entries: u64,
    counters: Counters,
}

#[derive(Debug)]
struct Host {
    realm: RealmId,
    address: IpAddr,
    ipv6: Option<IpAddr>,
    region: RegionId,
    state: HostState,
    link: Duplex,
}

impl<P: Clone> Network<P> {
    /// A network with nothing in it but the public realm.
    pub fn new(seed: u64) -> Self {
        Self {
            now: Duration::ZERO,
            rng: ChaCha8Rng::seed_from_u64(seed),
            realms: vec![Realm::public()],
            routers: Vec::new(),
            hosts: Vec::new(),
            regions: 1,
            backbone: BTreeMap::new(),
            blocked: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            packets_in_flight: 0,
            entries: 0,
            counters: Counters::default(),
        }
    }

    /// Changes a host's link.
    pub fn set_link(&mut self, host: HostId, link: impl Into<LinkProfile>) {
        self.hosts[host.0].link.set_profile(link.into());
    }

    /// Changes a router's link outwards.
    pub fn set_uplink(&mut self, nat: NatId, uplink: impl Into<LinkProfile>) {
        self.routers[nat.0].uplink.set_profile(uplink.into());
    }

    /// Names the proxy that [`crate::Firewall::ProxyOnly`] lets through.
    pub fn set_proxy(&mut self, nat: NatId, proxy: IpAddr) {
        self.routers[nat.0].proxy = Some(proxy);
    }

    /// A NAT forgets its mappings, and goes on giving out ports where it was.
    /// [`Change::NatReboot`] goes on elsewhere.
    pub fn flush_nat(&mut self, nat: NatId) {
        self.routers[nat.0].flush();
    }

    /// The router that leads out of a realm; none for the public one.
    pub fn gateway(&self, realm: RealmId) -> Option<NatId> {
        self.realms[realm.0].gateway()
    }

    /// The realm that a host is in.
    pub fn realm_of(&self, host: HostId) -> RealmId {
        self.hosts[host.0].realm
    }

    /// A host's own IPv4 address.
    pub fn address(&self, host: HostId) -> IpAddr {
        self.hosts[host.0].address
    }

    /// A host's IPv6 address; none where a router on its way out has no IPv6.
    pub fn ipv6_address(&self, host: HostId) -> Option<IpAddr> {
        self.hosts[host.0].ipv6
    }

    /// Whether a host's IPv4 packets come to the public realm at all: no router on its way is for
    /// IPv6 only.
    pub fn has_ipv4(&self, host: HostId) -> bool {
        self.routers_of(host).all(|router| !router.ipv6_only)
    }

    /// Whether a host runs, and its link and the uplinks of all routers on its way are up.
    pub fn is_connected(&self, host: HostId) -> bool {
        let Host { state, link, .. } = &self.hosts[host.0];
        let is_up = |duplex: &Duplex| !duplex.up.is_down() && !duplex.down.is_down();
        let runs = *state == HostState::Running && is_up(link);
        runs && self.routers_of(host).all(|router| is_up(&router.uplink))
    }

    /// The routers from a host outwards.
    fn routers_of(&self, host: HostId) -> impl Iterator<Item = &Router> {
        let mut realm = self.hosts[host.0].realm;
        std::iter::from_fn(move || {
            let router = &self.routers[self.realms[realm.0].gateway()?.0];
            realm = router.outside;
            Some(router)
        })
    }

    /// The address that a host's IPv4 packets have in the public realm.
    pub fn public_address(&self, host: HostId) -> IpAddr {
        let Host { mut realm, mut address, .. } = self.hosts[host.0];
        while let Some(router) = self.realms[realm.0].gateway() {
            let router = &self.routers[router.0];
            address = router.outer.unwrap_or(address);
            realm = router.outside;
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

    /// Packets on their way, at most [`MAX_IN_FLIGHT`].
    pub fn in_flight(&self) -> usize {
        self.packets_in_flight
    }

    /// Sends a UDP packet of [`DEFAULT_SIZE_BYTES`] from a host's port.
    pub fn send(&mut self, host: HostId, port: u16, to: SocketAddr, payload: P) {
        self.send_packet(host, Outgoing::udp(port, to, DEFAULT_SIZE_BYTES, payload));
    }

    /// When the next event is due.
    pub fn next_event(&self) -> Option<Duration> {
        self.in_flight.first_key_value().map(|((at, _), _)| *at)
    }

    /// Moves the clock forward without handling anything; never backward.
    pub fn advance_to(&mut self, now: Duration) {
        self.now = self.now.max(now);
    }

    /// Handles the next event, moving the clock to it. None when it gave no delivery: for those who
    /// care for nothing else that [`Network::handle_next`] tells.
    pub fn step(&mut self) -> Option<Delivery<P>> {
        match self.handle_next()? {
            Happening::Delivered(delivery) => Some(delivery),
            Happening::TooBig(_) | Happening::Changed(_) => None,
        }
    }

    fn insert(&mut self, at: Duration, entry: Entry<P>) {
        self.entries += 1;
        self.in_flight.insert((at, self.entries), entry);
    }
}
