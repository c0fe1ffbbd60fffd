//! Rules 1 to 4: mapping, filtering, port assignment, and the answer.

use super::{Gate, Reach, Verdict};
use crate::nat::{Filtering, Mapping, PortAllocation};

/// From where a machine's packets to its peer come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// From the endpoint that all its packets come from.
    Fixed,
    /// From one that can be calculated.
    Predictable,
    /// From one that nobody knows.
    Random,
}

/// One side: its routers from the machine to where the two meet.
pub(super) struct End<'a> {
    gates: &'a [Gate],
    /// Whether the other side was told an endpoint that it has where they meet.
    known: bool,
    source: Source,
}

impl<'a> End<'a> {
    pub(super) fn new(gates: &'a [Gate], known: bool) -> Self {
        Self { gates, known, source: source(gates) }
    }

    fn looks_at_ports(&self) -> bool {
        self.gates.iter().any(|gate| gate.filtering() == Filtering::AddressAndPortDependent)
    }

    /// Whether all packets to one address leave from one endpoint, whatever their port.
    fn maps_by_address(&self) -> bool {
        self.gates.iter().all(|gate| gate.mapping() != Mapping::AddressAndPortDependent)
    }
}

/// Rule 3, over all NATs from the machine outwards. A NAT with another port for each destination has
/// given the inner port to the mapping towards the third machine already; behind one whose port has
/// changed, every further NAT sees a new inner endpoint and assigns a port to it as to any first one.
fn source(gates: &[Gate]) -> Source {
    gates.iter().fold(Source::Fixed, |inner, gate| {
        if inner == Source::Fixed && gate.mapping() == Mapping::EndpointIndependent {
            return Source::Fixed;
        }
        match (gate.port(), inner) {
            // The next one, whatever the inner port is.
            (PortAllocation::Sequential, _) => Source::Predictable,
            (PortAllocation::Preserving, Source::Fixed) => Source::Predictable,
            (PortAllocation::PreservingOrRandom, Source::Fixed) => Source::Random,
            (PortAllocation::Preserving | PortAllocation::PreservingOrRandom, moved) => moved,
            (PortAllocation::Random, _) => Source::Random,
        }
    })
}

/// Whether two machines can talk, each through its routers, where they meet.
pub(super) fn punch(a: &End<'_>, b: &End<'_>) -> Verdict {
    let ways = [to_known(a, b), to_known(b, a), to_predicted(a, b), to_predicted(b, a)];
    let best = ways.into_iter().flatten().max_by_key(|verdict| verdict.reach);
    best.unwrap_or_else(|| Verdict { reach: Reach::Impossible, because: why_not(a, b) })
}

/// One side sends to the endpoint that it was told. None: that does not work.
fn to_known(from: &End<'_>, to: &End<'_>) -> Option<Verdict> {
    if !to.known {
        return None;
    }
    let mut predicted = false;
    let mut asks = false;
    // What a machine's packets to the peer open belongs to the known mapping only while no NAT from
    // it to here maps by destination.
    let mut same_mapping = true;
    for gate in to.gates {
        same_mapping &= gate.mapping() == Mapping::EndpointIndependent;
        let gets_in = match gate.filtering() {
            Filtering::EndpointIndependent => continue,
            Filtering::AddressDependent => same_mapping && from.known,
            Filtering::AddressAndPortDependent => {
                predicted |= from.source == Source::Predictable;
                same_mapping && from.known && from.source != Source::Random
            }
        };
        asks = true;
        if !gets_in {
            return None;
        }
    }
    // Rule 4.
    if to.source != Source::Fixed && from.looks_at_ports() {
        return None;
    }
    let (reach, because) = if predicted {
        let because = "one side has a port for each destination, but the next one can be calculated, \
                       so that the other can open its filter for it";
        (Reach::Predicted, because)
    } else if to.gates.is_empty() {
        (Reach::Plain, "one side is behind no router: the other sends first and is answered")
    } else if !asks {
        (Reach::Plain, "one side's routers let everybody in")
    } else if from.source == Source::Fixed {
        let because = "both sides keep one port for all destinations, so that each can open its \
                       filter for the other";
        (Reach::Plain, because)
    } else {
        let because = "one side keeps its port and its filter looks at addresses only, so that it \
                       can be opened whatever port the other comes from";
        (Reach::Plain, because)
    };
    Some(Verdict { reach, because })
}

/// One side sends to where it has calculated that the other's packets to it come from. Those open all
/// filters for where they go. None: that does not work.
fn to_predicted(from: &End<'_>, to: &End<'_>) -> Option<Verdict> {
    if to.source != Source::Predictable || !to.known || !from.known {
        return None;
    }
    let is_aimed_at = from.source != Source::Random;
    if to.looks_at_ports() && !is_aimed_at {
        return None;
    }
    // Rule 4: the answer goes to where the packet came from. If that was not aimed at, a NAT that
    // looks at the destination's port gives it yet another port.
    if !is_aimed_at && !to.maps_by_address() && from.looks_at_ports() {
        return None;
    }
    let because = match from.source {
        Source::Fixed => {
            "one side has a port for each destination, but the next one can be calculated"
        }
        Source::Predictable => {
            "both sides have a port for each destination, but the next ones can be calculated, if \
             both do so at once"
        }
        Source::Random => {
            "the next port of one side can be calculated, and its filter does not ask for the port \
             of the other"
        }
    };
    Some(Verdict { reach: Reach::Predicted, because })
}

fn why_not(a: &End<'_>, b: &End<'_>) -> &'static str {
    if !a.known && !b.known {
        return "they are behind a common router, and neither knows how the other is seen there";
    }
    match (a.source, b.source) {
        (Source::Random, Source::Random) => {
            "both NATs give a new port per destination that cannot be calculated, so that neither \
             side can know where to send"
        }
        (Source::Random, _) | (_, Source::Random) => {
            "one NAT gives a new port per destination that cannot be calculated, and the other \
             side's filter asks for it"
        }
        (Source::Fixed | Source::Predictable, Source::Fixed | Source::Predictable) => {
            "a filter asks for an endpoint that the other side does not know"
        }
    }
}
