//! What agents send while no job says anything, counted by the kernel where it leaves their machines.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::program::Place;
use crate::world::World;

/// How long `nft` may take.
const SOON: Duration = Duration::from_secs(10);

/// The ports that a router is asked for mappings at: UPnP's search, and PCP and NAT-PMP.
const ROUTERS_OWN: &str = "1900, 5351";

/// UDP packets of all agents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// To other volunteers' addresses.
    pub(super) to_peers: u64,
    /// To relays, carrying a pair's packets.
    pub(super) relayed: u64,
    /// To relays and the coordinator otherwise: what keeps the agent reachable.
    pub(super) kept: u64,
}

/// Counters on every volunteer's machine.
pub(super) struct Counters(Vec<Place>);

impl Counters {
    /// Begins to count.
    pub(super) fn install(world: &World) -> anyhow::Result<Self> {
        let relays = world.relays().map(|relay| relay.machine.address);
        let known: Vec<String> = relays
            .chain(world.servers.iter().map(|server| server.machine.address))
            .filter(IpAddr::is_ipv4)
            .map(|address| address.to_string())
            .collect();
        let rules = rules(&known.join(", "));
        let places: Vec<Place> = world.volunteers.iter().map(|v| v.place.clone()).collect();
        for place in &places {
            place.expect("nft", &nft()?, [&rules], SOON)?;
        }
        Ok(Self(places))
    }

    /// What was counted so far.
    pub(super) fn read(&self) -> anyhow::Result<Counted> {
        let mut sum = Counted::default();
        for place in &self.0 {
            let args = ["-j", "list", "counters", "table", "inet", "silence"];
            let answer = place.expect("nft", &nft()?, args, SOON)?.stdout;
            let one = parse(&answer).context("cannot read nft's answer")?;
            sum.to_peers += one.to_peers;
            sum.relayed += one.relayed;
            sum.kept += one.kept;
        }
        Ok(sum)
    }
}

/// A frame of the relay that carries a packet begins with 5.
fn rules(known: &str) -> String {
    format!(
        "table inet silence {{ \
         counter to-peers {{ }}; counter relayed {{ }}; counter kept {{ }}; \
         chain out {{ type filter hook output priority 0; \
         meta l4proto != udp accept; \
         udp dport {{ {ROUTERS_OWN} }} accept; \
         ip daddr {{ {known} }} @th,64,8 5 counter name relayed accept; \
         ip daddr {{ {known} }} counter name kept accept; \
         counter name to-peers; }}; }}"
    )
}

fn parse(answer: &str) -> Option<Counted> {
    let answer: Value = serde_json::from_str(answer).ok()?;
    let items = answer["nftables"].as_array()?;
    let packets = |name: &str| {
        let counters = items.iter().map(|item| &item["counter"]);
        counters.filter(|c| c["name"] == name).find_map(|c| c["packets"].as_u64())
    };
    Some(Counted {
        to_peers: packets("to-peers")?,
        relayed: packets("relayed")?,
        kept: packets("kept")?,
    })
}

fn nft() -> anyhow::Result<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut files = std::env::split_paths(&path).map(|folder| folder.join("nft"));
    files
        .find(|file: &std::path::PathBuf| Path::is_file(file))
        .context("nft is missing: install nftables")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_counters_are_read_and_none_is_guessed() {
        let counter = |name: &str, packets: u64| {
            format!("{{\"counter\": {{\"name\": \"{name}\", \"packets\": {packets}}}}}")
        };
        let answer = |counters: &[String]| format!("{{\"nftables\": [{}]}}", counters.join(","));
        let [a, b, c] = [counter("to-peers", 1), counter("relayed", 2), counter("kept", 3)];
        let all = parse(&answer(&[a.clone(), b.clone(), c]));
        assert_eq!(all, Some(Counted { to_peers: 1, relayed: 2, kept: 3 }));
        assert_eq!(parse(&answer(&[a, b])), None);
        assert_eq!(parse("{"), None);
    }
}
