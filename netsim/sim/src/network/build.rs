//! Putting routers and hosts into a network, and moving hosts about.

use std::net::IpAddr;

use super::links::Duplex;
use super::realm::{Owner, Realm};
use super::router::{Router, RouterProfile};
use super::{HOME_REGION, Host, HostId, HostState, NatId, Network, PUBLIC, RealmId, RegionId};
use crate::link::{LinkProfile, OneWay, Pipe};
use crate::nat::NatProfile;

impl<P: Clone> Network<P> {
    /// Puts a NAT into a realm and gives the private realm behind it. `uplink` is its link outwards.
    pub fn add_nat(
        &mut self,
        outside: RealmId,
        profile: NatProfile,
        uplink: impl Into<LinkProfile>,
    ) -> (NatId, RealmId) {
        let uplink = uplink.into();
        let profile = RouterProfile { nat: Some(profile), uplink, ..RouterProfile::default() };
        self.add_router(outside, &profile)
    }

    /// Puts a router into a realm and gives the realm behind it.
    pub fn add_router(&mut self, outside: RealmId, profile: &RouterProfile) -> (NatId, RealmId) {
        let (nat, inside) = (NatId(self.routers.len()), RealmId(self.realms.len()));
        let depth = self.realms[outside.0].depth().saturating_add(1);
        let number = u32::try_from(inside.0).unwrap_or(u32::MAX);
        self.realms.push(Realm::behind(number, depth, nat));
        let outer = profile.nat.map(|_| self.attach_v4(outside, Owner::Nat(nat)));
        let router = Router::new(profile, (outside, inside), outer);
        self.routers.push(router);
        (nat, inside)
    }

    /// Puts a host into a realm. `link` is its link to the realm.
    pub fn add_host(&mut self, realm: RealmId, link: impl Into<LinkProfile>) -> HostId {
        let host = HostId(self.hosts.len());
        let address = self.attach_v4(realm, Owner::Host(host));
        let ipv6 = self.attach_v6(realm, host);
        let link = Duplex::new(link.into());
        let (region, state) = (HOME_REGION, HostState::Running);
        self.hosts.push(Host { realm, address, ipv6, region, state, link });
        host
    }

    /// Puts a host behind a chain of new NATs, given from the host outwards; none: a public host.
    pub fn add_host_behind(
        &mut self,
        chain: &[NatProfile],
        link: impl Into<LinkProfile>,
    ) -> HostId {
        let link = link.into();
        let realm = chain.iter().rev().fold(PUBLIC, |outside, profile| {
            let (_, inside) = self.add_nat(outside, *profile, link);
            inside
        });
        self.add_host(realm, link)
    }

    /// Moves a host to another realm, where it gets new addresses. What is on its way is lost.
    pub fn move_host(&mut self, host: HostId, realm: RealmId) {
        let Host { realm: old, address, ipv6, .. } = self.hosts[host.0];
        for address in [Some(address), ipv6].into_iter().flatten() {
            for at in self.known_in(old, address) {
                self.realms[at.0].detach(address);
            }
        }
        let address = self.attach_v4(realm, Owner::Host(host));
        let ipv6 = self.attach_v6(realm, host);
        let moved = &mut self.hosts[host.0];
        (moved.realm, moved.address, moved.ipv6) = (realm, address, ipv6);
    }

    /// Adds a region to the public realm. Without a way between them ([`Network::set_way`]) the
    /// regions are one.
    pub fn add_region(&mut self) -> RegionId {
        let region = RegionId(self.regions);
        self.regions = self.regions.saturating_add(1);
        region
    }

    /// What packets from one region meet on their way to the other.
    pub fn set_way(&mut self, from: RegionId, to: RegionId, way: OneWay) {
        let pipe = Pipe::new(way);
        self.backbone.insert((from, to), pipe);
    }

    /// Puts a router that stands in the public realm into a region.
    pub fn set_router_region(&mut self, nat: NatId, region: RegionId) {
        self.routers[nat.0].region = region;
    }

    /// Puts a host that is in the public realm into a region.
    pub fn set_host_region(&mut self, host: HostId, region: RegionId) {
        self.hosts[host.0].region = region;
    }

    /// The region of a public address.
    pub(super) fn region_of_address(&self, address: IpAddr) -> RegionId {
        match self.realms[PUBLIC.0].owner(address) {
            Some(Owner::Host(host)) => self.hosts[host.0].region,
            Some(Owner::Nat(router) | Owner::Behind(router)) => self.routers[router.0].region,
            None => HOME_REGION,
        }
    }

    /// Gives an address of the nearest network outwards that has its own: routers without NAT
    /// have the machines behind them use those outside.
    fn attach_v4(&mut self, realm: RealmId, owner: Owner) -> IpAddr {
        let mut pool = realm;
        let mut behind = Vec::new();
        while let Some(router) = self.realms[pool.0].gateway() {
            if self.routers.get(router.0).is_none_or(Router::translates) {
                break;
            }
            pool = self.routers[router.0].outside;
            behind.push((pool, Owner::Behind(router)));
        }
        let address = self.realms[pool.0].free_v4();
        self.realms[realm.0].attach(address, owner);
        for (realm, owner) in behind {
            self.realms[realm.0].attach(address, owner);
        }
        address
    }

    fn attach_v6(&mut self, realm: RealmId, host: HostId) -> Option<IpAddr> {
        let mut at = realm;
        let mut behind = Vec::new();
        while let Some(router) = self.realms[at.0].gateway() {
            if !self.routers[router.0].ipv6 {
                return None;
            }
            at = self.routers[router.0].outside;
            behind.push((at, Owner::Behind(router)));
        }
        let address = self.realms[realm.0].free_v6();
        self.realms[realm.0].attach(address, Owner::Host(host));
        for (realm, owner) in behind {
            self.realms[realm.0].attach(address, owner);
        }
        Some(address)
    }

    /// The realms in which an address of that realm is known: itself, and those outside up to the
    /// first router that translates it.
    fn known_in(&self, realm: RealmId, address: IpAddr) -> Vec<RealmId> {
        let mut known = vec![realm];
        let mut at = realm;
        while let Some(router) = self.realms[at.0].gateway() {
            if address.is_ipv4() && self.routers[router.0].translates() {
                break;
            }
            at = self.routers[router.0].outside;
            known.push(at);
        }
        known
    }
}
