//! A scenario's network as a drawing: a tree of text, or an SVG picture.
//!
//! What is drawn is the topology that a run builds, with its regions, routers, networks and links, and
//! what happens to them. Where there are many machines of one kind, one stands for all.

use std::fmt::{self, Display, Formatter};

use netsim_scenario::Resolved;

mod svg;
mod tree;
mod words;

use tree::Node;

pub use svg::Svg;

/// What the words of routers and lines mean.
const LEGEND: [&str; 3] = [
    "routers, by the axes of RFC 4787: EIM, ADM, APDM: endpoint-independent, address-dependent, \
     address-and-port-dependent mapping; EIF, ADF, APDF: filtering likewise;",
    "sequential, random: how outer ports are chosen (otherwise the inner port is kept); udp-blocked, \
     web-only, proxy-only: what the firewall lets out",
    "lines: a preset's name, or rate (down / up), delay one way, loss; \u{d7} N: one that stands for N",
];

/// The network of a scenario. It displays as a tree; see [`Svg`] for the other kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawing {
    title: String,
    /// How many there are.
    coordinators: usize,
    /// The parts of the public network, each with what stands in it.
    regions: Vec<Region>,
    /// What lies between them.
    ways: Vec<String>,
    /// What happens.
    events: Vec<Happening>,
}

/// A part of the public network.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Region {
    /// None: the public network is one.
    name: Option<String>,
    nodes: Vec<Node>,
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Happening {
    when: String,
    what: String,
    /// The machine or router that it happens to.
    node: Option<String>,
}

impl Drawing {
    /// The network that a run of `scenario` makes.
    pub fn of(scenario: &Resolved) -> Self {
        let topology = &scenario.topology;
        let first = topology.regions.first();
        let names: Vec<Option<&String>> =
            if first.is_none() { vec![None] } else { topology.regions.iter().map(Some).collect() };
        let region = |name: Option<&String>| {
            let is_here = |region: Option<&String>| region.or(first) == name;
            Region { name: name.cloned(), nodes: tree::grow(scenario, &is_here) }
        };
        let happening = |entry: &netsim_scenario::resolved::Happening| Happening {
            when: words::when(&entry.when),
            what: words::what(&entry.what),
            node: words::node(&entry.what).map(str::to_owned),
        };
        Self {
            title: scenario.title.clone(),
            coordinators: scenario.coordinators.len(),
            regions: names.into_iter().map(region).collect(),
            ways: topology.ways.iter().map(words::way).collect(),
            events: scenario.timeline.iter().map(happening).collect(),
        }
    }
}

impl Region {
    fn title(&self) -> String {
        match &self.name {
            None => "public network".to_owned(),
            Some(name) => format!("public network: {name}"),
        }
    }
}

impl Display for Drawing {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for region in &self.regions {
            writeln!(f, "{}", region.title())?;
            write_nodes(f, &region.nodes, "")?;
        }
        for way in &self.ways {
            writeln!(f, "{way}")?;
        }
        for Happening { when, what, .. } in &self.events {
            writeln!(f, "{when}: {what}")?;
        }
        write!(f, "{}", LEGEND.join("\n"))
    }
}

fn write_nodes(f: &mut Formatter<'_>, nodes: &[Node], indent: &str) -> fmt::Result {
    for (index, node) in nodes.iter().enumerate() {
        let last = index + 1 == nodes.len();
        write!(f, "{indent}{}", if last { "└─ " } else { "├─ " })?;
        // A row of single things stays on its line.
        let mut node = node;
        loop {
            write!(f, "{node}")?;
            match node.inside.as_slice() {
                [only] => {
                    write!(f, " ─ ")?;
                    node = only;
                }
                several => {
                    writeln!(f)?;
                    let indent = format!("{indent}{}", if last { "   " } else { "│  " });
                    write_nodes(f, several, &indent)?;
                    break;
                }
            }
        }
    }
    Ok(())
}

