//! What is known of a peer, and which endpoints that makes worth a trial.
//!
//! An endpoint that cannot work costs both routers entries and tells nobody anything, so:
//!
//! - private addresses only where both nodes may be on one site;
//! - a neighbour's outer address only when the way inside has not worked after a second;
//! - where both NATs use another port for every destination, and choose it at random, nothing of
//!   what the NATs gave: nobody can know where to send;
//! - where a NAT counts its ports on, the next few beside the one that was seen.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::is_translated;
use crate::candidates::OwnCandidates;
use crate::netmap::{
    Activity, Candidate, CandidateKind, MAX_CANDIDATES, NatTraits, NodeCandidates, ObservedMapping,
    ObservedPorts,
};
use crate::trial::Origin;

/// Ports that are guessed of a NAT that counts on. Chosen: other programs on a home network open a few
/// flows in the seconds between the measurement and the ping (EasyTier tries 50).
pub(crate) const MAX_GUESSES: usize = 8;

/// Between the first pings to guessed ports: they must leave in order, or two NATs that count on
/// miss each other.
const GUESS_GAP: Duration = Duration::from_millis(25);

/// The way around through the router waits for the one inside.
const INSIDE_FIRST: Duration = Duration::from_secs(1);

/// What a node does where two meet by chance, see [`crate::chance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// It opens many ports towards that endpoint.
    Opener(SocketAddr),
    /// It looks for them at that address.
    Looker(IpAddr),
}

/// An endpoint to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) endpoint: SocketAddr,
    pub(super) origin: Origin,
    pub(super) delay: Duration,
}

/// What the peer has announced.
#[derive(Debug, Default)]
pub(super) struct Known {
    sequence: Option<u64>,
    mapping: ObservedMapping,
    nat: NatTraits,
    candidates: Vec<Candidate>,
    activity: Activity,
}

impl Known {
    /// Takes what the coordinator passes on. Whether anything of it is new, and is not just the owner's word.
    pub(super) fn take(&mut self, announced: &NodeCandidates) -> bool {
        let few = announced.candidates.iter().take(MAX_CANDIDATES).copied().collect();
        let taken = Self {
            sequence: Some(announced.sequence),
            mapping: announced.mapping,
            nat: announced.nat,
            candidates: few,
            activity: announced.activity,
        };
        let is_same = self.mapping == taken.mapping
            && self.nat == taken.nat
            && self.candidates == taken.candidates
            && (self.sequence == taken.sequence || self.activity != taken.activity);
        *self = taken;
        !is_same
    }

    /// What the peer's owner lets its jobs do.
    pub(super) fn activity(&self) -> Activity {
        self.activity
    }

    pub(super) fn is_announced(&self) -> bool {
        self.sequence.is_some()
    }

    pub(super) fn mapping(&self) -> ObservedMapping {
        self.mapping
    }

    pub(super) fn nat(&self) -> NatTraits {
        self.nat
    }

    pub(super) fn candidates(&self) -> &[Candidate] {
        &self.candidates
    }

    /// How an endpoint was announced, if it was.
    pub(super) fn kind(&self, endpoint: SocketAddr) -> Option<CandidateKind> {
        let is_it = |candidate: &&Candidate| candidate.endpoint == endpoint;
        self.candidates.iter().find(is_it).map(|candidate| candidate.kind)
    }

    /// Where others see the peer. A public host's own address is that, too.
    pub(super) fn seen(&self) -> Vec<SocketAddr> {
        let is_seen = |candidate: &&Candidate| {
            is_translated(candidate.kind) || self.mapping == ObservedMapping::None
        };
        self.candidates.iter().filter(is_seen).map(|candidate| candidate.endpoint).collect()
    }

