//! From names to a network.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Event, HostSpec, RouterSpec, Topology, TopologyError, WaySpec};
use crate::churn::Churn;
use crate::link::LinkProfile;
use crate::network::{
    Change, HOME_REGION, HostId, NatId, Network, PUBLIC, RealmId, RegionId, RouterProfile,
};

/// The most machines and routers that are ever attached to one network: a realm has that many
/// addresses.
const MAX_ATTACHED: usize = 65_535;

/// The same for the public realm, whose addresses are those of 198.18.0.0/15.
const MAX_PUBLIC: usize = 131_071;

/// The most routers, machines and moves together. Chosen: 100,000 machines behind two routers each, and
/// as many moves.
const MAX_PARTS: usize = 400_000;

/// The most routers in a row. Chosen: half the hops of a packet, so that two such rows can talk.
const MAX_DEPTH: usize = 8;

/// The most comings and goings of all machines together. Chosen: a hundred of each
/// of 10,000 machines.
const MAX_CHANGES: usize = 1_000_000;

/// A network that was built, with the names of its parts.
#[derive(Debug)]
pub struct Built<P> {
    /// The network; its events are scheduled.
    pub network: Network<P>,
    /// The machines by name.
    pub hosts: BTreeMap<String, HostId>,
    /// The routers by name, with the realm behind each.
    pub routers: BTreeMap<String, (NatId, RealmId)>,
    /// The regions by name.
    pub regions: BTreeMap<String, RegionId>,
}

impl Topology {
    /// Builds the network. Churn is scheduled until `end`, as kills and starts.
    pub fn build<P: Clone>(&self, seed: u64, end: Duration) -> Result<Built<P>, TopologyError> {
        self.check()?;
        let mut built = Built {
            network: Network::new(seed),
            hosts: BTreeMap::new(),
            routers: BTreeMap::new(),
            regions: BTreeMap::new(),
        };
        for name in &self.regions {
            let region = match built.regions.len() {
                0 => HOME_REGION,
                _ => built.network.add_region(),
            };
            insert_new(&mut built.regions, "region", name, region)?;
        }
        for way in &self.ways {
            built.add_way(way)?;
        }
        for router in &self.routers {
            built.add_router(router)?;
        }
        let (mut machine, mut changes) = (0, 0);
        for host in &self.hosts {
            for name in host.names() {
                machine += 1;
                let id = built.add_host(&name, host)?;
                if let Some(churn) = &host.churn {
                    changes += built.schedule_churn(&name, id, churn, (seed, machine), end)?;
                    if changes > MAX_CHANGES {
                        let kind = "comings and goings";
                        return Err(TopologyError::TooMany { kind, most: MAX_CHANGES });
                    }
                }
            }
        }
        for router in &self.routers {
            if let Some(proxy) = &router.proxy {
                let address = built.network.address(built.host(proxy)?);
                let (nat, _) = built.router(&router.name)?;
                built.network.set_proxy(nat, address);
            }
        }
        for timed in &self.events {
            let change = built.change(&timed.event)?;
            built.network.schedule(timed.at, change);
        }
        Ok(built)
    }

    /// Whether it is as large as can be built, before anything is made: the numbers come from a file.
    pub fn check(&self) -> Result<(), TopologyError> {
        let mut depths: BTreeMap<&str, usize> = BTreeMap::new();
        // Without NAT the addresses of those outside are used: these networks count as well.
        let mut borrows_from: BTreeMap<&str, Option<&str>> = BTreeMap::new();
        for router in &self.routers {
            let outside = router.behind.as_deref();
            let depth = outside.and_then(|name| depths.get(name)).map_or(1, |depth| depth + 1);
            if depth > MAX_DEPTH {
                return Err(TopologyError::TooMany { kind: "routers in a row", most: MAX_DEPTH });
            }
            depths.insert(&router.name, depth);
            if router.nat.profile().is_none() {
                borrows_from.insert(&router.name, outside);
            }
        }
        let routers = self.routers.iter().map(|router| (&router.behind, 1));
        let hosts = self.hosts.iter().map(|host| (&host.behind, host.count));
        // Everybody who ever comes to a network counts, so that it never runs out of addresses.
        let roams = self.events.iter().filter_map(|timed| match &timed.event {
            Event::Roam { behind, .. } => Some((behind, 1)),
            Event::NatReboot(_)
            | Event::LinkDown(_)
            | Event::LinkUp(_)
            | Event::UplinkDown(_)
            | Event::UplinkUp(_)
            | Event::Suspend(_)
            | Event::Resume(_)
            | Event::Kill(_)
            | Event::Start(_) => None,
        });
        let mut attached: BTreeMap<Option<&str>, usize> = BTreeMap::new();
        let mut parts = 0usize;
        for (behind, count) in routers.chain(hosts).chain(roams) {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            parts = parts.saturating_add(count);
            let mut at = Some(behind.as_deref());
            // A name that comes twice may lead in circles; it is refused later.
            for _ in 0..=MAX_DEPTH {
                let Some(network) = at else { break };
                let sum = attached.entry(network).or_default();
                *sum = sum.saturating_add(count);
                at = network.and_then(|name| borrows_from.get(name)).copied();
            }
        }
        if parts > MAX_PARTS {
            return Err(TopologyError::TooMany {
                kind: "routers, hosts and roams",
                most: MAX_PARTS,
            });
        }
        let in_public = attached.remove(&None).unwrap_or(0);
        if in_public > MAX_PUBLIC {
            let kind = "routers and machines in the public network";
            return Err(TopologyError::TooMany { kind, most: MAX_PUBLIC });
        }
        if attached.into_values().any(|sum| sum > MAX_ATTACHED) {
            let kind = "machines in one network";
            return Err(TopologyError::TooMany { kind, most: MAX_ATTACHED });
        }
        Ok(())
    }
}

