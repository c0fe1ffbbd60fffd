//! The relays that run, and which of them a pair of nodes uses.
//!
//! A pair has a channel at the home relay of each of its nodes, so that each can be heard where it is
//! near; and one more, so that there always are two of them where there are two relays: when one ends, the
//! nodes go on over another without asking anybody.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use overlay_core::netmap::MAX_RELAYS;
use overlay_core::{MeasuredRelay, NodeId};
use overlay_relay::RelayKeys;

/// The name of the coordinator's own relay.
pub(super) const OWN_RELAY: NodeId = NodeId([0; 32]);

/// What counts for a relay that a node has not measured: more than any that it has.
const UNKNOWN_US: u64 = 60_000_000;

/// A relay.
pub(in crate::rendezvous) struct RelaySite {
    /// Shared with it alone.
    pub(in crate::rendezvous) keys: RelayKeys,
    /// Its public endpoints, at least one; a node is told one of its own address family.
    pub(in crate::rendezvous) endpoints: Vec<SocketAddr>,
    /// The TCP port at the same addresses where it takes tunnels of its own.
    pub(in crate::rendezvous) tunnel: Option<u16>,
}

/// One node of a pair.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    /// Where the coordinator sees it.
    pub(super) observed: Option<SocketAddr>,
    /// The relays that it has measured, its home relay first.
    pub(super) near: &'a [MeasuredRelay],
}

/// See the module.
pub(super) struct Fleet(BTreeMap<NodeId, RelaySite>);

impl Fleet {
    /// With the coordinator's own relay only.
    pub(super) fn new(own: RelaySite) -> Self {
        Self(BTreeMap::from([(OWN_RELAY, own)]))
    }

    /// A relay is there. False: it is one too many.
    pub(super) fn enter(&mut self, relay: NodeId, site: RelaySite) -> bool {
        let has_place = self.0.len() < MAX_RELAYS || self.0.contains_key(&relay);
        let is_taken = has_place && relay != OWN_RELAY && !site.endpoints.is_empty();
        if is_taken {
            self.0.insert(relay, site);
        }
        is_taken
    }

    /// A relay is gone. Whether it was known.
    pub(super) fn leave(&mut self, relay: NodeId) -> bool {
        relay != OWN_RELAY && self.0.remove(&relay).is_some()
    }

    /// There is more than one.
    pub(super) fn is_plural(&self) -> bool {
        self.0.len() > 1
    }

    pub(super) fn running(&self) -> impl Iterator<Item = NodeId> {
        self.0.keys().copied()
    }

    /// All but the coordinator's own.
    pub(super) fn lone(&self) -> impl Iterator<Item = (NodeId, &RelaySite)> {
        self.0.iter().filter(|(relay, _)| **relay != OWN_RELAY).map(|(relay, site)| (*relay, site))
    }

    /// A relay's keys, and its endpoint for a node that is seen there: one of the family that the node
    /// reached the coordinator by.
    pub(super) fn reach(
        &self,
        relay: NodeId,
        observed: Option<SocketAddr>,
    ) -> Option<(&RelayKeys, SocketAddr)> {
        let site = self.0.get(&relay)?;
        let is_near = |at: &&SocketAddr| observed.is_none_or(|o| o.is_ipv4() == at.is_ipv4());
        // The coordinator's own relay is beside it: better a doubtful endpoint than none. And of a node that
        // came through a tunnel the tunnel's end on this machine is seen.
        let is_tunnelled = observed.is_some_and(|observed| observed.ip().is_loopback());
        let doubtful = site.endpoints.first().filter(|_| relay == OWN_RELAY || is_tunnelled);
        let endpoint = site.endpoints.iter().find(is_near).or(doubtful)?;
        Some((&site.keys, *endpoint))
    }

    /// The coordinator's own relay in the other family of addresses than that endpoint's.
    pub(super) fn own_in_other_family(&self, than: SocketAddr) -> Option<SocketAddr> {
        let own = self.0.get(&OWN_RELAY)?;
        own.endpoints.iter().copied().find(|at| at.is_ipv4() != than.is_ipv4())
    }

    /// Where a relay takes tunnels of its own: beside its endpoints, on that TCP port.
    pub(super) fn tunnel(&self, relay: NodeId) -> Option<u16> {
        self.0.get(&relay)?.tunnel
    }

