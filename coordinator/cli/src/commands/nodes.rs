//! `oarnodes`.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::Parser;
use coordinator_api::resource::ResourceItem;

use crate::failure::{EXIT_CODES, Failure};
use crate::output::plain_line;
use crate::{login, output};

/// Shows nodes and their resources: one per core.
#[derive(Debug, Parser)]
#[command(name = "oarnodes", version, after_help = EXIT_CODES)]
pub(crate) struct Nodes {
    /// Only these nodes
    #[arg(value_name = "NODE")]
    nodes: Vec<String>,
    /// Only the states of the resources, node by node
    #[arg(short = 's', long)]
    state: bool,
    /// Print JSON: the list of resources
    #[arg(short = 'J', long)]
    json: bool,
}

impl Nodes {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let mut resources = login::client()?.resources().await?;
        let is_known = |name: &String| resources.iter().any(|r| r.network_address == *name);
        if let Some(name) = self.nodes.iter().find(|name| !is_known(name)) {
            return Err(Failure::NoNode { name: name.clone() });
        }
        if resources.is_empty() {
            eprintln!("oar: no node has joined yet");
        }
        if !self.nodes.is_empty() {
            resources.retain(|resource| self.nodes.contains(&resource.network_address));
        }
        if self.json {
            return output::print_json(&resources);
        }
        output::print(&if self.state { states(&resources) } else { blocks(&resources) })
    }
}

fn states(resources: &[ResourceItem]) -> String {
    let mut nodes: BTreeMap<&str, Vec<&ResourceItem>> = BTreeMap::new();
    for resource in resources {
        nodes.entry(&resource.network_address).or_default().push(resource);
    }
    let mut text = String::new();
    for (node, resources) in nodes {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{}", plain_line(node));
        for resource in resources {
            let _ = writeln!(text, "    {} : {:?}", resource.id, resource.state);
        }
    }
    text
}

fn blocks(resources: &[ResourceItem]) -> String {
    let block = |resource: &ResourceItem| {
        format!(
            "network_address : {}\nresource_id : {}\nstate : {:?}\n",
            plain_line(&resource.network_address),
            resource.id,
            resource.state
        )
    };
    resources.iter().map(block).collect::<Vec<_>>().join("\n")
}
