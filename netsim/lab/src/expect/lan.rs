//! Whether machines of one network talk inside it: what their router forwards from the inside to
//! the inside is counted.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, bail};
use netsim_scenario::Resolved;
use netsim_scenario::resolved::Holds;
use serde_json::Value;

use crate::topology::Gateway;
use crate::world::World;

/// What a pair may send through its router while it tries endpoints, in bytes.
///
/// Chosen: a hundred probes of full size. What a job exchanges is more.
const PROBING: u64 = 100 * 1_500;

/// Counters in the routers of shared networks, if the scenario asks for what they count.
#[derive(Debug, Default)]
pub(crate) struct LanCounters(Vec<Gateway>);

/// What a router has forwarded between machines of one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crossing {
    /// The router.
    pub(crate) router: String,
    /// In bytes of IP packets.
    pub(crate) bytes: u64,
}

impl LanCounters {
    /// Begins to count.
    pub(crate) fn install(resolved: &Resolved, world: &World) -> anyhow::Result<Self> {
        let is_asked = resolved.expectations.iter().any(|e| e.that == Holds::LanPairsDirect);
        if !is_asked {
            return Ok(Self::default());
        }
        let mut machines: BTreeMap<&str, u32> = BTreeMap::new();
        for host in &resolved.topology.hosts {
            *machines.entry(host.behind.as_deref().unwrap_or_default()).or_default() += host.count;
        }
        let shared =
            machines.into_iter().filter(|(router, count)| !router.is_empty() && *count > 1);
        let mut counters = Vec::new();
        for (router, _) in shared {
            let gateway = world.topology().router(router)?;
            install(&gateway).with_context(|| format!("cannot count on {router}"))?;
            counters.push(gateway);
        }
        Ok(Self(counters))
    }

    /// What was counted so far.
    pub(crate) fn read(&self) -> anyhow::Result<Vec<Crossing>> {
        self.0.iter().map(read).collect()
    }
}

/// Says so if a router has forwarded more between that many pairs than their probing takes.
pub(super) fn too_much(crossing: &Crossing, pairs: usize) -> Option<String> {
    let most = PROBING * pairs as u64;
    let Crossing { router, bytes } = crossing;
    let says = format!("{router} has forwarded {bytes} bytes between machines of its own network");
    (*bytes > most).then_some(says)
}

fn install(gateway: &Gateway) -> anyhow::Result<()> {
    // Where the kernel shows bridged packets to nft, they are not forwarded ones.
    gateway.netns.run(|| {
        for family in ["iptables", "ip6tables"] {
            let _ = fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{family}"), "0");
        }
    })?;
    let wan = &gateway.wan;
    let rules = format!(
        "table inet lan {{
           counter crossings {{ }}
           chain forwarded {{
             type filter hook forward priority 310; policy accept;
             iifname != \"{wan}\" oifname != \"{wan}\" counter name crossings
           }}
         }}"
    );
    let mut nft = gateway
        .netns
        .command("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start nft: install nftables")?;
    if let Some(mut stdin) = nft.stdin.take() {
        stdin.write_all(rules.as_bytes())?;
    }
    let output = nft.wait_with_output()?;
    if !output.status.success() {
        bail!("nft: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn read(gateway: &Gateway) -> anyhow::Result<Crossing> {
    let args = ["-j", "list", "counter", "inet", "lan", "crossings"];
    let output = gateway.netns.command("nft").args(args).output().context("cannot start nft")?;
    let answer: Value =
        serde_json::from_slice(&output.stdout).context("cannot read nft's answer")?;
    let items = answer["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
    let bytes = items.iter().find_map(|item| item["counter"]["bytes"].as_u64());
    let bytes = bytes.with_context(|| format!("{} has no counter any more", gateway.name))?;
    Ok(Crossing { router: gateway.name.clone(), bytes })
}
