//! One mesh that this node has joined: which netmaps count, and what they change.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::NodeId;
use crate::netmap::{MAX_MEMBERS, Member, NETMAP_VERSION, Netmap};
use crate::pattern::Pattern;

/// The most meshes that a node is in at once. Chosen: more jobs than a volunteer's machine has cores.
pub(crate) const MAX_MESHES: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) joined_at: Instant,
    era: u64,
    /// Of the last netmap, 0 before the first.
    pub(crate) epoch: u64,
    /// The others.
    peers: BTreeMap<NodeId, Member>,
    /// Those of them that are expected to talk with this node.
    expected: BTreeSet<NodeId>,
}

/// Why a netmap is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NetmapRefused {
    /// Era and epoch are not newer than the last ones.
    OldEpoch,
    /// Another version, too many members, or a member or an index twice.
    Malformed,
}

/// What a netmap changes. A member with another key or index is removed and added.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) removed: Vec<NodeId>,
    pub(crate) added: Vec<Member>,
    /// Of those that stay or are added: they are expected to talk with this node and were not before.
    pub(crate) expected: Vec<NodeId>,
}

impl Mesh {
    pub(crate) fn new(joined_at: Instant) -> Self {
        Self { joined_at, era: 0, epoch: 0, peers: BTreeMap::new(), expected: BTreeSet::new() }
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.peers.keys().copied()
    }

    /// That netmap again: whoever connects anew to the coordinator is told everything.
    pub(crate) fn has(&self, netmap: &Netmap) -> bool {
        (netmap.era, netmap.epoch) == (self.era, self.epoch)
    }

    /// Takes a newer netmap. One without `own` removes everybody.
    pub(crate) fn apply(&mut self, own: NodeId, netmap: Netmap) -> Result<Changes, NetmapRefused> {
        if (netmap.era, netmap.epoch) <= (self.era, self.epoch) {
            return Err(NetmapRefused::OldEpoch);
        }
        let mut next = check(&netmap).ok_or(NetmapRefused::Malformed)?;
        let expected = expected(own, &netmap);
        (self.era, self.epoch) = (netmap.era, netmap.epoch);
        if next.remove(&own).is_none() {
            next.clear();
        }
        let stays = |member: &Member, other: Option<&Member>| {
            other.is_some_and(|other| {
                member.wireguard_key == other.wireguard_key && member.index == other.index
            })
        };
        let removed = self.peers.values().filter(|old| !stays(old, next.get(&old.node)));
        let added = next.values().filter(|new| !stays(new, self.peers.get(&new.node)));
        let added: Vec<Member> = added.cloned().collect();
        let is_new = |node: &&NodeId| {
            !self.expected.contains(node) || added.iter().any(|member| member.node == **node)
        };
        let changes = Changes {
            removed: removed.map(|member| member.node).collect(),
            expected: expected.iter().filter(is_new).copied().collect(),
            added,
        };
        self.peers = next;
        self.expected = expected;
        Ok(changes)
    }
}

/// Those who are expected to talk with `own`. Ranks are places in the order of the indices.
fn expected(own: NodeId, netmap: &Netmap) -> BTreeSet<NodeId> {
    let pattern = netmap.pattern.unwrap_or(Pattern::All);
    let mut members: Vec<_> = netmap.members.iter().map(|m| (m.index, m.node)).collect();
    members.sort_unstable();
    let size = members.len();
    let Some(rank) = members.iter().position(|(_, node)| *node == own) else {
        return BTreeSet::new();
    };
    let joined = |(other, _): &(usize, &(u16, NodeId))| pattern.joins(rank, *other, size);
    members.iter().enumerate().filter(joined).map(|(_, (_, node))| *node).collect()
}