impl HostSpec {
    /// The names of the machines.
    pub fn names(&self) -> Vec<String> {
        match self.count {
            1 => vec![self.name.clone()],
            count => (1..=count).map(|index| format!("{}-{index}", self.name)).collect(),
        }
    }
}

impl<P: Clone> Built<P> {
    /// The machine of that name.
    pub fn host(&self, name: &str) -> Result<HostId, TopologyError> {
        self.hosts.get(name).copied().ok_or_else(|| unknown("host", name))
    }

    /// The router of that name, and the realm behind it.
    pub fn router(&self, name: &str) -> Result<(NatId, RealmId), TopologyError> {
        self.routers.get(name).copied().ok_or_else(|| unknown("router", name))
    }

    fn add_way(&mut self, spec: &WaySpec) -> Result<(), TopologyError> {
        let [a, b] = &spec.between;
        let link = LinkProfile::symmetric(spec.way);
        checked(&format!("{a} to {b}"), link)?;
        let (a, b) = (self.region(a)?, self.region(b)?);
        self.network.set_way(a, b, spec.way);
        self.network.set_way(b, a, spec.way);
        Ok(())
    }

    fn add_router(&mut self, spec: &RouterSpec) -> Result<(), TopologyError> {
        let outside = self.realm(spec.behind.as_deref())?;
        let profile = RouterProfile {
            nat: spec.nat.profile(),
            stateful: spec.stateful,
            ipv6: spec.ipv6,
            ipv6_only: spec.ipv6_only,
            firewall: spec.firewall,
            uplink: checked(&spec.name, spec.uplink.profile())?,
        };
        let (nat, realm) = self.network.add_router(outside, &profile);
        if let Some(region) = self.region_of(&spec.name, outside, spec.region.as_deref())? {
            self.network.set_router_region(nat, region);
        }
        insert_new(&mut self.routers, "router", &spec.name, (nat, realm))
    }

    fn add_host(&mut self, name: &str, spec: &HostSpec) -> Result<HostId, TopologyError> {
        let realm = self.realm(spec.behind.as_deref())?;
        let host = self.network.add_host(realm, checked(name, spec.link.profile())?);
        if let Some(region) = self.region_of(name, realm, spec.region.as_deref())? {
            self.network.set_host_region(host, region);
        }
        insert_new(&mut self.hosts, "host", name, host)?;
        Ok(host)
    }

    /// The number of changes.
    fn schedule_churn(
        &mut self,
        name: &str,
        host: HostId,
        churn: &Churn,
        (seed, machine): (u64, u64),
        end: Duration,
    ) -> Result<usize, TopologyError> {
        let refused = |source| TopologyError::Churn { name: name.to_owned(), source };
        churn.check().map_err(refused)?;
        let presence = churn.presence(seed, machine, end);
        let (mut is_on, count) = (presence.starts_on, presence.changes.len());
        if !is_on {
            self.network.apply(Change::Kill(host));
        }
        for at in presence.changes {
            is_on = !is_on;
            let change = if is_on { Change::Start(host) } else { Change::Kill(host) };
            self.network.schedule(at, change);
        }
        Ok(count)
    }

    /// What an event does, by the network's own names.
    pub fn change(&self, event: &Event) -> Result<Change, TopologyError> {
        let nat = |name: &str| self.router(name).map(|(nat, _)| nat);
        Ok(match event {
            Event::Roam { host, behind } => {
                Change::Roam(self.host(host)?, self.realm(behind.as_deref())?)
            }
            Event::NatReboot(name) => Change::NatReboot(nat(name)?),
            Event::LinkDown(name) => Change::LinkDown(self.host(name)?),
            Event::LinkUp(name) => Change::LinkUp(self.host(name)?),
            Event::UplinkDown(name) => Change::UplinkDown(nat(name)?),
            Event::UplinkUp(name) => Change::UplinkUp(nat(name)?),
            Event::Suspend(name) => Change::Suspend(self.host(name)?),
            Event::Resume(name) => Change::Resume(self.host(name)?),
            Event::Kill(name) => Change::Kill(self.host(name)?),
            Event::Start(name) => Change::Start(self.host(name)?),
        })
    }

    fn realm(&self, behind: Option<&str>) -> Result<RealmId, TopologyError> {
        behind.map_or(Ok(PUBLIC), |name| self.router(name).map(|(_, realm)| realm))
    }

    fn region(&self, name: &str) -> Result<RegionId, TopologyError> {
        self.regions.get(name).copied().ok_or_else(|| unknown("region", name))
    }

    fn region_of(
        &self,
        name: &str,
        realm: RealmId,
        region: Option<&str>,
    ) -> Result<Option<RegionId>, TopologyError> {
        match region {
            None => Ok(None),
            Some(_) if realm != PUBLIC => Err(TopologyError::RegionInside(name.to_owned())),
            Some(region) => self.region(region).map(Some),
        }
    }
}

fn unknown(kind: &'static str, name: &str) -> TopologyError {
    TopologyError::Unknown { kind, name: name.to_owned() }
}

fn checked(name: &str, link: LinkProfile) -> Result<LinkProfile, TopologyError> {
    let refused = |source| TopologyError::Link { name: name.to_owned(), source };
    link.check().map(|()| link).map_err(refused)
}

fn insert_new<T>(
    named: &mut BTreeMap<String, T>,
    kind: &'static str,
    name: &str,
    item: T,
) -> Result<(), TopologyError> {
    match named.insert(name.to_owned(), item) {
        None => Ok(()),
        Some(_) => Err(TopologyError::Twice { kind, name: name.to_owned() }),
    }
}
