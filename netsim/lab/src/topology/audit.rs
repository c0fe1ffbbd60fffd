//! What a router's rules and counters say after a run.

use anyhow::Context as _;
use serde_json::Value;

use super::Gateway;
use super::rules::MAPPINGS;

/// What a router's rules and counters say after a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Packets that opened a flow from outside and were let through.
    pub opened_from_outside: u64,
    /// Rules that send packets from outside to a fixed address: port forwards.
    pub port_forwards: Vec<String>,
}

impl Gateway {
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
    let learned = target["addr"]["map"]["data"] == format!("@{MAPPINGS}");
    expression.get("redirect").is_some() || (target.is_object() && !learned)
}
