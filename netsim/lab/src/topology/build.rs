//! From the simulator's words to namespaces, several at a time.

use std::io;
use std::net::Ipv6Addr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use netsim_sim::topology::{HostSpec, RouterSpec};
use netsim_sim::{Firewall, NatProfile};
use patchbay::{IpSupport, Nat, Router, RouterPreset};
use tokio::io::AsyncWriteExt as _;

use super::rules::{self, Ruled};
use super::{Gateway, MachinePart, Parts, RouterPart, Topology, either};
use crate::netns::Netns;

/// Routers or machines in the making. Chosen: most of the time goes into waiting for the kernel and
/// for `nft`; beyond this nothing is won on two processors.
const AT_ONCE: usize = 8;

/// The most routers in the public realm, machines there included: the addresses that the exchange
/// has (`198.18.0.10` to `.254`).
const MAX_PUBLIC: usize = 245;

/// How long the kernel may take to make an address ready. Chosen: without duplicate detection it is a
/// matter of milliseconds, or of a busy machine's seconds.
const SETTLED: Duration = Duration::from_secs(10);

impl Topology {
    /// Adds routers, those further out first.
    pub(super) fn wire_routers(&self, specs: &[RouterSpec]) -> anyhow::Result<()> {
        let mut rest = specs;
        while let Some(first) = rest.first() {
            // As many as do not stand behind each other.
            let count = rest
                .iter()
                .position(|spec| {
                    let own: &[RouterSpec] = rest;
                    spec.behind.as_ref().is_some_and(|behind| {
                        own.iter().take_while(|s| s.name != spec.name).any(|s| s.name == *behind)
                    })
                })
                .unwrap_or(rest.len());
            let (now, later) = rest.split_at(count);
            if now.is_empty() {
                bail!("the router {} stands behind itself", first.name);
            }
            rest = later;
            self.check_room(now)?;
            let made = self.runtime.block_on(
                stream::iter(now.iter().map(|spec| self.router_of(spec)))
                    .buffered(AT_ONCE)
                    .try_collect::<Vec<_>>(),
            )?;
            let named = now.iter().map(|spec| spec.name.clone()).zip(made);
            self.parts().routers.extend(named);
        }
        Ok(())
    }

    /// Adds machines. Those in the public realm get a router without NAT, `NAME-r0`.
    pub(super) fn wire_hosts(&self, specs: &[HostSpec]) -> anyhow::Result<()> {
        let public = specs.iter().filter(|spec| spec.behind.is_none());
        let own: Vec<RouterSpec> = public
            .flat_map(|spec| spec.names().into_iter().map(move |name| (name, spec)))
            .map(|(name, spec)| RouterSpec {
                name: own_router(&name),
                region: spec.region.clone(),
                ipv6: true,
                ..RouterSpec::default()
            })
            .collect();
        self.wire_routers(&own)?;
        let named: Vec<(String, &HostSpec)> = specs
            .iter()
            .flat_map(|spec| spec.names().into_iter().map(move |name| (name, spec)))
            .collect();
        let made = self.runtime.block_on(
            stream::iter(named.iter().map(|(name, spec)| self.machine_of(name, spec)))
                .buffered(AT_ONCE)
                .try_collect::<Vec<_>>(),
        )?;
        self.parts().machines.extend(named.into_iter().map(|(name, _)| name).zip(made));
        self.name_proxies()
    }

    fn check_room(&self, specs: &[RouterSpec]) -> anyhow::Result<()> {
        let is_public = |spec: &RouterSpec| spec.behind.is_none();
        let there = self.parts().routers.values().filter(|part| is_public(&part.spec)).count();
        let more = specs.iter().filter(|spec| is_public(spec)).count();
        if there + more > MAX_PUBLIC {
            bail!(
                "{} routers and machines in the public realm, and the exchange has room for \
                 {MAX_PUBLIC}: put some behind carriers, or use the simulator",
                there + more
            );
        }
        Ok(())
    }

    async fn router_of(&self, spec: &RouterSpec) -> anyhow::Result<RouterPart> {
        self.wire_router(spec)
            .await
            .with_context(|| format!("cannot make the router {}", spec.name))
    }

