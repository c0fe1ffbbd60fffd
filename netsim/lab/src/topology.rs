//! The public network, and machines behind routers, each in a network namespace of its own.
//!
//! ```text
//!   198.18.0.0/24: the exchange, every top-level router has an address here
//!    ├ router ── machine                 198.18.1.0/24 ...: public addresses (preset `none`)
//!    ├ router ── machine                 10.0.k.0/24: private ones
//!    └ carrier ── router ── machine      preset `carrier`
//! ```
//! IPv4 only. The `patchbay` crate wires the links and translates addresses; the guard closes what
//! its rules leave open.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::Context as _;
use patchbay::{IpSupport, Lab, Nat, NatConfig, NatFiltering, NatMapping, Router};
use tokio::runtime::Runtime;

use crate::netns::Netns;
use crate::preset::Preset;

mod exchange;
mod guard;

pub use guard::Audit;

/// The networks of one run. They vanish when this is dropped and no program runs in them.
pub struct Topology {
    // Declared before the runtime, and so dropped before it.
    lab: Lab,
    runtime: Runtime,
}

/// A machine and the way from it to the public network.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// The network that it is behind.
    pub behind: Preset,
    /// Its address in its own network.
    pub address: Ipv4Addr,
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
    /// Its address towards the machine.
    pub inner: Ipv4Addr,
    /// Its address towards the public network or its carrier.
    pub outer: Ipv4Addr,
    /// The name of its outer interface.
    pub wan: String,
    /// Where its rules are.
    pub netns: Netns,
    /// Whether it translates addresses.
    pub translates: bool,
    /// Whether packets may open a flow from outside, through a mapping that is already there.
    pub open_mappings: bool,
}

impl Topology {
    /// Makes the public network. The process must be able to make network namespaces.
    pub fn new() -> anyhow::Result<Self> {
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
        Ok(Self { lab, runtime })
    }

    /// Adds a machine behind the routers of `behind`. Names are unique in a topology.
    pub fn add(&self, name: &str, behind: Preset) -> anyhow::Result<Machine> {
        self.runtime
            .block_on(self.add_async(name, behind))
            .with_context(|| format!("cannot wire the machine {name} behind {}", behind.name()))
    }

    async fn add_async(&self, name: &str, behind: Preset) -> anyhow::Result<Machine> {
        let mut routers: Vec<Gateway> = Vec::new();
        let mut upstream: Option<Router> = None;
        // From the public network inwards.
        for (index, nat) in nats(behind).into_iter().enumerate().rev() {
            let router_name = format!("{name}-r{index}");
            let mut builder = self.lab.add_router(&router_name).ip_support(IpSupport::V4Only);
            if let Some(upstream) = &upstream {
                builder = builder.upstream(upstream.id());
            }
            let router = builder.nat(nat).build().await?;
            let gateway = gateway(&router, nat)?;
            guard::install(&gateway).with_context(|| format!("cannot guard {router_name}"))?;
            routers.insert(0, gateway);
            upstream = Some(router);
        }
        let own = upstream.context("every preset has a router")?;
        let device = self.lab.add_device(name).iface("eth0", own.id()).build().await?;
        Ok(Machine {
            name: name.to_owned(),
            behind,
            address: device.ip().context("the machine got no address")?,
            netns: device.run_sync(|| Ok(Netns::of_this_thread()?))?,
            routers,
        })
    }
}

impl Machine {
    /// A UDP socket on this machine.
    pub fn udp(&self, port: u16) -> std::io::Result<UdpSocket> {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        self.netns.run(move || UdpSocket::bind(address))?
    }

    /// The router that the machine is plugged into.
    pub fn own_router(&self) -> &Gateway {
        &self.routers[0]
    }
}

/// The translators of a preset, the machine's own first. A router that translates nothing is one too.
fn nats(behind: Preset) -> Vec<Option<NatConfig>> {
    let home: Option<NatConfig> = Nat::Moderate.into();
    match behind {
        Preset::None => vec![None],
        Preset::Home => vec![home],
        Preset::FullCone => vec![Nat::Open.into()],
        Preset::Restricted => {
            let restricted = NatConfig::builder()
                .mapping(NatMapping::EndpointIndependent)
                .filtering(NatFiltering::AddressDependent);
            vec![restricted.build().ok()]
        }
        Preset::Carrier => vec![home, home],
        Preset::Symmetric => vec![Nat::Strict.into()],
    }
}

fn gateway(router: &Router, nat: Option<NatConfig>) -> anyhow::Result<Gateway> {
    let wan = ["ix", "wan"]
        .into_iter()
        .find(|name| router.iface(name).is_some())
        .context("the router has no outer interface")?;
    Ok(Gateway {
        name: router.name().to_owned(),
        inner: router.downstream_gw().context("the router has no inner address")?,
        outer: router.uplink_ip().context("the router has no outer address")?,
        wan: wan.to_owned(),
        netns: router.run_sync(|| Ok(Netns::of_this_thread()?))?,
        translates: nat.is_some(),
        open_mappings: nat.is_none_or(|nat| nat.filtering != NatFiltering::AddressAndPortDependent),
    })
}
