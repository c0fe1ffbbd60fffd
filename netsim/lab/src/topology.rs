//! The public network, and machines behind routers, each in a network namespace of its own.
//!
//! ```text
//!   198.18.0.0/24: the exchange, every top-level router has an address here
//!    ├ router ── machine                 198.18.1.0/24 ...: public addresses (no NAT)
//!    ├ router ── machine, machine        10.0.k.0/24: private ones
//!    └ carrier ── router ── machine      NATs in a row
//! ```
//! What is built is told in the simulator's words: [`netsim_sim::Topology`]. The `patchbay` crate
//! makes namespaces, cables and addresses. What routers do is this module's: [`rules`] where the
//! kernel can do it, and `netsim_wire` where it cannot. So are links: each is a cable, or the kernel's
//! netem where there is one ([`Emulation`]), or a wire in user space.
//!
//! A machine or router in the public realm has a router without NAT of its own: in the kernel the
//! exchange is made of cables between routers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use netsim_sim::topology::{HostSpec, RouterSpec};
use netsim_sim::{Filtering, Firewall, LinkProfile, NatProfile};
use netsim_wire::{Counters, LineId, Region, Wires, netem};
use patchbay::Lab;
use tokio::runtime::Runtime;

use crate::netns::Netns;
use netsim_scenario::Preset;

mod audit;
mod build;
mod change;
mod exchange;
mod flush;
mod links;
pub mod rules;

pub use audit::Audit;

/// The networks of one run. They vanish when this is dropped and no program runs in them.
pub struct Topology {
    parts: Mutex<Parts>,
    wires: Wires,
    emulation: Emulation,
    seed: u64,
    /// Where the exchange is.
    root: Netns,
    exchange: tokio::sync::Mutex<()>,
    // Declared before the runtime, and so dropped before it.
    lab: Lab,
    runtime: Runtime,
}

/// Who emulates links that are more than a cable, where both could.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emulation {
    /// The kernel's netem, for the links that it has words for.
    Netem,
    /// This process.
    UserSpace,
}

impl Emulation {
    /// The kernel where it can. This is tried in a namespace that is thrown away.
    pub fn of_this_kernel() -> Self {
        if netem::is_here() { Self::Netem } else { Self::UserSpace }
    }

    /// For people and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Netem => "netem",
            Self::UserSpace => "user space",
        }
    }
}

#[derive(Default)]
struct Parts {
    routers: BTreeMap<String, RouterPart>,
    machines: BTreeMap<String, MachinePart>,
}

struct RouterPart {
    handle: patchbay::Router,
    spec: RouterSpec,
    gateway: Gateway,
    /// Where it is, when there are ways between regions.
    region: Option<Region>,
    line: Option<LineId>,
}

struct MachinePart {
    device: patchbay::Device,
    netns: Netns,
    /// The router that it is plugged into.
    router: String,
    preset: Option<Preset>,
    link: LinkProfile,
    line: Option<LineId>,
}

/// A machine and the way from it to the public network, as it is now.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// The preset that it was added behind, if it was.
    pub behind: Option<Preset>,
    /// Its address in its own network: the IPv4 one where it has both.
    pub address: IpAddr,
    /// Its IPv6 address; none where a router on its way out has no IPv6.
    pub ipv6: Option<Ipv6Addr>,
    /// Where its programs run.
    pub netns: Netns,
    /// The routers on the way out, its own first.
    pub routers: Vec<Gateway>,
}

/// A router.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Its name.
    pub name: String,
    /// Its address towards the machine: the IPv4 one where it has both, as below.
    pub inner: IpAddr,
    /// Its address towards the public network or its carrier.
    pub outer: IpAddr,
    /// The name of its outer interface.
    pub wan: String,
    /// Where its rules are.
    pub netns: Netns,
    /// How it translates addresses; none where it does not.
    pub nat: Option<NatProfile>,
    /// What it lets through at all.
    pub firewall: Firewall,
}

impl Topology {
    /// Makes the public network. The process must be able to make network namespaces.
    pub fn new() -> anyhow::Result<Self> {
        Self::with(Emulation::of_this_kernel(), 0)
    }