impl Display for Node {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.link.is_empty() {
            write!(f, "‹{}› ", self.link)?;
        }
        let (open, close) = if self.is_router { ('[', ']') } else { ('(', ')') };
        write!(f, "{} {open}{}{close}", self.name, self.text)?;
        if self.count > 1 {
            write!(f, " × {}", self.count)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use netsim_scenario::ScenarioFile;

    use super::*;

    pub(super) fn drawing(volunteers: &str) -> Drawing {
        let text = format!("{volunteers}\n[[job]]\ncommand = \"true\"\n");
        let file = ScenarioFile::parse(std::path::Path::new("test.toml"), text).unwrap();
        Drawing::of(&file.resolve(None).unwrap())
    }

    #[test]
    fn the_tree_shows_every_machine_behind_its_routers() {
        let volunteers = "[[volunteers]]\nbehind = \"carrier\"\ncores = 2\nlink = \"adsl\"\n\
                          [[volunteers]]\nbehind = \"symmetric\"";
        let tree = format!("{}", drawing(volunteers));

        let lines: Vec<&str> = tree.lines().collect();
        let wanted = [
            "public network",
            "├─ coordinator-r0 [no NAT, IPv6] ─ coordinator (and relay)",
            "├─ scientist-r0 [EIM APDF] ─ scientist (alice, home)",
            "├─ vol-1-r1 [EIM APDF] ─ ‹adsl› vol-1-r0 [EIM APDF] ─ vol-1 (2 cores, carrier)",
            "└─ vol-2-r0 [APDM APDF random] ─ vol-2 (1 core, symmetric)",
            LEGEND[0],
            LEGEND[1],
            LEGEND[2],
        ];
        assert_eq!(lines, wanted);
    }

    #[test]
    fn regions_networks_links_and_events_are_shown() {
        let tree = drawing(
            "[[regions]]\nname = \"europe\"\n[[regions]]\nname = \"asia\"\n\
             [[ways]]\nbetween = [\"europe\", \"asia\"]\ndelay = \"90ms\"\nloss = \"1%\"\n\
             [[routers]]\nname = \"lab\"\nregion = \"asia\"\nuplink = \"fibre\"\nfirewall = \"udp-blocked\"\n\
             [[volunteers]]\nrouter = \"lab\"\ncount = 2\nlink = \"lan\"\n\
             [[event]]\nat = \"20s\"\ndo = \"nat-reboot\"\nrouter = \"lab\"\n\
             [[event]]\nwhen = { job = \"job-1\", state = \"running\" }\ndo = \"kill\"\nnode = \"vol-1\"",
        )
        .to_string();

        let lines: Vec<&str> = tree.lines().collect();
        let wanted = [
            "public network: europe",
            "├─ coordinator-r0 [no NAT, IPv6] ─ coordinator (and relay)",
            "└─ scientist-r0 [EIM APDF] ─ scientist (alice, home)",
            "public network: asia",
            "└─ ‹fibre› lab [EIM APDF, udp-blocked]",
            "   ├─ ‹lan› vol-1 (1 core, lab)",
            "   └─ ‹lan› vol-2 (1 core, lab)",
            "europe – asia: 90 ms, 1% loss",
            "20s: nat-reboot lab",
            "when job-1 is running: kill vol-1",
            LEGEND[0],
            LEGEND[1],
            LEGEND[2],
        ];
        assert_eq!(lines, wanted);
    }

    #[test]
    fn it_is_shown_whose_everything_is() {
        let drawing = drawing(
            "[[coordinators]]\nname = \"north\"\n[[volunteers]]\nbehind = \"none\"\n\
             [[volunteers]]\nbehind = \"none\"\ncoordinator = \"north\"\n\
             [[relays]]\ncoordinator = \"north\"\n\
             [[event]]\nat = \"5s\"\ndo = \"coordinator-kill\"\ncoordinator = \"north\"",
        );
        let tree = drawing.to_string();

        let lines: Vec<&str> = tree.lines().collect();
        let wanted = [
            "public network",
            "├─ coordinator-r0 [no NAT, IPv6] ─ coordinator (and relay)",
            "├─ north-r0 [no NAT, IPv6] ─ north (coordinator and relay)",
            "├─ relay-1-r0 [no NAT] ─ relay-1 (relay, of north)",
            "├─ scientist-r0 [EIM APDF] ─ scientist (alice, home)",
            "├─ scientist-2-r0 [EIM APDF] ─ scientist-2 (alice, home, of north)",
            "├─ vol-1-r0 [no NAT] ─ vol-1 (1 core, none)",
            "└─ vol-2-r0 [no NAT] ─ vol-2 (1 core, none, of north)",
            "5s: coordinator-kill north",
        ];
        assert_eq!(lines[..wanted.len()], wanted);
        let picture = Svg(&drawing).to_string();
        let [own, other] = ["vol-1", "vol-2"].map(|name| {
            let before = picture.split(&format!(">{name}<")).next().unwrap();
            let fill = before.rsplit("fill=\"").find(|part| part.starts_with('#')).unwrap();
            fill[..7].to_owned()
        });
        assert_ne!(own, other, "both clusters have one colour");
    }

    #[test]
    fn one_stands_for_many_of_its_kind() {
        let tree = drawing("[[volunteers]]\ncount = 1000\nmix = { home = 3, symmetric = 1 }");
        let tree = tree.to_string();

        assert!(tree.lines().count() < 12, "{tree}");
        assert!(tree.contains(" × 750 ") && tree.contains(" × 250 "), "{tree}");
    }
}