    /// The endpoints to try, given where this node stands.
    pub(super) fn plan(&self, own: &OwnCandidates) -> Vec<Planned> {
        let seen = self.seen();
        let is_neighbour = own.shares_address(&seen);
        let hopeless = NatTraits::never_meet((own.mapping(), own.nat()), (self.mapping, self.nat));
        let mut planned = Vec::new();
        for Candidate { endpoint, kind } in self.candidates.iter().copied() {
            let is_outer = is_translated(kind) && endpoint.is_ipv4();
            if (is_outer && hopeless) || !own.is_worthwhile(endpoint, &seen) {
                continue;
            }
            let guesses = if is_outer { self.guesses(endpoint) } else { Vec::new() };
            // Two NATs that count on must see the same number of destinations before: see `guesses`.
            let counts_too = matches!(own.nat().ports, ObservedPorts::Sequential(_))
                && own.mapping() == ObservedMapping::EndpointDependent;
            if guesses.is_empty() || !counts_too {
                let delay = if is_outer && is_neighbour { INSIDE_FIRST } else { Duration::ZERO };
                planned.push(Planned { endpoint, origin: Origin::Announced, delay });
            }
            planned.extend(guesses.into_iter().zip(1u32..).map(|(endpoint, number)| Planned {
                endpoint,
                origin: Origin::Guessed,
                delay: GUESS_GAP * number,
            }));
        }
        planned
    }

    /// What this node could do for meeting the peer by chance: one NAT gives random ports, the other always the
    /// same.
    pub(super) fn part(&self, own: &OwnCandidates) -> Option<Part> {
        use ObservedMapping::{EndpointDependent, EndpointIndependent};
        let is_outer = |candidate: &&Candidate| {
            let Candidate { endpoint, kind } = candidate;
            *kind == CandidateKind::Reflexive && endpoint.is_ipv4() && endpoint.port() >= 1024
        };
        let outer = self.candidates.iter().find(is_outer).map(|candidate| candidate.endpoint)?;
        let is_random = |nat: NatTraits| nat.ports == ObservedPorts::Random;
        if own.shares_address(&self.seen()) || !own.is_complete() {
            return None;
        }
        match (own.mapping(), self.mapping) {
            (EndpointDependent, EndpointIndependent) if is_random(own.nat()) => {
                Some(Part::Opener(outer))
            }
            (EndpointIndependent, EndpointDependent) if is_random(self.nat) => {
                Some(Part::Looker(outer.ip()))
            }
            _ => None,
        }
    }

