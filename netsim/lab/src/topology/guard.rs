//! Rules that make a translating router behave like a product, and show that it did.
//!
//! Two things are missing from the rules that `patchbay` installs. A packet from outside that no
//! mapping wants would reach the router itself and leave an entry in its connection table; the
//! machine's own packet to that sender then gets another port, and the mapping is no longer
//! endpoint-independent. And a mapping's entry would expire while its flow lives, since a nat chain
//! sees the first packet only. The guard drops the former and refreshes the latter.

use std::io::Write as _;
use std::process::Stdio;

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::Gateway;

/// What a router's rules and counters say after a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Packets that opened a flow from outside and were let through.
    pub opened_from_outside: u64,
    /// Rules that send packets from outside to a fixed address: port forwards.
    pub port_forwards: Vec<String>,
}

pub(super) fn install(gateway: &Gateway) -> anyhow::Result<()> {
    if !gateway.translates {
        return Ok(());
    }
    let mut nft = gateway
        .netns
        .command("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start nft: install nftables")?;
    if let Some(mut stdin) = nft.stdin.take() {
        stdin.write_all(rules(gateway).as_bytes())?;
    }
    let output = nft.wait_with_output()?;
    if !output.status.success() {
        bail!("nft: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn rules(gateway: &Gateway) -> String {
    let wan = &gateway.wan;
    let mapped = if gateway.open_mappings {
        format!("iifname \"{wan}\" ct status dnat accept")
    } else {
        String::new()
    };
    let mut rules = format!(
        r#"
table inet guard {{
  counter opened_from_outside {{ }}
  chain input {{
    type filter hook input priority 0; policy accept;
    iifname "{wan}" ct state established,related accept
    iifname "{wan}" drop
  }}
  chain inwards {{
    type filter hook forward priority 20; policy accept;
    iifname "{wan}" ct state established,related accept
    {mapped}
    iifname "{wan}" drop
  }}
  chain audit {{
    type filter hook forward priority 300; policy accept;
    iifname "{wan}" ct state new counter name opened_from_outside
  }}
}}
"#
    );
    if gateway.has_map() {
        rules.push_str(&format!(
            r#"
table ip nat {{
  chain refresh {{
    type filter hook forward priority -1; policy accept;
    oifname "{wan}" meta l4proto udp update @fullcone {{ udp sport timeout 300s : ip saddr . udp sport }}
  }}
}}
"#
        ));
    }
    rules
}

impl Gateway {
    /// Whether the translator keeps a map of its mappings: all endpoint-independent ones do.
    fn has_map(&self) -> bool {
        let table =
            self.netns.command("nft").args(["list", "map", "ip", "nat", "fullcone"]).output();
        table.is_ok_and(|output| output.status.success())
    }

    /// Reads the rules and counters.
    pub fn audit(&self) -> anyhow::Result<Audit> {
        let output = self
            .netns
            .command("nft")
            .args(["-j", "list", "ruleset"])
            .output()
            .context("cannot start nft")?;
        let ruleset: Value =
            serde_json::from_slice(&output.stdout).context("cannot read nft's answer")?;
        let items = ruleset["nftables"].as_array().map(Vec::as_slice).unwrap_or_default();
        let opened = items
            .iter()
            .map(|item| &item["counter"])
            .find(|counter| counter["name"] == "opened_from_outside")
            .and_then(|counter| counter["packets"].as_u64());
        let forwards = items
            .iter()
            .flat_map(|item| item["rule"]["expr"].as_array().cloned().unwrap_or_default())
            .filter(is_port_forward)
            .map(|expression| expression.to_string());
        Ok(Audit { opened_from_outside: opened.unwrap_or(0), port_forwards: forwards.collect() })
    }
}

/// A destination translation to anything but the map of the mappings that the inside has opened.
fn is_port_forward(expression: &Value) -> bool {
    let target = &expression["dnat"];
    let learned = target["addr"]["map"]["data"] == "@fullcone";
    expression.get("redirect").is_some() || (target.is_object() && !learned)
}
