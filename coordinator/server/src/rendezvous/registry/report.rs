//! What is known of a network, for the job's page and for the message when its launch fails.

use overlay_core::control::PairReport;
use overlay_core::{NodeId, Pattern};

use super::mesh::{Mesh, MeshMember};
use super::nodes::Nodes;

/// The most names or pairs in one sentence.
const MAX_NAMED: usize = 5;

/// A network as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct MeshView {
    /// In the order of their ranks.
    pub members: Vec<MemberView>,
    /// When it opened, milliseconds since the Unix epoch.
    pub opened_at_ms: Option<u64>,
    /// Which pairs it waits for before it opens.
    pub pattern: Pattern,
    /// The latest report of each ordered pair that has reported.
    pub pairs: Vec<PairView>,
}

/// A member of a [`MeshView`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberView {
    /// The node.
    pub node: NodeId,
    /// Its OAR host name.
    pub name: String,
    /// Its control connection is up.
    pub connected: bool,
    /// It has asked for the netmap.
    pub joined: bool,
    /// It has left; its reports are final.
    pub left: bool,
}

/// An ordered pair of a [`MeshView`].
#[derive(Clone, Debug, PartialEq)]
pub struct PairView {
    /// The rank of the member that reports.
    pub from: u16,
    /// The rank of its peer.
    pub to: u16,
    /// The report.
    pub report: PairReport,
}

pub(super) fn view(mesh: &Mesh, nodes: &Nodes) -> MeshView {
    let member = |member: &MeshMember| MemberView {
        node: member.node,
        name: member.name.clone(),
        connected: nodes.is_connected(member.node),
        joined: member.keys.is_some(),
        left: member.has_left,
    };
    let pair = |(&(from, to), report): (&(u16, u16), &PairReport)| PairView {
        from,
        to,
        report: report.clone(),
    };
    MeshView {
        members: mesh.members().iter().map(member).collect(),
        opened_at_ms: mesh.opened_at_ms(),
        pattern: mesh.pattern(),
        pairs: mesh.pairs().iter().map(pair).collect(),
    }
}

/// One or two sentences' worth of fragments, separated by semicolons.
pub(super) fn blockers(mesh: &Mesh, nodes: &Nodes) -> String {
    if mesh.opened_at_ms().is_some() {
        return String::new();
    }
    let named = |is_blocker: &dyn Fn(&MeshMember) -> bool| {
        let blockers = mesh.members().iter().filter(|member| is_blocker(member));
        list(blockers.map(|member| member.name.clone()).collect())
    };
    let is_connected = |member: &MeshMember| nodes.is_connected(member.node);
    let mut causes = Vec::new();
    let mut blame = |names: String, what: &str| {
        if !names.is_empty() {
            causes.push(format!("{names} {what}"));
        }
    };
    blame(named(&|m| m.has_left), "left the job's network early");
    blame(named(&|m| !m.has_left && !is_connected(m)), "without a control connection");
    blame(named(&|m| is_connected(m) && m.keys.is_none()), "did not join the job's network");
    if mesh.is_issued() {
        let name = |rank: u16| mesh.members()[usize::from(rank)].name.as_str();
        let pairs = missing(mesh).map(|(a, b)| format!("{} - {}", name(a), name(b)));
        blame(list(pairs.collect()), "without a working path");
    }
    causes.join("; ")
}

/// Members that are away or did not join; failing that, members that reach nobody while others do.
pub(super) fn blocking_nodes(mesh: &Mesh, nodes: &Nodes) -> Vec<NodeId> {
    if mesh.opened_at_ms().is_some() {
        return Vec::new();
    }
    let is_absent = |member: &&MeshMember| {
        member.keys.is_none() || member.has_left || !nodes.is_connected(member.node)
    };
    let absent: Vec<_> = mesh.members().iter().filter(is_absent).map(|m| m.node).collect();
    if !absent.is_empty() {
        return absent;
    }
    let mut missing_of = vec![0; mesh.members().len()];
    for (a, b) in missing(mesh) {
        missing_of[usize::from(a)] += 1;
        missing_of[usize::from(b)] += 1;
    }
    let awaited_of = |rank: u16| ranks(mesh).filter(|other| mesh.awaits(rank, *other)).count();
    let counted = ranks(mesh).zip(mesh.members()).zip(&missing_of);
    let lonely = counted.filter(|((rank, _), missing)| **missing == awaited_of(*rank));
    let lonely: Vec<_> = lonely.map(|((_, member), _)| member.node).collect();
    if lonely.len() < mesh.members().len() { lonely } else { Vec::new() }
}

/// The awaited pairs, lower rank first, that are not established both ways.
fn missing(mesh: &Mesh) -> impl Iterator<Item = (u16, u16)> {
    let works = |pair| mesh.pairs().get(&pair).is_some_and(|report| report.established);
    let pairs = ranks(mesh).flat_map(|a| ranks(mesh).skip(usize::from(a) + 1).map(move |b| (a, b)));
    let awaited = pairs.filter(|(a, b)| mesh.awaits(*a, *b));
    awaited.filter(move |(a, b)| !works((*a, *b)) || !works((*b, *a)))
}

fn ranks(mesh: &Mesh) -> impl Iterator<Item = u16> {
    0..u16::try_from(mesh.members().len()).unwrap_or(u16::MAX)
}

fn list(mut names: Vec<String>) -> String {
    let more = names.len().saturating_sub(MAX_NAMED);
    names.truncate(MAX_NAMED);
    let text = names.join(", ");
    if more > 0 { format!("{text} and {more} more") } else { text }
}
