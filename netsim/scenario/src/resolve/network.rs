//! The topology under construction: regions, ways, named routers.

use std::collections::BTreeSet;

use netsim_sim::topology::{HostSpec, LinkSpec, NatSpec, RouterSpec, WaySpec};
use netsim_sim::{Firewall, NatProfile, Stateful, Topology};

use super::{known, links};
use crate::fault::{Fault, Step, at};
use crate::file::{self, IpVersions, Nat, NatInFull, Router, Scenario};
use crate::preset::Preset;

/// The most characters of a name, since others are made from it.
const LONGEST_NAME: usize = 40;

/// The machine of the proxy that lets out those who have no other way.
const PROXY: &str = "proxy";

/// Names that machines have which are not named by the file.
const OWN_NAMES: [&str; 4] = ["scientist", "relay", PROXY, "vol"];

/// The topology under construction.
pub(super) struct Network {
    pub(super) topology: Topology,
    named: Vec<String>,
}

impl Network {
    /// Regions, ways and named routers.
    pub(super) fn new(scenario: &Scenario) -> Result<Self, Fault> {
        let mut network = Self { topology: Topology::default(), named: Vec::new() };
        let mut seen = BTreeSet::new();
        for (i, region) in scenario.regions.iter().enumerate() {
            check_name(&region.name).map_err(|m| Fault::new(at!["regions", i, "name"], m))?;
            if !seen.insert(&region.name) {
                let message = format!("there are two regions `{}`", region.name);
                return Err(Fault::new(at!["regions", i, "name"], message));
            }
            network.topology.regions.push(region.name.clone());
        }
        for (i, way) in scenario.ways.iter().enumerate() {
            for (side, name) in way.between.iter().enumerate() {
                let place = at!["ways", i, "between", side];
                network.check_region(name).map_err(|message| Fault::new(place, message))?;
            }
            if way.between[0] == way.between[1] {
                let message = "a way leads from one region to another";
                return Err(Fault::new(at!["ways", i, "between"], message));
            }
            let between = way.between.clone();
            let way = links::way(way).map_err(|message| Fault::new(at!["ways", i], message))?;
            network.topology.ways.push(WaySpec { between, way });
        }
        for (i, router) in scenario.routers.iter().enumerate() {
            network.add_named(router).map_err(|fault| fault.below(at!["routers", i]))?;
        }
        Ok(network)
    }

    pub(super) fn into_topology(self) -> Topology {
        self.topology
    }

    /// Adds the proxy's machine to the public network, if a router lets nobody else through.
    pub(super) fn add_proxy(&mut self) {
        let is_walled = |router: &RouterSpec| router.firewall == Firewall::ProxyOnly;
        if self.topology.routers.iter().any(is_walled) {
            let cable = LinkSpec::default();
            self.add_behind_own(PROXY, Preset::None.kinds(), None, None, &cable);
        }
    }

    /// The routers of the file.
    pub(super) fn named(&self) -> impl Iterator<Item = &str> {
        self.named.iter().map(String::as_str)
    }

    /// Whether a name is that of a router of the file.
    pub(super) fn check_named(&self, name: &str) -> Result<(), String> {
        known("router", name, self.named())
            .map_err(|message| format!("{message} (a router stands before what is behind it)"))
    }

    /// Whether a coordinator can have that name: its router's is made from it.
    pub(super) fn check_coordinator(&self, name: &str) -> Result<(), String> {
        check_name(name)?;
        check_own(name)?;
        match self.named().find(|router| is_of(router, name)) {
            None => Ok(()),
            Some(router) => Err(format!("`{router}`, a router, is named like it: choose another")),
        }
    }

    pub(super) fn check_region(&self, name: &str) -> Result<(), String> {
        known("region", name, self.topology.regions.iter().map(String::as_str))
    }

    /// A region at `key`, which only what stands in the public network has.
    pub(super) fn region(
        &self,
        region: Option<&String>,
        behind: Option<&String>,
    ) -> Result<Option<String>, Fault> {
        let Some(name) = region else { return Ok(None) };
        let fault = |message| Fault::new(at!["region"], message);
        if let Some(router) = behind {
            let message = format!("what is behind `{router}` is where that is: leave it out");
            return Err(fault(message));
        }
        self.check_region(name).map_err(fault)?;
        Ok(Some(name.clone()))
    }

    /// Adds a machine behind routers of its own, which are given without names, its own first; they
    /// stand behind `via`, or in `region`. `link` is that of its own router.
    pub(super) fn add_behind_own(
        &mut self,
        name: &str,
        routers: Vec<RouterSpec>,
        via: Option<&str>,
        region: Option<String>,
        link: &LinkSpec,
    ) -> &mut HostSpec {
        let mut behind = via.map(str::to_owned);
        let mut region = region;
        for (index, router) in routers.into_iter().enumerate().rev() {
            let router_name = format!("{name}-r{index}");
            let uplink = if index == 0 { link.clone() } else { router.uplink.clone() };
            let outside = behind.replace(router_name.clone());
            let proxy = proxy_of(router.firewall);
            let region = region.take();
            let spec =
                RouterSpec { name: router_name, behind: outside, region, uplink, proxy, ..router };
            self.topology.routers.push(spec);
        }
        self.add_host(HostSpec { name: name.to_owned(), behind, ..HostSpec::default() })
    }

    /// Adds a machine.
    pub(super) fn add_host(&mut self, host: HostSpec) -> &mut HostSpec {
        let hosts = &mut self.topology.hosts;
        hosts.push(host);
        let last = hosts.len() - 1;
        &mut hosts[last]
    }

