//! One sentence that says why a pair is relayed.

use crate::netmap::{NatTraits, ObservedFiltering, ObservedMapping, ObservedPorts};

/// What is known about the search for a direct path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence {
    pub(crate) own_mapping: ObservedMapping,
    pub(crate) own_nat: NatTraits,
    pub(crate) peer_mapping: ObservedMapping,
    pub(crate) peer_nat: NatTraits,
    /// The coordinator has said where it sees this node.
    pub(crate) own_known: bool,
    /// The peer's candidates have come.
    pub(crate) peer_known: bool,
    /// The search has ended for now.
    pub(crate) settled: bool,
    /// The pair has no data.
    pub(crate) resting: bool,
    /// A direct path was in use and fell silent.
    pub(crate) fell_silent: bool,
    /// Endpoints of the peer that were pinged, and with how many pings.
    pub(crate) endpoints: usize,
    pub(crate) pings: u32,
    /// Endpoints that answered small pings but none of full size.
    pub(crate) small_only: usize,
}

/// The sentence.
pub(crate) fn explain(evidence: &Evidence) -> String {
    use ObservedMapping::EndpointDependent;
    let Evidence { endpoints, pings, small_only, .. } = *evidence;
    if evidence.own_nat.filtering == ObservedFiltering::Nobody {
        return "UDP between this node and its relays does not get through, so that it cannot know its own endpoint"
            .into();
    }
    if !evidence.own_known {
        return "this node does not know its own endpoint yet".into();
    }
    if !evidence.peer_known {
        return "the peer has announced no endpoints yet".into();
    }
    if evidence.peer_nat.filtering == ObservedFiltering::Nobody {
        return "UDP between the peer and its relays does not get through, so that it cannot know its own endpoint".into();
    }
    let own = (evidence.own_mapping, evidence.own_nat);
    let peer = (evidence.peer_mapping, evidence.peer_nat);
    if is_random(own) && is_random(peer) {
        return "both NATs give a new random port per destination; a port mapping on either router \
                would make it direct"
            .into();
    }
    if NatTraits::never_meet(own, peer) {
        let (hard, strict) = if is_random(own) {
            ("this node's NAT", "the peer's")
        } else {
            ("the peer's NAT", "this node's")
        };
        return format!(
            "{hard} gives a new random port per destination and {strict} lets in known ports only; a port \
             mapping on either router would make it direct"
        );
    }
    if evidence.resting {
        return "idle, so that the relay holds the pair; its next data looks for a direct path"
            .into();
    }
    if evidence.fell_silent {
        return "the direct path fell silent; it is tried again from time to time".into();
    }
    if evidence.settled && endpoints == 0 {
        return "none of the peer's endpoints can be reached from this node's network".into();
    }
    if evidence.settled && small_only > 0 {
        return format!(
            "{small_only} of {endpoints} endpoints answered, but packets of full size do not pass"
        );
    }
    let silence = match (evidence.settled, pings) {
        (true, _) => {
            format!("no answer from {} after {pings} probes", counted(endpoints, "endpoint"))
        }
        (false, 0) => "the search for a direct path begins".into(),
        (false, _) => format!("the search for a direct path goes on ({pings} probes so far)"),
    };
    match (evidence.own_mapping, evidence.peer_mapping) {
        (EndpointDependent, EndpointDependent) => format!(
            "both NATs use another port for every destination, so neither side can know where to \
             send (a port mapping on either router would help); {silence}"
        ),
        (EndpointDependent, _) => format!(
            "this node's NAT uses another port for every destination and the peer's NAT or \
             firewall lets in known ports only (a port mapping on either router would help); \
             {silence}"
        ),
        (_, EndpointDependent) => format!(
            "the peer's NAT uses another port for every destination and this node's NAT or \
             firewall lets in known ports only (a port mapping on either router would help); \
             {silence}"
        ),
        (
            ObservedMapping::Unknown | ObservedMapping::None | ObservedMapping::EndpointIndependent,
            ObservedMapping::Unknown | ObservedMapping::None | ObservedMapping::EndpointIndependent,
        ) if evidence.settled => {
            format!("{silence}: a firewall between the two sides may stop UDP")
        }
        (
            ObservedMapping::Unknown | ObservedMapping::None | ObservedMapping::EndpointIndependent,
            ObservedMapping::Unknown | ObservedMapping::None | ObservedMapping::EndpointIndependent,
        ) => silence,
    }
}