/// The members by node, none when the netmap contradicts itself.
fn check(netmap: &Netmap) -> Option<BTreeMap<NodeId, Member>> {
    if netmap.version != NETMAP_VERSION || netmap.members.len() > MAX_MEMBERS {
        return None;
    }
    let members: BTreeMap<_, _> =
        netmap.members.iter().map(|member| (member.node, member.clone())).collect();
    let indices: BTreeSet<_> = netmap.members.iter().map(|member| member.index).collect();
    let all_differ = members.len() == netmap.members.len() && indices.len() == members.len();
    all_differ.then_some(members)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{MeshId, WireGuardKey};

    const OWN: NodeId = NodeId([1; 32]);

    fn member(number: u8, key: u8) -> Member {
        Member {
            index: number.into(),
            node: NodeId([number; 32]),
            name: format!("vol-{number}"),
            wireguard_key: WireGuardKey([key; 32]),
            host_key: None,
        }
    }

    fn netmap(epoch: u64, members: Vec<Member>) -> Netmap {
        let mesh = MeshId { job: 1, generation: 1 };
        Netmap {
            version: NETMAP_VERSION,
            mesh,
            era: 0,
            epoch,
            members,
            pattern: None,
            signature: None,
        }
    }

    #[test]
    fn changes_are_those_between_the_netmaps() {
        let mut mesh = Mesh::new(Instant::now());
        let first = netmap(1, vec![member(1, 1), member(2, 2), member(3, 3)]);
        let changes = mesh.apply(OWN, first).unwrap();
        assert_eq!(changes.added, [member(2, 2), member(3, 3)]);
        let second = netmap(2, vec![member(1, 1), member(2, 9)]);
        let changes = mesh.apply(OWN, second).unwrap();
        assert_eq!(changes.removed, [NodeId([2; 32]), NodeId([3; 32])]);
        assert_eq!(changes.added, [member(2, 9)]);
        let without_us = netmap(3, vec![member(2, 9)]);
        let changes = mesh.apply(OWN, without_us).unwrap();
        assert_eq!((changes.removed, changes.added), (vec![NodeId([2; 32])], vec![]));
    }

    #[test]
    fn pattern_names_whom_to_connect_and_a_departure_closes_the_ring() {
        let mut mesh = Mesh::new(Instant::now());
        let ring =
            |epoch, members| Netmap { pattern: Some(Pattern::Ring), ..netmap(epoch, members) };
        let members: Vec<_> = (1..=5).map(|number| member(number, number)).collect();
        let changes = mesh.apply(OWN, ring(1, members.clone())).unwrap();
        assert_eq!(changes.added.len(), 4);
        assert_eq!(changes.expected, [NodeId([2; 32]), NodeId([5; 32])]);
        let changes = mesh.apply(OWN, ring(2, members[..4].to_vec())).unwrap();
        assert_eq!(changes.removed, [NodeId([5; 32])]);
        assert_eq!(changes.expected, [NodeId([4; 32])]);
    }

    #[test]
    fn new_era_counts_from_one_and_the_old_one_is_over() {
        let mut mesh = Mesh::new(Instant::now());
        let of = |era, epoch| Netmap { era, ..netmap(epoch, vec![member(1, 1), member(2, 2)]) };
        mesh.apply(OWN, of(0, 7)).unwrap();
        mesh.apply(OWN, of(3, 1)).unwrap();
        assert_eq!(mesh.apply(OWN, of(0, 8)), Err(NetmapRefused::OldEpoch));
        assert_eq!(mesh.apply(OWN, of(3, 1)), Err(NetmapRefused::OldEpoch));
        mesh.apply(OWN, of(3, 2)).unwrap();
    }

    #[test]
    fn old_and_contradictory_netmaps_are_refused() {
        let mut mesh = Mesh::new(Instant::now());
        mesh.apply(OWN, netmap(5, vec![member(1, 1), member(2, 2)])).unwrap();
        for epoch in [0, 4, 5] {
            assert_eq!(mesh.apply(OWN, netmap(epoch, vec![])), Err(NetmapRefused::OldEpoch));
        }
        let twice = netmap(6, vec![member(1, 1), member(2, 2), member(2, 3)]);
        assert_eq!(mesh.apply(OWN, twice), Err(NetmapRefused::Malformed));
        let mut same_index = netmap(6, vec![member(1, 1), member(2, 2)]);
        same_index.members[1].index = 1;
        assert_eq!(mesh.apply(OWN, same_index), Err(NetmapRefused::Malformed));
        let other_version = Netmap { version: 2, ..netmap(6, vec![]) };
        assert_eq!(mesh.apply(OWN, other_version), Err(NetmapRefused::Malformed));
    }
}
