//! A scenario's network, drawn as text and as SVG.

use std::fmt::{self, Display, Formatter};

use netsim_sim::{Filtering, Mapping, NatProfile};

use netsim_scenario::Preset;
use netsim_scenario::Resolved;

mod svg;

pub use svg::Svg;

/// What the abbreviations of [`class`] mean.
const LEGEND: &str = "EIM, ADM, APDM: endpoint-independent, address-dependent, \
                      address-and-port-dependent mapping; EIF, ADF, APDF: filtering (RFC 4787)";

/// The network of a scenario. It displays as a tree; see [`Svg`] for the other kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawing {
    title: String,
    machines: Vec<Branch>,
}

/// A machine and what is between it and the public network.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Branch {
    name: String,
    /// What it is for.
    role: String,
    behind: Preset,
    /// From the public network inwards.
    routers: Vec<Router>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Router {
    name: String,
    class: String,
}

impl Drawing {
    /// The network that a run of `scenario` makes.
    pub fn of(scenario: &Resolved) -> Self {
        let mut machines = vec![branch("coordinator", "and relay".to_owned(), Preset::None)];
        for scientist in &scenario.scientists {
            machines.push(branch(&scientist.host, scientist.user.clone(), scientist.behind));
        }
        for volunteer in &scenario.volunteers {
            let cores = volunteer.cores;
            let role = if cores == 1 { "1 core".to_owned() } else { format!("{cores} cores") };
            machines.push(branch(&volunteer.host, role, volunteer.preset.unwrap_or(Preset::None)));
        }
        Self { title: scenario.title.clone(), machines }
    }
}

fn branch(name: &str, role: String, behind: Preset) -> Branch {
    // A router that translates nothing is one too.
    let chain = behind.chain();
    let classes: Vec<String> = if chain.is_empty() {
        vec!["no NAT".to_owned()]
    } else {
        chain.iter().map(class).collect()
    };
    // Counted from the machine outwards, as the lab names them.
    let router = |(index, class)| Router { name: format!("{name}-r{index}"), class };
    let mut routers: Vec<Router> = classes.into_iter().enumerate().map(router).collect();
    routers.reverse();
    Branch { name: name.to_owned(), role, behind, routers }
}

/// The network that a machine is in, in a word.
fn network(behind: Preset) -> &'static str {
    if behind == Preset::None { "public" } else { behind.name() }
}

/// A translator's class by RFC 4787, abbreviated.
fn class(nat: &NatProfile) -> String {
    let mapping = match nat.mapping {
        Mapping::EndpointIndependent => "EIM",
        Mapping::AddressDependent => "ADM",
        Mapping::AddressAndPortDependent => "APDM",
    };
    let filtering = match nat.filtering {
        Filtering::EndpointIndependent => "EIF",
        Filtering::AddressDependent => "ADF",
        Filtering::AddressAndPortDependent => "APDF",
    };
    format!("{mapping} {filtering}")
}

impl Display for Drawing {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "public network")?;
        for (index, branch) in self.machines.iter().enumerate() {
            let last = index + 1 == self.machines.len();
            write!(f, "{}", if last { "└─ " } else { "├─ " })?;
            for Router { name, class } in &branch.routers {
                write!(f, "{name} [{class}] ─ ")?;
            }
            let Branch { name, role, behind, .. } = branch;
            writeln!(f, "{name} ({role}, {})", network(*behind))?;
        }
        write!(f, "{LEGEND}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netsim_scenario::ScenarioFile;

    pub(super) fn drawing(volunteers: &str) -> Drawing {
        let text = format!("{volunteers}\n[[job]]\ncommand = \"true\"\n");
        let file = ScenarioFile::parse(std::path::Path::new("test.toml"), text).unwrap();
        Drawing::of(&file.resolve(None).unwrap())
    }

    #[test]
    fn the_tree_shows_every_machine_behind_its_routers() {
        let volunteers = "[[volunteers]]\nbehind = \"carrier\"\ncores = 2\n\
                          [[volunteers]]\nbehind = \"symmetric\"";
        let tree = format!("{}", drawing(volunteers));

        let lines: Vec<&str> = tree.lines().collect();
        let wanted = [
            "public network",
            "├─ coordinator-r0 [no NAT] ─ coordinator (and relay, public)",
            "├─ scientist-r0 [EIM APDF] ─ scientist (alice, home)",
            "├─ vol-1-r1 [EIM APDF] ─ vol-1-r0 [EIM APDF] ─ vol-1 (2 cores, carrier)",
            "└─ vol-2-r0 [APDM APDF] ─ vol-2 (1 core, symmetric)",
            LEGEND,
        ];
        assert_eq!(lines, wanted);
    }
}