fn is_random((mapping, nat): (ObservedMapping, NatTraits)) -> bool {
    mapping == ObservedMapping::EndpointDependent && nat.ports == ObservedPorts::Random
}

fn counted(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN: NatTraits =
        NatTraits { ports: ObservedPorts::Unknown, filtering: ObservedFiltering::Unknown };

    const BLOCKED: NatTraits = NatTraits { filtering: ObservedFiltering::Nobody, ..UNKNOWN };

    const SEARCHED: Evidence = Evidence {
        own_mapping: ObservedMapping::EndpointIndependent,
        own_nat: UNKNOWN,
        peer_mapping: ObservedMapping::EndpointIndependent,
        peer_nat: UNKNOWN,
        own_known: true,
        peer_known: true,
        settled: true,
        resting: false,
        fell_silent: false,
        endpoints: 2,
        pings: 24,
        small_only: 0,
    };

    #[test]
    fn names_what_stands_in_the_way() {
        let hard = ObservedMapping::EndpointDependent;
        let table = [
            (SEARCHED, "no answer from 2 endpoints after 24 probes"),
            (Evidence { own_mapping: hard, ..SEARCHED }, "this node's NAT uses another port"),
            (Evidence { peer_mapping: hard, ..SEARCHED }, "the peer's NAT uses another port"),
            (Evidence { own_mapping: hard, peer_mapping: hard, ..SEARCHED }, "both NATs use"),
            (Evidence { small_only: 1, ..SEARCHED }, "1 of 2 endpoints answered"),
            (Evidence { settled: false, ..SEARCHED }, "goes on"),
            (Evidence { settled: false, pings: 0, ..SEARCHED }, "begins"),
            (
                Evidence { settled: false, own_mapping: hard, peer_mapping: hard, ..SEARCHED },
                "both NATs use",
            ),
            (Evidence { peer_known: false, ..SEARCHED }, "the peer has announced no endpoints"),
            (Evidence { own_known: false, ..SEARCHED }, "does not know its own endpoint"),
            (
                Evidence { own_known: false, own_nat: BLOCKED, ..SEARCHED },
                "UDP between this node and its relays",
            ),
            (
                Evidence { own_mapping: hard, peer_nat: BLOCKED, ..SEARCHED },
                "UDP between the peer and its relays",
            ),
            (Evidence { fell_silent: true, ..SEARCHED }, "fell silent"),
            (Evidence { resting: true, ..SEARCHED }, "idle"),
            (
                Evidence {
                    own_mapping: hard,
                    own_nat: NatTraits { ports: ObservedPorts::Random, ..UNKNOWN },
                    peer_mapping: hard,
                    peer_nat: NatTraits { ports: ObservedPorts::Random, ..UNKNOWN },
                    ..SEARCHED
                },
                "both NATs give a new random port per destination; a port mapping on either router",
            ),
            (
                Evidence {
                    own_mapping: hard,
                    own_nat: NatTraits { ports: ObservedPorts::Random, ..UNKNOWN },
                    peer_nat: NatTraits {
                        filtering: ObservedFiltering::ByAddressAndPort,
                        ..UNKNOWN
                    },
                    endpoints: 0,
                    ..SEARCHED
                },
                "this node's NAT gives a new random port per destination and the peer's lets in known ports",
            ),
            (Evidence { endpoints: 0, ..SEARCHED }, "none of the peer's endpoints"),
        ];
        for (evidence, expected) in table {
            let sentence = explain(&evidence);
            assert!(sentence.contains(expected), "{sentence:?} lacks {expected:?}");
        }
    }
}
