//! `oarnodesetting`: for operators.

use clap::{ArgAction, Parser, ValueEnum};

use crate::failure::{EXIT_CODES, Failure};
use crate::{login, output};

/// Takes nodes away, gives them back, sets their properties. For operators.
#[derive(Debug, Parser)]
#[command(name = "oarnodesetting", version, after_help = EXIT_CODES, disable_help_flag = true)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true)))]
pub(crate) struct NodeSetting {
    /// The node
    #[arg(short = 'h', long = "hostname", value_name = "NODE")]
    node: String,
    /// Its new state; what runs on it is ended unless it is Alive
    #[arg(short = 's', long, value_enum, ignore_case = true, group = "what")]
    state: Option<State>,
    /// A property, as in rack=7; an empty value takes it away; may be repeated
    #[arg(short = 'p', long = "property", value_name = "NAME=VALUE", group = "what", value_parser = property)]
    properties: Vec<(String, String)>,
    /// No new jobs: what runs there comes to its end
    #[arg(short = 'd', long, value_enum, ignore_case = true, group = "what")]
    drain: Option<Drain>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// What a node can be made.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    #[value(name = "Alive")]
    Alive,
    #[value(name = "Absent")]
    Absent,
    #[value(name = "Dead")]
    Dead,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Drain {
    On,
    Off,
}

impl NodeSetting {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = login::client()?;
        let node = &self.node;
        let mut properties = self.properties;
        properties.extend(self.drain.map(|drain| {
            let value = match drain {
                Drain::On => "YES",
                Drain::Off => "NO",
            };
            ("drain".to_owned(), value.to_owned())
        }));
        if let Some(state) = self.state {
            let resources = client.resources().await?;
            let first = resources.iter().find(|resource| resource.network_address == *node);
            let first = first.ok_or_else(|| Failure::NoNode { name: node.clone() })?;
            client.set_node_state(first.id, &format!("{state:?}")).await?;
            output::print(&format!("{node} --> {state:?}\n"))?;
        }
        if !properties.is_empty() {
            client.set_properties(node, &properties.iter().cloned().collect()).await?;
            for (name, value) in &properties {
                output::print(&format!("{node} : {name} = {value}\n"))?;
            }
        }
        Ok(())
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}
