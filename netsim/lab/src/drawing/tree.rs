//! The topology as a tree from the public network inwards.

use std::collections::BTreeMap;

use netsim_scenario::Resolved;
use netsim_scenario::file::Coordinator;
use netsim_scenario::resolved::Volunteer;
use netsim_sim::topology::{HostSpec, RouterSpec};

use super::words;

/// More of one kind than this are drawn as one. Chosen: what a reader still looks at one by one.
const MOST_IN_PUBLIC: usize = 40;
/// The same for what is behind one router.
const MOST_BEHIND_ROUTER: usize = 6;

/// A router with what is behind it, or a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: String,
    /// What it is.
    pub(super) text: String,
    /// The link outwards; empty if it does nothing to packets.
    pub(super) link: String,
    pub(super) is_router: bool,
    /// The place of the coordinator that it is, or belongs to.
    pub(super) cluster: Option<usize>,
    /// Whether the router is shared: what is behind it is a network with a name.
    pub(super) is_shared: bool,
    pub(super) inside: Vec<Self>,
    /// How many it stands for.
    pub(super) count: usize,
}

/// The parts of a topology by what they are behind.
struct Parts<'a> {
    scenario: &'a Resolved,
    routers: BTreeMap<Option<&'a str>, Vec<&'a RouterSpec>>,
    hosts: BTreeMap<Option<&'a str>, Vec<&'a HostSpec>>,
    volunteers: BTreeMap<&'a str, &'a Volunteer>,
    /// Where each machine comes among all machines.
    ranks: BTreeMap<&'a str, usize>,
}

/// What stands in a part of the public network.
pub(super) fn grow(scenario: &Resolved, is_here: &dyn Fn(Option<&String>) -> bool) -> Vec<Node> {
    let all = &scenario.topology.hosts;
    let mut parts = Parts {
        scenario,
        routers: BTreeMap::new(),
        hosts: BTreeMap::new(),
        volunteers: scenario.volunteers.iter().map(|v| (v.host.as_str(), v)).collect(),
        ranks: all.iter().map(|host| host.name.as_str()).zip(0..).collect(),
    };
    for router in &scenario.topology.routers {
        if router.behind.is_some() || is_here(router.region.as_ref()) {
            parts.routers.entry(router.behind.as_deref()).or_default().push(router);
        }
    }
    for host in &scenario.topology.hosts {
        if host.behind.is_some() || is_here(host.region.as_ref()) {
            parts.hosts.entry(host.behind.as_deref()).or_default().push(host);
        }
    }
    parts.behind(None, MOST_IN_PUBLIC)
}

impl Parts<'_> {
    fn behind(&self, router: Option<&str>, most: usize) -> Vec<Node> {
        let mut nodes: Vec<Node> = Vec::new();
        // A machine's own routers stand where the machine does: in the order of machines.
        for router in self.routers.get(&router).into_iter().flatten() {
            nodes.push(self.router(router));
        }
        for host in self.hosts.get(&router).into_iter().flatten() {
            nodes.push(self.machine(host));
        }
        nodes.sort_by_cached_key(|node| self.rank(node));
        if nodes.len() > most { bundle(nodes) } else { nodes }
    }

    fn router(&self, spec: &RouterSpec) -> Node {
        let inside = self.behind(Some(&spec.name), MOST_BEHIND_ROUTER);
        Node {
            name: spec.name.clone(),
            text: words::router(spec),
            link: words::link(&spec.uplink),
            is_router: true,
            cluster: None,
            is_shared: inside.len() > 1 || inside.iter().any(|node| node.count > 1),
            inside,
            count: 1,
        }
    }

    fn machine(&self, spec: &HostSpec) -> Node {
        let (name, link) = (spec.name.clone(), words::link(&spec.link));
        let mut text = self.role(&name);
        if spec.churn.is_some() {
            text += ", comes and goes";
        }
        let cluster = self.cluster(&name);
        // The first one's go without saying.
        let whose =
            cluster.filter(|place| *place > 0).map(|it| &self.scenario.coordinators[it].name);
        if let Some(whose) = whose.filter(|whose| **whose != name) {
            text += &format!(", of {whose}");
        }
        let (is_router, is_shared, inside, count) = (false, false, Vec::new(), 1);
        Node { name, text, link, is_router, cluster, is_shared, inside, count }
    }

    /// Where its coordinator comes among all coordinators.
    fn cluster(&self, host: &str) -> Option<usize> {
        let scenario = self.scenario;
        let volunteer = self.volunteers.get(host).map(|it| &it.coordinator);
        let scientist = || scenario.scientists.iter().find(|it| it.host == host);
        let relay = || scenario.relays.iter().find(|it| it.host == host);
        let whose = volunteer
            .or_else(|| scientist().map(|it| &it.coordinator))
            .or_else(|| relay().map(|it| &it.coordinator))
            .map_or(host, String::as_str);
        scenario.coordinators.iter().position(|it| it.name == whose)
    }

    fn role(&self, host: &str) -> String {
        let scenario = self.scenario;
        if let Some(volunteer) = self.volunteers.get(host) {
            let cores = volunteer.cores;
            let plural = if cores == 1 { "" } else { "s" };
            return format!("{cores} core{plural}, {}", volunteer.behind);
        }
        match scenario.scientists.iter().find(|scientist| scientist.host == host) {
            Some(scientist) => format!("{}, {}", scientist.user, scientist.behind.name()),
            None if host == Coordinator::NAME => "and relay".to_owned(),
            None if scenario.coordinators.iter().any(|it| it.name == host) => {
                "coordinator and relay".to_owned()
            }
            None if scenario.relays.iter().any(|relay| relay.host == host) => "relay".to_owned(),
            None => "lets HTTPS out".to_owned(),
        }
    }

    /// Where the first machine inside comes among all machines.
    fn rank(&self, node: &Node) -> usize {
        let own = self.ranks.get(node.name.as_str()).copied();
        let inside = node.inside.iter().map(|node| self.rank(node)).min();
        own.or(inside).unwrap_or(usize::MAX)
    }
}

/// One of each kind, in the order of the first ones.
fn bundle(nodes: Vec<Node>) -> Vec<Node> {
    let mut kinds: Vec<Node> = Vec::new();
    for node in nodes {
        match kinds.iter_mut().find(|kind| is_alike(kind, &node)) {
            Some(kind) => kind.count += node.count,
            None => kinds.push(node),
        }
    }
    kinds
}

/// Whether two are the same but for their names.
fn is_alike(a: &Node, b: &Node) -> bool {
    (&a.text, &a.link, a.is_router, a.inside.len())
        == (&b.text, &b.link, b.is_router, b.inside.len())
        && a.inside.iter().zip(&b.inside).all(|(a, b)| a.count == b.count && is_alike(a, b))
}