    fn add_named(&mut self, router: &Router) -> Result<(), Fault> {
        check_name(&router.name).map_err(|message| Fault::new(at!["name"], message))?;
        check_own(&router.name).map_err(|message| Fault::new(at!["name"], message))?;
        if self.named.contains(&router.name) {
            let message = format!("there are two routers `{}`", router.name);
            return Err(Fault::new(at!["name"], message));
        }
        if let Some(behind) = &router.behind {
            self.check_named(behind).map_err(|message| Fault::new(at!["behind"], message))?;
        }
        let uplink = links::link(router.uplink.as_ref());
        let uplink = uplink.map_err(|message| Fault::new(at!["uplink"], message))?;
        let region = self.region(router.region.as_ref(), router.behind.as_ref())?;
        let spec = own_router(&router.nat, router.firewall, router.ipv6)?;
        self.topology.routers.push(RouterSpec {
            name: router.name.clone(),
            behind: router.behind.clone(),
            region,
            proxy: proxy_of(spec.firewall),
            uplink,
            ..spec
        });
        self.named.push(router.name.clone());
        Ok(())
    }
}

/// A router without a name or a link.
pub(super) fn own_router(
    written: &Nat,
    firewall: file::Firewall,
    ipv6: IpVersions,
) -> Result<RouterSpec, Fault> {
    let spec = RouterSpec { nat: nat(written)?, ..RouterSpec::default() };
    let spec = with_firewall(spec, Some(firewall));
    Ok(with_ip(spec, Some(ipv6)))
}

/// The same router with what is given of a firewall.
pub(super) fn with_firewall(spec: RouterSpec, given: Option<file::Firewall>) -> RouterSpec {
    let firewall = match given {
        None => return spec,
        Some(file::Firewall::None) => Firewall::None,
        Some(file::Firewall::UdpBlocked) => Firewall::UdpBlocked,
        Some(file::Firewall::WebOnly) => Firewall::Tcp80443Only,
        Some(file::Firewall::ProxyOnly) => Firewall::ProxyOnly,
    };
    RouterSpec { firewall, ..spec }
}

/// The same router with what is given of IP's versions. IPv6 is not translated, and filtered.
pub(super) fn with_ip(spec: RouterSpec, given: Option<IpVersions>) -> RouterSpec {
    let stateful = Some(Stateful::default());
    match given {
        None => spec,
        Some(IpVersions::No) => RouterSpec { ipv6: false, ipv6_only: false, ..spec },
        Some(IpVersions::Yes) => RouterSpec { ipv6: true, ipv6_only: false, stateful, ..spec },
        Some(IpVersions::Only) => {
            let nat = NatSpec::default();
            RouterSpec { ipv6: true, ipv6_only: true, stateful, nat, ..spec }
        }
    }
}

fn nat(written: &Nat) -> Result<NatSpec, Fault> {
    let axes = match written {
        Nat::Preset(preset) => return Ok(NatSpec::Preset(*preset)),
        Nat::Axes(axes) => axes,
    };
    let base = match axes.like {
        None => NatProfile::HOME,
        Some(preset) => preset.profile().ok_or_else(|| {
            Fault::new(at!["nat", "like"], "there is no NAT to be like: write nat = \"none\"")
        })?,
    };
    let NatInFull { like: _, mapping, filtering, port, hairpin, lifetime, refresh, .. } = *axes;
    let lifetime = lifetime.map_or(base.lifetime, |time| time.0);
    if lifetime.is_zero() || lifetime.subsec_nanos() != 0 {
        let message = "give a lifetime in whole seconds, at least one";
        return Err(Fault::new(at!["nat", "lifetime"], message));
    }
    Ok(NatSpec::Axes(NatProfile {
        mapping: mapping.unwrap_or(base.mapping),
        filtering: filtering.unwrap_or(base.filtering),
        port: port.unwrap_or(base.port),
        hairpin: hairpin.unwrap_or(base.hairpin),
        lifetime,
        refresh: refresh.unwrap_or(base.refresh),
        table_size: axes.table_size.map_or(base.table_size, |size| size.number()),
        when_full: axes.when_full.unwrap_or(base.when_full),
    }))
}

/// The proxy of those who have no other way out.
fn proxy_of(firewall: Firewall) -> Option<String> {
    (firewall == Firewall::ProxyOnly).then(|| PROXY.to_owned())
}

/// Whether a name from the file differs from those that machines get.
fn check_own(name: &str) -> Result<(), String> {
    if name == "public" || OWN_NAMES.into_iter().any(|own| is_of(name, own)) {
        return Err(format!("`{name}` is like a machine's name: choose another"));
    }
    Ok(())
}

/// Whether a name is that of a machine, or one made from it.
fn is_of(name: &str, machine: &str) -> bool {
    let rest = name.strip_prefix(machine);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

fn check_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_right = (1..=LONGEST_NAME).contains(&name.len())
        && name.chars().all(allowed)
        && name.starts_with(|c: char| c.is_ascii_lowercase());
    if is_right {
        return Ok(());
    }
    Err(format!(
        "`{name}` is no name: write a letter and then letters, digits and `-` in lower case, \
         {LONGEST_NAME} at most"
    ))
}

/// A link at a key.
pub(super) fn link_at(key: &'static str, written: Option<&file::Link>) -> Result<LinkSpec, Fault> {
    links::link(written).map_err(|message| Fault::new([Step::Key(key)], message))
}
