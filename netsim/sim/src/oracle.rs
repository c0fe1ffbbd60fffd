//! Whether two machines can talk directly at all, from the behaviour of the routers alone.
//!
//! Written from RFC 4787's axes and apart from the overlay, which is held to it; the simulator and
//! the laboratory's kernel NATs are held to it as well. It thinks of two machines, each with one
//! socket, that
//!
//! - have sent from it to a third machine in the public realm, which told the other side the
//!   endpoint that it saw, and have told each other the addresses of their own interfaces;
//! - send to what they know of each other for as long as they like, and answer to the source of
//!   what they receive.
//!
//! Such a pair needs a packet that gets in, and an answer that gets back:
//!
//! 1. *Mapping* (§4.1). A NAT that maps by destination gives the packets to the peer another
//!    endpoint than those to the third machine: nobody knows from where they will come.
//! 2. *Filtering* (§5). The packets of a machine open its own filters for where they go. A filter
//!    that depends on the address can be opened for everybody whose address is known; one that
//!    depends on the port, only for an endpoint that is known. What is opened belongs to one
//!    mapping: on a NAT that maps by destination, not to the one that the peer was told of.
//! 3. *Port assignment* (§4.2). Where the next port follows from the last one, the endpoint of the
//!    packets to the peer can be calculated, and takes the place of the known one in 1 and 2. One
//!    after the other is predictable, and so is "the inner port, or the next free one" (the port is
//!    taken by the mapping towards the third machine); "the inner port, or any" and "any" are not.
//!    It works as long as nobody else behind that NAT opens a mapping in between.
//! 4. *The answer* comes from the endpoint that was sent to, unless the answering side's mapping
//!    depends on the destination; then a filter that looks at ports stops it.
//! 5. *Hairpinning* (§6). Behind a common NAT the endpoints seen from outside are of use only if that
//!    NAT turns packets round; and since both take ports from it at once, neither can calculate the
//!    next one. Machines directly in the same network need no router at all.
//! 6. *IPv6* is not translated: each side's packets open its own filter for the very address that
//!    the other one sends from.
//! 7. A router that lets no UDP through ends all of this.
//!
//! What it does not think of: port mapping protocols, many sockets at once (birthday attacks), TCP.

mod place;
mod punch;

use crate::firewall::{Firewall, Protocol, Stateful};
use crate::nat::{Filtering, Mapping, NatProfile, PortAllocation};

pub use place::{Oracle, Prediction};

/// How two machines can come to talk directly. The later the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reach {
    /// Not at all: they need a relay.
    Impossible,
    /// If one side calculates which port the other's NAT gives next.
    Predicted,
    /// By both sending to what they were told.
    Plain,
}

/// What the oracle says, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How.
    pub reach: Reach,
    /// The reason, as the part of a sentence that follows a colon.
    pub because: &'static str,
}

/// A router on the way from a machine to the public realm, as far as the oracle looks at it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gate {
    /// Which one it is: machines behind the same router have the same number here.
    pub router: usize,
    /// Its NAT for IPv4.
    pub nat: Option<NatProfile>,
    /// Its filter for what it does not translate.
    pub stateful: Option<Stateful>,
    /// Whether it forwards IPv4.
    pub ipv4: bool,
    /// Whether it forwards IPv6. A machine has IPv6 if all routers on its way do.
    pub ipv6: bool,
    /// What it lets through at all.
    pub firewall: Firewall,
}

/// Whether two machines can talk directly, given the routers from each outwards.
pub fn verdict(a: &[Gate], b: &[Gate]) -> Verdict {
    let pairs = a.iter().rev().zip(b.iter().rev());
    let shared = pairs.take_while(|(a, b)| a.router == b.router).count();
    let near = |chain: &[Gate]| chain.len() - shared;
    let (a_near, b_near) = (&a[..near(a)], &b[..near(b)]);
    let common = &a[near(a)..];
    let ways = [
        over_ipv6((a, a_near), (b, b_near)),
        Some(in_common_network(a_near, b_near, common)),
        by_hairpin(a, b, common),
    ];
    // The best, and of several as good as each other the last: it tells most about the NATs.
    let best = ways.into_iter().flatten().max_by_key(|verdict| verdict.reach);
    best.unwrap_or(Verdict { reach: Reach::Impossible, because: NO_UDP })
}

/// The verdict for two machines behind those chains of NATs, given from the machine outwards (empty:
/// a public machine). The chains have no router in common, and nobody has IPv6.
pub fn verdict_of_nats(a: &[NatProfile], b: &[NatProfile]) -> Verdict {
    let gates = |chain: &[NatProfile], first: usize| -> Vec<Gate> {
        let of = |(index, nat): (usize, &NatProfile)| Gate {
            router: first + index,
            nat: Some(*nat),
            stateful: None,
            ipv4: true,
            ipv6: false,
            firewall: Firewall::None,
        };
        chain.iter().enumerate().map(of).collect()
    };
    // Two public machines have IPv6 here, which changes nothing.
    verdict(&gates(a, 0), &gates(b, a.len()))
}