    /// The relays of a pair: the home relay of each, and the nearest other one.
    pub(super) fn for_pair(&self, lower: Side<'_>, higher: Side<'_>) -> Vec<NodeId> {
        let usable: Vec<NodeId> = self
            .running()
            .filter(|relay| {
                [lower, higher].iter().all(|s| self.reach(*relay, s.observed).is_some())
            })
            .collect();
        let mut chosen: Vec<NodeId> = Vec::new();
        for side in [lower, higher] {
            let near = side.near.iter().map(|measured| measured.relay);
            let home = near.filter(|relay| usable.contains(relay)).take(1);
            chosen.extend(home.filter(|relay| !chosen.contains(relay)).collect::<Vec<_>>());
        }
        let others = usable.iter().filter(|relay| !chosen.contains(relay));
        let other = others.min_by_key(|relay| distance(**relay, lower) + distance(**relay, higher));
        chosen.extend(other.copied());
        if chosen.len() == 1 {
            // Nobody has measured anything yet.
            chosen.extend(usable.iter().find(|relay| !chosen.contains(relay)).copied());
        }
        chosen
    }
}

fn distance(relay: NodeId, side: Side<'_>) -> u64 {
    let known = side.near.iter().find(|measured| measured.relay == relay);
    known.map_or(UNKNOWN_US, |measured| measured.rtt_us.min(UNKNOWN_US))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId([number; 32])
    }

    fn site(endpoints: &[&str]) -> RelaySite {
        let endpoints = endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect();
        RelaySite { keys: RelayKeys::generate(), endpoints, tunnel: None }
    }

    fn fleet(count: u8) -> Fleet {
        let mut fleet = Fleet::new(site(&["192.0.2.1:6444", "[2001:db8::1]:6444"]));
        for number in 1..=count {
            assert!(fleet.enter(node(number), site(&["192.0.2.2:6444"])));
        }
        fleet
    }

    fn near(distances: &[(u8, u64)]) -> Vec<MeasuredRelay> {
        let measured = |(n, rtt_us): &(u8, u64)| MeasuredRelay { relay: node(*n), rtt_us: *rtt_us };
        distances.iter().map(measured).collect()
    }

    fn chosen(fleet: &Fleet, lower: &[(u8, u64)], higher: &[(u8, u64)]) -> Vec<u8> {
        let observed = Some("198.51.100.1:1".parse().unwrap());
        let (lower, higher) = (near(lower), near(higher));
        let side = |near| Side { observed, near };
        fleet.for_pair(side(&lower), side(&higher)).iter().map(|relay| relay.0[0]).collect()
    }

    #[test]
    fn pair_uses_both_homes_and_the_nearest_other() {
        let fleet = fleet(4);
        assert_eq!(chosen(&fleet, &[(1, 5), (3, 9)], &[(2, 5), (3, 9)]), [1, 2, 3]);
        assert_eq!(chosen(&fleet, &[(1, 5), (4, 9)], &[(1, 5), (4, 7)]), [1, 4]);
        assert_eq!(chosen(&fleet, &[(4, 5)], &[]), [4, 0]);
        assert_eq!(chosen(&fleet, &[(9, 5), (2, 7)], &[]), [2, 0], "one that is gone is no home");
    }

    #[test]
    fn there_are_always_two_where_there_are_two() {
        assert_eq!(chosen(&fleet(0), &[], &[]), [0]);
        assert_eq!(chosen(&fleet(1), &[], &[]), [0, 1]);
        assert_eq!(chosen(&fleet(3), &[], &[]).len(), 2);
        assert_eq!(chosen(&fleet(1), &[(1, 5), (0, 9)], &[(1, 5), (0, 9)]), [1, 0]);
    }

    #[test]
    fn both_nodes_must_be_able_to_reach_it() {
        let fleet = fleet(1);
        let ipv4 = Side { observed: Some("198.51.100.1:1".parse().unwrap()), near: &[] };
        let ipv6 = Side { observed: Some("[2001:db8::9]:1".parse().unwrap()), near: &[] };
        assert_eq!(fleet.for_pair(ipv4, ipv6), [OWN_RELAY]);
        assert_eq!(fleet.reach(node(1), ipv6.observed).map(|(_, at)| at), None);
        let at = fleet.reach(OWN_RELAY, ipv6.observed).map(|(_, at)| at);
        assert_eq!(at, Some("[2001:db8::1]:6444".parse().unwrap()));
        let tunnelled = Some("[::1]:40000".parse().unwrap());
        let at = fleet.reach(node(1), tunnelled).map(|(_, at)| at);
        assert_eq!(at, Some("192.0.2.2:6444".parse().unwrap()), "the tunnel's end tells no family");
    }

    #[test]
    fn fleet_is_bounded_and_the_own_relay_stays() {
        let mut fleet = fleet(MAX_RELAYS as u8 - 1);
        assert!(!fleet.enter(node(200), site(&["192.0.2.3:1"])));
        assert!(fleet.enter(node(1), site(&["192.0.2.3:1"])), "it is known");
        assert!(fleet.leave(node(1)) && !fleet.leave(node(1)));
        assert!(!fleet.enter(node(200), site(&[])));
        assert!(!fleet.leave(OWN_RELAY) && !fleet.enter(OWN_RELAY, site(&["192.0.2.3:1"])));
    }
}
