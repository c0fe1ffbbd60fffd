//! This node's own candidates, and which endpoints are worth a probe at all.

use std::net::{IpAddr, SocketAddr};

use crate::NodeId;
use crate::netmap::{
    Candidate, CandidateKind, MAX_CANDIDATES, NatTraits, NodeCandidates, ObservedMapping,
};

/// Ports below this are never probed: services and their gateways live there (a probe to port 162
/// once tripped a router's SNMP helper), overlay sockets do not.
const LOWEST_PORT: u16 = 1024;

/// Where this node may be reached, as far as it knows.
///
/// The reflexive endpoint is what the coordinator saw; a second reflector on another port tells
/// whether the mapping depends on the destination. When a later answer of the second reflector
/// differs and the mapping did not depend on the destination, the node's address has changed.
#[derive(Debug)]
pub(crate) struct OwnCandidates {
    id: NodeId,
    hosts: Vec<SocketAddr>,
    reflexive: Option<SocketAddr>,
    second: Option<SocketAddr>,
    announced: Option<NodeCandidates>,
}

impl OwnCandidates {
    pub(crate) fn new(id: NodeId) -> Self {
        Self { id, hosts: Vec::new(), reflexive: None, second: None, announced: None }
    }

    /// The machine's own addresses; those that nobody else could use are left out.
    pub(crate) fn on_hosts(&mut self, hosts: Vec<SocketAddr>) {
        self.hosts.clear();
        for host in hosts {
            if self.hosts.len() + 1 < MAX_CANDIDATES
                && is_usable(host)
                && !self.hosts.contains(&host)
            {
                self.hosts.push(host);
            }
        }
    }

    /// The coordinator saw this node there. What the other reflector said is of the past.
    pub(crate) fn on_reflexive(&mut self, observed: SocketAddr) {
        if self.reflexive != Some(observed) {
            self.reflexive = Some(observed);
            self.second = None;
        }
    }

    /// The second reflector saw this node there.
    pub(crate) fn on_second_reflection(&mut self, observed: SocketAddr) {
        let moved = self.second.is_some_and(|before| before != observed);
        if moved && self.second == self.reflexive {
            self.reflexive = Some(observed);
        }
        self.second = Some(observed);
    }

    /// The coordinator has said where it sees this node.
    pub(crate) fn is_complete(&self) -> bool {
        self.reflexive.is_some()
    }

    /// What is known of the mapping behaviour.
    pub(crate) fn mapping(&self) -> ObservedMapping {
        match (self.reflexive, self.second) {
            (Some(reflexive), _) if self.hosts.contains(&reflexive) => ObservedMapping::None,
            (Some(reflexive), Some(second)) if reflexive == second => {
                ObservedMapping::EndpointIndependent
            }
            (Some(_), Some(_)) => ObservedMapping::EndpointDependent,
            (Some(_), None) | (None, _) => ObservedMapping::Unknown,
        }
    }

    /// What was announced last.
    pub(crate) fn announced(&self) -> Option<&NodeCandidates> {
        self.announced.as_ref()
    }

    /// The candidates to announce, none when nothing has changed since.
    pub(crate) fn take_announcement(&mut self) -> Option<NodeCandidates> {
        let hosts = self.hosts.iter().map(|endpoint| (*endpoint, CandidateKind::Host));
        // A reflexive endpoint that depends on the destination is announced all the same: a peer
        // that filters by address must send to that address to let this node's packets in.
        let reflexive = self
            .reflexive
            .filter(|endpoint| is_usable(*endpoint) && !self.hosts.contains(endpoint))
            .map(|endpoint| (endpoint, CandidateKind::Reflexive));
        let candidates: Vec<Candidate> =
            hosts.chain(reflexive).map(|(endpoint, kind)| Candidate { endpoint, kind }).collect();
        let mapping = self.mapping();
        let sequence = match &self.announced {
            Some(last) if last.candidates == candidates && last.mapping == mapping => return None,
            Some(last) => last.sequence + 1,
            None if candidates.is_empty() => return None,
            None => 1,
        };
        let announcement = NodeCandidates {
            node: self.id,
            sequence,
            mapping,
            nat: NatTraits::default(),
            candidates,
        };
        self.announced = Some(announcement.clone());
        Some(announcement)
    }

