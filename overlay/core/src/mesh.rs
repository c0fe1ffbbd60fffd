//! One mesh that this node has joined: which netmaps count, and what they change.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::NodeId;
use crate::netmap::{MAX_MEMBERS, Member, NETMAP_VERSION, Netmap};

/// The most meshes that a node is in at once. Chosen: more jobs than a volunteer's machine has cores.
pub(crate) const MAX_MESHES: usize = 64;

/// See the module.
#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) joined_at: Instant,
    /// Of the last netmap, 0 before the first.
    pub(crate) epoch: u64,
    /// The others.
    peers: BTreeMap<NodeId, Member>,
}

/// Why a netmap is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NetmapRefused {
    /// The epoch is not newer than the last one.
    OldEpoch,
    /// Another version, too many members, or a member or an index twice.
    Malformed,
}

/// What a netmap changes. A member with another key or index is removed and added.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    pub(crate) removed: Vec<NodeId>,
    pub(crate) added: Vec<Member>,
}

impl Mesh {
    pub(crate) fn new(joined_at: Instant) -> Self {
        Self { joined_at, epoch: 0, peers: BTreeMap::new() }
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.peers.keys().copied()
    }

    /// Takes a newer netmap. One without `own` removes everybody.
    pub(crate) fn apply(&mut self, own: NodeId, netmap: Netmap) -> Result<Changes, NetmapRefused> {
        if netmap.epoch <= self.epoch {
            return Err(NetmapRefused::OldEpoch);
        }
        let mut next = check(&netmap).ok_or(NetmapRefused::Malformed)?;
        self.epoch = netmap.epoch;
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
        let changes = Changes {
            removed: removed.map(|member| member.node).collect(),
            added: added.cloned().collect(),
        };
        self.peers = next;
        Ok(changes)
    }
}

/// The members by node, none when the netmap contradicts itself.
fn check(netmap: &Netmap) -> Option<BTreeMap<NodeId, Member>> {
    if netmap.version != NETMAP_VERSION || netmap.members.len() > MAX_MEMBERS {
        return None;
    }
    let members: BTreeMap<_, _> =
        netmap.members.iter().map(|member| (member.node, member.clone())).collect();
    let indices: std::collections::BTreeSet<_> =
        netmap.members.iter().map(|member| member.index).collect();
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
