//! Which of several direct paths is the better one.
//!
//! First by kind ([`Tier`]), then by round trip time. Both only beyond a margin, so that two paths
//! that are about as good do not take turns.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::netmap::CandidateKind;

/// How much faster a path must be to replace one of its own tier (iroh: 5 ms), besides a fifth.
const FASTER_BY: Duration = Duration::from_millis(5);

/// How much slower a path of a better tier may be, and how much faster one of a worse tier must be.
/// Chosen: the difference between a way through a city and one through a continent.
const TIER_WORTH: Duration = Duration::from_millis(25);

/// Kinds of direct paths, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// A private address: the packets stay on the site.
    Lan,
    /// IPv6: no translation on the way.
    Ipv6,
    /// IPv4, as the peer's NAT translates it by itself.
    Ipv4,
    /// A mapping that a router was asked for, or somebody's setting: it may take a detour.
    Mapped,
}

impl Tier {
    /// The tier of a peer's endpoint; no kind where it was learned from the peer's packets.
    pub(crate) fn of(endpoint: SocketAddr, kind: Option<CandidateKind>) -> Self {
        match kind {
            _ if is_private(endpoint.ip()) => Self::Lan,
            Some(CandidateKind::PortMapped | CandidateKind::OperatorSet) => Self::Mapped,
            Some(
                CandidateKind::Host
                | CandidateKind::Reflexive
                | CandidateKind::PeerReported
                | CandidateKind::Other,
            )
            | None => {
                if endpoint.is_ipv6() {
                    Self::Ipv6
                } else {
                    Self::Ipv4
                }
            }
        }
    }
}

/// A direct path as it stands for comparison.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) tier: Tier,
    pub(crate) rtt: Option<Duration>,
}

/// Whether `new` is to replace `current`.
pub(crate) fn is_better(new: Standing, current: Standing) -> bool {
    let (Some(new_rtt), Some(old_rtt)) = (new.rtt, current.rtt) else {
        return new.rtt.is_some();
    };
    match new.tier.cmp(&current.tier) {
        std::cmp::Ordering::Less => new_rtt <= old_rtt + TIER_WORTH,
        std::cmp::Ordering::Equal => new_rtt + FASTER_BY.max(old_rtt / 5) < old_rtt,
        std::cmp::Ordering::Greater => new_rtt + TIER_WORTH.max(old_rtt / 5) < old_rtt,
    }
}

/// Addresses that mean something within a site only (RFC 1918, RFC 4193), and the loopback.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(tier: Tier, ms: u64) -> Standing {
        Standing { tier, rtt: Some(Duration::from_millis(ms)) }
    }

    #[test]
    fn tiers_are_told_by_address_and_kind() {
        let table = [
            ("192.168.1.2:4000", Some(CandidateKind::Host), Tier::Lan),
            ("[fd00::1]:4000", None, Tier::Lan),
            ("[2001:db8::1]:4000", Some(CandidateKind::Host), Tier::Ipv6),
            ("203.0.113.1:4000", Some(CandidateKind::Reflexive), Tier::Ipv4),
            ("203.0.113.1:4000", None, Tier::Ipv4),
            ("203.0.113.1:4000", Some(CandidateKind::PortMapped), Tier::Mapped),
        ];
        for (endpoint, kind, expected) in table {
            assert_eq!(Tier::of(endpoint.parse().unwrap(), kind), expected, "{endpoint} {kind:?}");
        }
        assert!(Tier::Lan < Tier::Ipv6 && Tier::Ipv6 < Tier::Ipv4 && Tier::Ipv4 < Tier::Mapped);
    }

    #[test]
    fn better_tier_wins_unless_it_is_much_slower() {
        assert!(is_better(standing(Tier::Lan, 5), standing(Tier::Ipv4, 1)));
        assert!(is_better(standing(Tier::Ipv6, 40), standing(Tier::Ipv4, 20)));
        assert!(!is_better(standing(Tier::Ipv6, 80), standing(Tier::Ipv4, 20)));
        assert!(is_better(standing(Tier::Ipv4, 20), standing(Tier::Ipv6, 80)));
    }

    #[test]
    fn paths_about_as_good_do_not_take_turns() {
        for tier in [Tier::Lan, Tier::Ipv6, Tier::Ipv4, Tier::Mapped] {
            for other in [Tier::Lan, Tier::Ipv6, Tier::Ipv4, Tier::Mapped] {
                for (a, b) in [(1, 1), (10, 12), (10, 40), (100, 110), (100, 130), (5, 300)] {
                    let (a, b) = (standing(tier, a), standing(other, b));
                    assert!(!(is_better(a, b) && is_better(b, a)), "{a:?} and {b:?}");
                }
            }
        }
    }
}