    /// [`new`](Self::new), with a choice of who emulates links, and a seed for what is random there.
    pub fn with(emulation: Emulation, seed: u64) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("cannot start the runtime that wires the networks")?;
        let lab = runtime
            .block_on(Lab::builder().allow_real_root().build())
            .context("cannot make the public network: see `netsim doctor`")?;
        let root = lab.ix().run_sync(|| Ok(Netns::of_this_thread()?))?;
        exchange::pin_hardware_address(&root).context("cannot set up the exchange")?;
        let wires = Wires::new().context("cannot start the thread for links in user space")?;
        Ok(Self {
            parts: Mutex::default(),
            wires,
            emulation,
            seed,
            root,
            exchange: tokio::sync::Mutex::new(()),
            lab,
            runtime,
        })
    }

    /// Makes all of a topology: routers, machines and links, several at a time. Its events are the
    /// caller's to [`apply`](Self::apply) when their time has come, as is churn. What is random
    /// about links and NATs follows from the seed.
    pub fn build(topology: &netsim_sim::Topology, seed: u64) -> anyhow::Result<Self> {
        Self::build_with(topology, Emulation::of_this_kernel(), seed)
    }

    /// [`build`](Self::build), with a choice of who emulates links.
    pub fn build_with(
        topology: &netsim_sim::Topology,
        emulation: Emulation,
        seed: u64,
    ) -> anyhow::Result<Self> {
        topology.build::<()>(seed, Duration::ZERO).context("the network is not sound")?;
        let built = Self::with(emulation, seed)?;
        built.wire_routers(&topology.routers)?;
        built.wire_hosts(&topology.hosts)?;
        built.lay_ways(topology)?;
        built.lay_all()?;
        Ok(built)
    }

    /// Adds a machine behind routers of its own. Names are unique in a topology.
    pub fn add(&self, name: &str, behind: Preset) -> anyhow::Result<Machine> {
        let chain = behind.routers(name);
        self.wire_routers(&chain)?;
        let own = chain.last().map(|router| router.name.clone());
        let host = HostSpec { name: name.to_owned(), behind: own, ..HostSpec::default() };
        self.wire_hosts(&[host])?;
        self.lay_all()?;
        if let Some(part) = self.parts().machines.get_mut(name) {
            part.preset = Some(behind);
        }
        self.machine(name)
    }

    /// The machine of that name, as it is now.
    pub fn machine(&self, name: &str) -> anyhow::Result<Machine> {
        self.parts().machine(name)
    }

    /// Who emulates links that are more than a cable, where both could.
    pub fn emulation(&self) -> Emulation {
        self.emulation
    }

    /// What became of the packets on a router's uplink, those outwards first; none where it is a cable
    /// or the kernel's.
    pub fn uplink_counters(&self, router: &str) -> anyhow::Result<Option<[Counters; 2]>> {
        let line = self.parts().router(router)?.line;
        self.counters(line)
    }

    /// What became of the packets on a machine's link, those from the machine first; none where it is
    /// a cable or the kernel's.
    pub fn link_counters(&self, machine: &str) -> anyhow::Result<Option<[Counters; 2]>> {
        let line = self.parts().machine_part(machine)?.line;
        self.counters(line)
    }

    fn counters(&self, line: Option<LineId>) -> anyhow::Result<Option<[Counters; 2]>> {
        line.map_or(Ok(None), |line| Ok(self.wires.counters(line)?))
    }

    /// Lets a router's NAT age at once, as if nothing had happened for that long; false where the
    /// kernel is the NAT, whose clock is everybody's.
    pub fn age_nat(&self, router: &str, by: Duration) -> anyhow::Result<bool> {
        let part_line = {
            let parts = self.parts();
            let part = parts.router(router)?;
            part.line
                .filter(|_| part.gateway.nat.is_some_and(|nat| rules::kernel_can(&nat).is_err()))
        };
        match part_line {
            Some(line) => self.wires.age_nat(line, by).map(|()| true).map_err(Into::into),
            None => Ok(false),
        }
    }

    /// All machines, sorted by name.
    pub fn machines(&self) -> Vec<Machine> {
        let parts = self.parts();
        parts.machines.keys().filter_map(|name| parts.machine(name).ok()).collect()
    }

    /// The router of that name.
    pub fn router(&self, name: &str) -> anyhow::Result<Gateway> {
        self.parts().router(name).map(|router| router.gateway.clone())
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Parts {
    fn router(&self, name: &str) -> anyhow::Result<&RouterPart> {
        self.routers.get(name).with_context(|| format!("there is no router {name}"))
    }

    fn machine_part(&self, name: &str) -> anyhow::Result<&MachinePart> {
        self.machines.get(name).with_context(|| format!("there is no machine {name}"))
    }

    fn machine(&self, name: &str) -> anyhow::Result<Machine> {
        let part = self.machine_part(name)?;
        let mut routers = Vec::new();
        let mut next = Some(part.router.as_str());
        while let Some(router) = next {
            let router = self.router(router)?;
            routers.push(router.gateway.clone());
            next = router.spec.behind.as_deref();
        }
        Ok(Machine {
            name: name.to_owned(),
            behind: part.preset,
            address: either(part.device.ip(), part.device.ip6()).context("it has no address")?,
            ipv6: part.device.ip6(),
            netns: part.netns.clone(),
            routers,
        })
    }
}

/// The address that stands for both.
fn either(ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr>) -> Option<IpAddr> {
    ipv4.map(IpAddr::from).or(ipv6.map(IpAddr::from))
}

impl Gateway {
    /// Whether nobody outside may open a flow through it: it translates, and filters by address and
    /// port.
    pub fn is_shut(&self) -> bool {
        self.nat.is_some_and(|nat| nat.filtering == Filtering::AddressAndPortDependent)
    }
}

impl Machine {
    /// A UDP socket on this machine.
    pub fn udp(&self, port: u16) -> std::io::Result<UdpSocket> {
        let any = match self.address {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let address = SocketAddr::from((any, port));
        self.netns.run(move || UdpSocket::bind(address))?
    }

    /// The router that the machine is plugged into.
    pub fn own_router(&self) -> &Gateway {
        &self.routers[0]
    }
}
