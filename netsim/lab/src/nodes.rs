//! What a running lab tells about its nodes, in a file of its run directory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::netns::Netns;
use crate::program::Place;
use crate::topology::Machine;
use crate::world::{Volunteer, World};

/// Where the agent's commands look for its directory.
const AGENT_STATE: &str = "AGENT_STATE";

/// The file's name.
const NAME: &str = "nodes.json";

/// The nodes of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nodes {
    /// The lab's process, by its number in the lab's process namespace.
    pub lab: u32,
    /// Machines and their routers.
    pub nodes: Vec<Node>,
}

/// A machine or a router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// The lab's descriptor of its network namespace.
    pub netns: i32,
    /// Its directory.
    pub dir: PathBuf,
    /// What its programs' environment has beside the usual.
    pub env: Vec<(String, String)>,
}

impl Nodes {
    /// The nodes of this process's world.
    pub fn of(world: &World) -> Self {
        let mut nodes = Vec::new();
        let servers = world.servers.iter().map(|it| (&it.machine, &it.place, None));
        let scientists = world.scientists().iter().map(|s| (&s.machine, &s.place, None));
        // What the agent's own commands look for, as `agent status`.
        let state = |v: &Volunteer| (AGENT_STATE.to_owned(), v.state_dir().display().to_string());
        let volunteers = world.volunteers.iter().map(|v| (&v.machine, &v.place, Some(state(v))));
        let relays = world.relays().map(|relay| (&relay.machine, &relay.place, None));
        let proxies = world.proxies().map(|proxy| (&proxy.machine, &proxy.place, None));
        for (machine, place, more) in
            servers.chain(scientists).chain(relays).chain(proxies).chain(volunteers)
        {
            let env = env(place).into_iter().chain(more).collect();
            nodes.push(Node { env, ..node(&machine.name, &machine.netns, &place.dir) });
            nodes.extend(routers(machine, &world.dir));
        }
        // Machines of one network share its router.
        let mut known = BTreeSet::new();
        nodes.retain(|node| known.insert(node.name.clone()));
        Self { lab: std::process::id(), nodes }
    }

    /// Writes the file; readers see all of it or none.
    pub fn publish(&self, dir: &Path) -> io::Result<()> {
        let unfinished = dir.join(format!("{NAME}.new"));
        let options = File::options().write(true).create(true).truncate(true).mode(0o600).clone();
        serde_json::to_writer(options.open(&unfinished)?, self)?;
        fs::rename(unfinished, dir.join(NAME))
    }

    /// Reads the file.
    pub fn read(dir: &Path) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(dir.join(NAME))?)?)
    }
}

fn node(name: &str, netns: &Netns, dir: &Path) -> Node {
    let (name, dir) = (name.to_owned(), dir.to_owned());
    Node { name, netns: netns.descriptor(), dir, env: Vec::new() }
}

fn routers(machine: &Machine, dir: &Path) -> impl Iterator<Item = Node> {
    machine.routers.iter().map(move |router| node(&router.name, &router.netns, dir))
}

fn env(place: &Place) -> Vec<(String, String)> {
    let text = |text: &std::ffi::OsString| text.to_string_lossy().into_owned();
    place.env.iter().map(|(name, value)| (text(name), text(value))).collect()
}