    /// The ports that the peer's NAT probably gives to its next flows, that to this node among them.
    ///
    /// The n-th new destination of a NAT that counts on by d leaves from the seen port + n·d. When both
    /// count on, both try the ports in this order: the n-th ping of each side then meets that of the
    /// other.
    fn guesses(&self, seen: SocketAddr) -> Vec<SocketAddr> {
        let ObservedPorts::Sequential(step) = self.nat.ports else { return Vec::new() };
        if self.mapping != ObservedMapping::EndpointDependent || step == 0 {
            return Vec::new();
        }
        let most = i32::try_from(MAX_GUESSES).unwrap_or(0);
        let ports = (1..=most).map(|number| i32::from(seen.port()) + i32::from(step) * number);
        let ports = ports.filter_map(|port| u16::try_from(port).ok());
        ports.map(|port| SocketAddr::new(seen.ip(), port)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;
    use crate::netmap::ObservedFiltering;

    const RANDOM: NatTraits =
        NatTraits { ports: ObservedPorts::Random, filtering: ObservedFiltering::Unknown };

    fn endpoint(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn own(mapping: ObservedMapping, nat: NatTraits) -> OwnCandidates {
        let mut own = OwnCandidates::new(NodeId([1; 32]));
        own.on_hosts(vec![endpoint("192.168.1.2:4000")]);
        own.on_nat(vec![endpoint("203.0.113.1:4000")], mapping, nat);
        own
    }

    fn peer(mapping: ObservedMapping, nat: NatTraits, outer: &str) -> Known {
        let mut known = Known::default();
        let candidates = vec![
            Candidate { endpoint: endpoint("10.0.0.2:4000"), kind: CandidateKind::Host },
            Candidate { endpoint: endpoint(outer), kind: CandidateKind::Reflexive },
        ];
        let (node, activity) = (NodeId([2; 32]), Activity::Working);
        assert!(known.take(&NodeCandidates {
            node,
            sequence: 1,
            mapping,
            nat,
            candidates,
            activity
        }));
        known
    }

    fn ports(planned: &[Planned]) -> Vec<u16> {
        planned.iter().map(|planned| planned.endpoint.port()).collect()
    }

    #[test]
    fn two_random_nats_are_left_in_peace_unless_one_lets_everybody_in() {
        let hard = ObservedMapping::EndpointDependent;
        let known = peer(hard, RANDOM, "198.51.100.1:5000");
        assert_eq!(known.plan(&own(hard, RANDOM)), []);
        assert_eq!(known.plan(&own(ObservedMapping::EndpointIndependent, RANDOM)).len(), 1);
        let strict = NatTraits { filtering: ObservedFiltering::ByAddressAndPort, ..RANDOM };
        let easy = ObservedMapping::EndpointIndependent;
        assert_eq!(known.plan(&own(easy, strict)), [], "it lets in known ports only");
        assert_eq!(peer(easy, strict, "198.51.100.1:5000").plan(&own(hard, RANDOM)), []);
        let open = NatTraits { filtering: ObservedFiltering::Open, ..RANDOM };
        assert_eq!(peer(hard, open, "198.51.100.1:5000").plan(&own(hard, RANDOM)).len(), 1);
    }

    #[test]
    fn next_ports_of_a_nat_that_counts_on_are_guessed() {
        let hard = ObservedMapping::EndpointDependent;
        let counts = NatTraits { ports: ObservedPorts::Sequential(2), ..NatTraits::default() };
        let known = peer(hard, counts, "198.51.100.1:5000");
        let from_easy =
            known.plan(&own(ObservedMapping::EndpointIndependent, NatTraits::default()));
        assert_eq!(ports(&from_easy), [5000, 5002, 5004, 5006, 5008, 5010, 5012, 5014, 5016]);
        // Where both count on, the seen port is left out: it would put the counts out of step.
        let from_hard = known.plan(&own(hard, counts));
        assert_eq!(ports(&from_hard)[0], 5002);
        let down = NatTraits { ports: ObservedPorts::Sequential(-1), ..NatTraits::default() };
        let low = peer(hard, down, "198.51.100.1:3").guesses(endpoint("198.51.100.1:3"));
        assert_eq!(low.len(), 3, "ports end at 0");
    }

    #[test]
    fn neighbour_is_tried_inside_first() {
        let easy = ObservedMapping::EndpointIndependent;
        let known = peer(easy, NatTraits::default(), "203.0.113.1:5000");
        let planned = known.plan(&own(easy, NatTraits::default()));
        let delays: Vec<_> = planned.iter().map(|planned| planned.delay).collect();
        assert_eq!(delays, [Duration::ZERO, INSIDE_FIRST]);
        let stranger = peer(easy, NatTraits::default(), "198.51.100.1:5000");
        assert_eq!(ports(&stranger.plan(&own(easy, NatTraits::default()))), [5000]);
    }

    #[test]
    fn same_announcement_is_no_news_and_another_sequence_is() {
        let easy = ObservedMapping::EndpointIndependent;
        let mut known = peer(easy, NatTraits::default(), "198.51.100.1:5000");
        let mut again = NodeCandidates {
            node: NodeId([2; 32]),
            sequence: 1,
            mapping: easy,
            nat: NatTraits::default(),
            candidates: known.candidates.clone(),
            activity: Activity::Working,
        };
        assert!(!known.take(&again));
        again = NodeCandidates { sequence: 2, activity: Activity::Paused, ..again };
        assert!(!known.take(&again), "the owner's word is no reason to search");
        assert_eq!(known.activity(), Activity::Paused);
        again.activity = Activity::Working;
        assert!(!known.take(&again));
        again.sequence = 0;
        assert!(known.take(&again), "a coordinator that has started again counts anew");
    }
}
