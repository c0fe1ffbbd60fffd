//! `oarproperty`: for operators.

use std::collections::{BTreeMap, BTreeSet};

use clap::Parser;
use coordinator_api::resource::ResourceRow;
use coordinator_client::Client;

use crate::failure::{EXIT_CODES, Failure};
use crate::{login, output};

/// Lists the properties of resources, takes them away, gives them other names. For operators.
///
/// A property is there as soon as a node has it: `oarnodesetting -h NODE -p NAME=VALUE` adds one.
#[derive(Debug, Parser)]
#[command(name = "oarproperty", version, after_help = EXIT_CODES)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true)))]
pub(crate) struct Property {
    /// List all properties
    #[arg(short = 'l', long, group = "what")]
    list: bool,
    /// Take a property away from all nodes; may be repeated
    #[arg(short = 'd', long, value_name = "NAME", group = "what")]
    delete: Vec<String>,
    /// Give a property another name on all nodes; may be repeated
    #[arg(short = 'r', long, value_name = "OLD,NEW", group = "what", value_parser = names)]
    rename: Vec<(String, String)>,
}

impl Property {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = login::client()?;
        for (old, new) in &self.rename {
            let changed = change(&client, old, Some(new)).await?;
            output::print(&format!("Rename property {old} into {new}: {changed} nodes\n"))?;
        }
        for name in &self.delete {
            let changed = change(&client, name, None).await?;
            output::print(&format!("Delete property: {name}: {changed} nodes\n"))?;
        }
        if self.list {
            let names = all_names(&client.resource_rows().await?);
            output::print(&names.iter().map(|name| format!("{name}\n")).collect::<String>())?;
        }
        Ok(())
    }
}

/// Takes the property from each node that has it, and gives its value to the new name. How many nodes those were.
async fn change(client: &Client, old: &str, new: Option<&str>) -> Result<usize, Failure> {
    let rows = client.resource_rows().await?;
    let value_on = |row: &ResourceRow| row.properties.get(old).cloned();
    // A node's resources have what the node has.
    let nodes: BTreeMap<String, String> =
        rows.iter().filter_map(|row| Some((row.network_address.clone(), value_on(row)?))).collect();
    if nodes.is_empty() {
        return Err(Failure::NoProperty { name: old.to_owned() });
    }
    for (node, value) in &nodes {
        // First the new one: the server may refuse its name, and then nothing is lost.
        if let Some(new) = new {
            let set = BTreeMap::from([(new.to_owned(), value.clone())]);
            client.set_properties(node, &set).await?;
        }
        let none = BTreeMap::from([(old.to_owned(), String::new())]);
        client.set_properties(node, &none).await?;
    }
    Ok(nodes.len())
}

/// The columns that say something of a resource, and what operators have set.
fn all_names(rows: &[ResourceRow]) -> BTreeSet<String> {
    let about_the_answer = ["api_timestamp", "id", "links"];
    let row = |row: &ResourceRow| serde_json::to_value(row).unwrap_or_default();
    let names = rows.iter().filter_map(|it| row(it).as_object().cloned()).flatten();
    names.map(|(name, _)| name).filter(|name| !about_the_answer.contains(&&**name)).collect()
}

fn names(text: &str) -> Result<(String, String), String> {
    let (old, new) = text.split_once(',').ok_or("write OLD,NEW")?;
    match (old.trim(), new.trim()) {
        ("", _) | (_, "") => Err("write OLD,NEW".to_owned()),
        (old, new) => Ok((old.to_owned(), new.to_owned())),
    }
}