    /// Whether a peer's endpoint is worth a probe from here.
    ///
    /// Not this node itself (homes use the same private addresses), not a family that this machine
    /// does not have, and the loopback only where this node's own candidates are there.
    pub(crate) fn may_reach(&self, endpoint: SocketAddr) -> bool {
        let same_family = self.hosts.is_empty()
            || self.hosts.iter().any(|host| host.is_ipv4() == endpoint.is_ipv4());
        let loopback_ok =
            !endpoint.ip().is_loopback() || self.hosts.iter().any(|host| host.ip().is_loopback());
        is_usable(endpoint) && same_family && loopback_ok && !self.hosts.contains(&endpoint)
    }
}

fn is_usable(endpoint: SocketAddr) -> bool {
    let ip = endpoint.ip();
    let link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        // Without its interface a link-local address means nothing to others.
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    endpoint.port() >= LOWEST_PORT && !ip.is_unspecified() && !ip.is_multicast() && !link_local
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn behind_a_nat() -> OwnCandidates {
        let mut own = OwnCandidates::new(NodeId([1; 32]));
        own.on_hosts(vec![endpoint("192.168.1.2:4000")]);
        own.on_reflexive(endpoint("203.0.113.1:4000"));
        own
    }

    #[test]
    fn mapping_is_what_the_second_reflector_makes_of_it() {
        let mut own = behind_a_nat();
        assert_eq!(own.mapping(), ObservedMapping::Unknown);
        own.on_second_reflection(endpoint("203.0.113.1:4000"));
        assert_eq!(own.mapping(), ObservedMapping::EndpointIndependent);

        let mut own = behind_a_nat();
        own.on_second_reflection(endpoint("203.0.113.1:5000"));
        assert_eq!(own.mapping(), ObservedMapping::EndpointDependent);

        let mut own = behind_a_nat();
        own.on_reflexive(endpoint("192.168.1.2:4000"));
        assert_eq!(own.mapping(), ObservedMapping::None);
    }

    #[test]
    fn address_that_moves_is_announced_with_the_next_sequence() {
        let mut own = behind_a_nat();
        own.on_second_reflection(endpoint("203.0.113.1:4000"));
        assert_eq!(own.take_announcement().unwrap().sequence, 1);
        assert_eq!(own.take_announcement(), None);
        own.on_second_reflection(endpoint("203.0.113.9:4000"));
        let moved = own.take_announcement().unwrap();
        assert_eq!(moved.sequence, 2);
        assert_eq!(moved.candidates[1].endpoint, endpoint("203.0.113.9:4000"));
        assert_eq!(moved.mapping, ObservedMapping::EndpointIndependent);
    }

    #[test]
    fn announces_few_and_usable_endpoints() {
        let mut own = OwnCandidates::new(NodeId([1; 32]));
        let mut hosts: Vec<_> =
            (1..=20).map(|host| SocketAddr::from(([10, 0, 0, host], 4000))).collect();
        hosts.insert(0, endpoint("169.254.0.1:4000"));
        hosts.insert(0, endpoint("[fe80::1]:4000"));
        own.on_hosts(hosts);
        own.on_reflexive(endpoint("203.0.113.1:4000"));
        let announced = own.take_announcement().unwrap().candidates;
        assert_eq!(announced.len(), MAX_CANDIDATES);
        assert_eq!(announced[0].endpoint, endpoint("10.0.0.1:4000"));
        assert_eq!(announced[MAX_CANDIDATES - 1].kind, CandidateKind::Reflexive);
    }

    #[test]
    fn some_endpoints_are_not_worth_a_probe() {
        let own = behind_a_nat();
        for good in ["203.0.113.7:4000", "10.0.0.1:1024"] {
            assert!(own.may_reach(endpoint(good)), "{good}");
        }
        let bad = [
            "192.168.1.2:4000",
            "127.0.0.1:4000",
            "0.0.0.0:4000",
            "224.0.0.1:4000",
            "255.255.255.255:4000",
            "10.0.0.1:161",
            "[2001:db8::1]:4000",
        ];
        for bad in bad {
            assert!(!own.may_reach(endpoint(bad)), "{bad}");
        }
    }
}
