//! Routers: what stands between two realms.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rand::Rng;

use super::links::Duplex;
use super::{Counters, HOME_REGION, RealmId, RegionId};
use crate::firewall::{Firewall, Protocol, Stateful};
use crate::link::LinkProfile;
use crate::nat::{FlowTable, NatProfile, NatTable, TCP_LIFETIME};

/// A router. The default forwards everything untouched.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RouterProfile {
    /// Translates IPv4. None: the machines behind it have addresses of the realm outside.
    pub nat: Option<NatProfile>,
    /// Filters what it does not translate: IPv6, and IPv4 without NAT. None: anybody may come in.
    pub stateful: Option<Stateful>,
    /// Whether it forwards IPv6. Machines have an IPv6 address when all routers outwards do.
    pub ipv6: bool,
    /// Whether it forwards no IPv4.
    pub ipv6_only: bool,
    /// What it lets through at all.
    pub firewall: Firewall,
    /// Its link to the realm outside.
    pub uplink: LinkProfile,
}

/// Why a router keeps a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Firewalled,
    Filtered,
    TableFull,
}

impl Refusal {
    pub(super) fn counter(self, counters: &mut Counters) -> &mut u64 {
        match self {
            Self::Firewalled => &mut counters.firewalled,
            Self::Filtered => &mut counters.filtered,
            Self::TableFull => &mut counters.table_full,
        }
    }
}

#[derive(Debug)]
pub(super) struct Router {
    pub(super) outside: RealmId,
    pub(super) inside: RealmId,
    /// Its address outside; none without NAT, which needs none.
    pub(super) outer: Option<IpAddr>,
    pub(super) ipv6: bool,
    pub(super) uplink: Duplex,
    pub(super) proxy: Option<IpAddr>,
    pub(super) region: RegionId,
    nat: Option<Translation>,
    flows: Option<FlowTable>,
    firewall: Firewall,
    pub(super) ipv6_only: bool,
}

/// Each protocol has its own ports, and so its own table.
#[derive(Debug)]
struct Translation {
    udp: NatTable,
    tcp: NatTable,
}

impl Translation {
    fn new(profile: NatProfile) -> Self {
        let tcp = NatProfile { lifetime: TCP_LIFETIME, ..profile };
        Self { udp: NatTable::new(profile), tcp: NatTable::new(tcp) }
    }

    fn table(&mut self, protocol: Protocol) -> &mut NatTable {
        match protocol {
            Protocol::Udp => &mut self.udp,
            Protocol::Tcp => &mut self.tcp,
        }
    }
}

impl Router {
    pub(super) fn new(
        profile: &RouterProfile,
        (outside, inside): (RealmId, RealmId),
        outer: Option<IpAddr>,
    ) -> Self {
        Self {
            outside,
            inside,
            outer,
            ipv6: profile.ipv6,
            uplink: Duplex::new(profile.uplink),
            proxy: None,
            region: HOME_REGION,
            nat: profile.nat.map(Translation::new),
            flows: profile.stateful.map(FlowTable::new),
            firewall: profile.firewall,
            ipv6_only: profile.ipv6_only,
        }
    }

    pub(super) fn translates(&self) -> bool {
        self.nat.is_some()
    }

    /// Forgets mappings and permissions.
    pub(super) fn flush(&mut self) {
        if let Some(nat) = &mut self.nat {
            nat.udp.flush();
            nat.tcp.flush();
        }
        self.flush_flows();
    }

    /// Forgets them, and allocates ports from elsewhere.
    pub(super) fn reboot(&mut self, rng: &mut impl Rng) {
        if let Some(nat) = &mut self.nat {
            nat.udp.reboot(rng);
            nat.tcp.reboot(rng);
        }
        self.flush_flows();
    }

    fn flush_flows(&mut self) {
        if let Some(flows) = &mut self.flows {
            flows.flush();
        }
    }

    /// The source of a packet on its way out as it is outside.
    pub(super) fn outbound(
        &mut self,
        now: Duration,
        protocol: Protocol,
        from: SocketAddr,
        to: SocketAddr,
        rng: &mut impl Rng,
    ) -> Result<SocketAddr, Refusal> {
        let of_wrong_version = self.ipv6_only && from.is_ipv4();
        if of_wrong_version || !self.firewall.permits(protocol, from.ip(), to, self.proxy) {
            return Err(Refusal::Firewalled);
        }
        match (&mut self.nat, self.outer) {
            (Some(nat), Some(outer)) if from.is_ipv4() => {
                let table = nat.table(protocol);
                if to.ip() == outer && !table.profile().hairpin {
                    return Err(Refusal::Filtered);
                }
                let port = table.outbound(now, from, to, rng);
                port.map(|port| SocketAddr::new(outer, port)).ok_or(Refusal::TableFull)
            }
            (Some(_) | None, _) => {
                if let Some(flows) = &mut self.flows {
                    flows.outbound(now, protocol, from, to);
                }
                Ok(from)
            }
        }
    }

    /// The destination inside of a packet that comes in.
    pub(super) fn inbound(
        &mut self,
        now: Duration,
        protocol: Protocol,
        from: SocketAddr,
        to: SocketAddr,
    ) -> Result<SocketAddr, Refusal> {
        if self.ipv6_only && to.is_ipv4() {
            return Err(Refusal::Firewalled);
        }
        let inner = match &mut self.nat {
            Some(nat) if to.is_ipv4() => {
                let inner = nat.table(protocol).inbound(now, to.port(), from);
                inner.ok_or(Refusal::Filtered)?
            }
            Some(_) | None => {
                let flows = self.flows.as_mut();
                if flows.is_some_and(|flows| !flows.admits(now, protocol, from, to)) {
                    return Err(Refusal::Filtered);
                }
                to
            }
        };
        if self.firewall.permits(protocol, inner.ip(), from, self.proxy) {
            Ok(inner)
        } else {
            Err(Refusal::Firewalled)
        }
    }
}