/// Whether [`verdict_of_nats`] is [`Reach::Plain`].
///
/// Kernel NATs whose full-cone maps are nested may filter more strictly than this says
/// (measured: two restricted ones in a row behave as port-restricted).
pub fn direct_path_possible(a: &[NatProfile], b: &[NatProfile]) -> bool {
    verdict_of_nats(a, b).reach == Reach::Plain
}

const NO_UDP: &str = "a router on the way lets no UDP through";

/// Rule 6. None: one of them has no IPv6.
fn over_ipv6((a, a_near): (&[Gate], &[Gate]), (b, b_near): (&[Gate], &[Gate])) -> Option<Verdict> {
    if !a.iter().chain(b).all(|gate| gate.ipv6) {
        return None;
    }
    let because =
        "both have IPv6, where nothing is translated: each side's packets open its own filter";
    Some(if lets_udp(a_near) && lets_udp(b_near) {
        Verdict { reach: Reach::Plain, because }
    } else {
        Verdict { reach: Reach::Impossible, because: NO_UDP }
    })
}

/// They meet in the innermost network that both can send into: the public realm, or one behind
/// routers that they have in common.
fn in_common_network(a: &[Gate], b: &[Gate], common: &[Gate]) -> Verdict {
    if a.is_empty() && b.is_empty() {
        let because = "they are in the same network, and need no router";
        return Verdict { reach: Reach::Plain, because };
    }
    if !a.iter().chain(b).all(|gate| gate.ipv4) {
        let because = "one side has IPv6 only, and the other has not";
        return Verdict { reach: Reach::Impossible, because };
    }
    if !lets_udp(a) || !lets_udp(b) {
        return Verdict { reach: Reach::Impossible, because: NO_UDP };
    }
    // The third machine sees what is beyond the common NAT. In between, nobody knows an endpoint
    // that a NAT has made, but the addresses of machines that stand there themselves are known.
    let is_seen = common.iter().all(|gate| gate.nat.is_none());
    let is_known = |gates: &[Gate]| is_seen || gates.iter().all(|gate| gate.nat.is_none());
    punch::punch(&punch::End::new(a, is_known(a)), &punch::End::new(b, is_known(b)))
}

/// Rule 5. None: they have no NAT in common.
fn by_hairpin(a: &[Gate], b: &[Gate], common: &[Gate]) -> Option<Verdict> {
    // The outermost NAT is the one whose address is known. Routers beyond are not reached.
    let beyond = common.iter().rev().take_while(|gate| gate.nat.is_none()).count();
    let turning = common.len().checked_sub(beyond + 1).and_then(|index| common[index].nat)?;
    let (a, b) = (&a[..a.len() - beyond], &b[..b.len() - beyond]);
    if !a.iter().chain(b).all(|gate| gate.ipv4) {
        return None;
    }
    Some(if !turning.hairpin {
        let because = "they share a NAT that does not turn packets round (no hairpin), and only its \
                       outside is known";
        Verdict { reach: Reach::Impossible, because }
    } else if !lets_udp(a) || !lets_udp(b) {
        Verdict { reach: Reach::Impossible, because: NO_UDP }
    } else {
        let verdict = punch::punch(&punch::End::new(a, true), &punch::End::new(b, true));
        if verdict.reach == Reach::Predicted {
            let because = "they take their ports from the same NAT at the same time, so that neither \
                           can calculate which one it gets";
            Verdict { reach: Reach::Impossible, because }
        } else {
            verdict
        }
    })
}

/// Rule 7.
fn lets_udp(gates: &[Gate]) -> bool {
    // Far ends and proxies matter to TCP only.
    let anybody = std::net::Ipv4Addr::UNSPECIFIED.into();
    gates
        .iter()
        .all(|gate| gate.firewall.permits(Protocol::Udp, anybody, (anybody, 0).into(), None))
}

impl Gate {
    /// What it does to IPv4: a router without NAT maps every endpoint to itself.
    fn mapping(&self) -> Mapping {
        self.nat.map_or(Mapping::EndpointIndependent, |nat| nat.mapping)
    }

    fn port(&self) -> PortAllocation {
        self.nat.map_or(PortAllocation::Preserving, |nat| nat.port)
    }

    fn filtering(&self) -> Filtering {
        match (self.nat, self.stateful) {
            (Some(nat), _) => nat.filtering,
            (None, Some(stateful)) => stateful.filtering,
            (None, None) => Filtering::EndpointIndependent,
        }
    }
}

#[cfg(test)]
mod tests;