    async fn wire_router(&self, spec: &RouterSpec) -> anyhow::Result<RouterPart> {
        let profile = spec.nat.profile();
        let support = match (spec.ipv6, spec.ipv6_only) {
            (_, true) => IpSupport::V6Only,
            (true, false) => IpSupport::DualStack,
            (false, false) => IpSupport::V4Only,
        };
        let mut builder = self.lab.add_router(&spec.name);
        if profile.is_some() {
            // Only for its private addresses: translation is done by rules of our own.
            builder = builder.preset(RouterPreset::Cloud);
        }
        builder = builder.nat(Nat::None).ip_support(support);
        if let Some(behind) = &spec.behind {
            builder = builder.upstream(self.parts().router(behind)?.handle.id());
        }
        let handle = {
            // In the making, all routers at the exchange have an interface of the same name there.
            let _alone =
                if spec.behind.is_none() { Some(self.exchange.lock().await) } else { None };
            builder.build().await?
        };
        let gateway = gateway(&handle, spec, profile).await?;
        let ruled = Ruled {
            wan: &gateway.wan,
            nat: profile.filter(|nat| rules::kernel_can(nat).is_ok()),
            stateful: spec.stateful,
            firewall: spec.firewall,
            proxy: None,
        };
        set(&handle, ruled.settings()).await?;
        nft(&handle, ruled.text()).await?;
        Ok(RouterPart { handle, spec: spec.clone(), gateway, region: None, line: None })
    }

    async fn machine_of(&self, name: &str, spec: &HostSpec) -> anyhow::Result<MachinePart> {
        let wired = async {
            let router = spec.behind.clone().unwrap_or_else(|| own_router(name));
            let id = self.parts().router(&router)?.handle.id();
            let device =
                self.lab.add_device(name).iface(super::change::INTERFACE, id).build().await?;
            let netns = device.spawn(async |_| Netns::of_this_thread())?.await??;
            if let Some(address) = device.ip6() {
                device.spawn(async move |_| settled(address).await)?.await??;
            }
            let link = spec.link.profile();
            anyhow::Ok(MachinePart { device, netns, router, preset: None, link, line: None })
        };
        wired.await.with_context(|| format!("cannot make the machine {name}"))
    }

    /// Tells routers that let through a proxy only where it is.
    fn name_proxies(&self) -> anyhow::Result<()> {
        let waiting: Vec<(Router, String)> = {
            let parts = self.parts();
            let by_proxy =
                parts.routers.values().filter(|part| part.spec.firewall == Firewall::ProxyOnly);
            by_proxy
                .filter_map(|part| Some((part.handle.clone(), parts.proxy_rules(part)?)))
                .collect()
        };
        for (router, rules) in waiting {
            self.runtime.block_on(nft(&router, rules))?;
        }
        Ok(())
    }
}

impl Parts {
    fn proxy_rules(&self, part: &RouterPart) -> Option<String> {
        let proxy = self.machine(part.spec.proxy.as_deref()?).ok()?;
        let ruled = Ruled {
            wan: &part.gateway.wan,
            nat: None,
            stateful: None,
            firewall: part.spec.firewall,
            proxy: Some(proxy.address),
        };
        Some(format!("delete table inet firewall\n{}", ruled.text()))
    }
}

/// Waits until the kernel has taken in an address of this namespace, which it does in the background.
async fn settled(address: Ipv6Addr) -> io::Result<()> {
    let begun = tokio::time::Instant::now();
    loop {
        match tokio::net::UdpSocket::bind((address, 0)).await {
            Ok(_) => return Ok(()),
            Err(error) if begun.elapsed() > SETTLED => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    }
}

/// The router of a machine in the public realm.
pub(super) fn own_router(machine: &str) -> String {
    format!("{machine}-r0")
}

async fn gateway(
    router: &Router,
    spec: &RouterSpec,
    nat: Option<NatProfile>,
) -> anyhow::Result<Gateway> {
    let wan = ["ix", "wan"]
        .into_iter()
        .find(|name| router.iface(name).is_some())
        .context("the router has no outer interface")?;
    Ok(Gateway {
        name: spec.name.clone(),
        inner: either(router.downstream_gw(), router.downstream_gw_v6())
            .context("the router has no inner address")?,
        outer: either(router.uplink_ip(), router.uplink_ip_v6())
            .context("the router has no outer address")?,
        wan: wan.to_owned(),
        netns: router.spawn(async |_| Netns::of_this_thread())?.await??,
        nat,
        firewall: spec.firewall,
    })
}

/// Sets kernel settings in the router's namespace.
async fn set(router: &Router, settings: Vec<(&'static str, String)>) -> anyhow::Result<()> {
    if settings.is_empty() {
        return Ok(());
    }
    let write = async move |_| -> io::Result<()> {
        settings
            .iter()
            .try_for_each(|(name, value)| std::fs::write(format!("/proc/sys/{name}"), value))
    };
    router.spawn(write)?.await?.context("cannot set the lifetime of connections")
}

/// Runs `nft` in the router's namespace.
pub(super) async fn nft(router: &Router, rules: String) -> anyhow::Result<()> {
    if rules.is_empty() {
        return Ok(());
    }
    let run = async move |_| -> anyhow::Result<()> {
        let mut nft = tokio::process::Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start nft: install nftables")?;
        if let Some(mut stdin) = nft.stdin.take() {
            stdin.write_all(rules.as_bytes()).await?;
        }
        let output = nft.wait_with_output().await?;
        if !output.status.success() {
            bail!("nft: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    };
    router.spawn(run)?.await?
}
