//! Whether two hosts can talk directly at all, from the behaviour of the NATs alone.

use crate::nat::{Filtering, Mapping, NatProfile};

/// Whether two hosts can exchange UDP packets directly after hole punching.
///
/// `a` and `b` are the NATs from the host outwards, an empty slice is a public host; the chains share
/// no NAT. Each side knows the endpoint that a third host saw of the other, both send to it for as
/// long as they like, and both answer to the source of what they receive.
///
/// The reasoning: one side's packets must get in first (see `gets_in`), and the answer must get back.
/// The answer comes from the very endpoint that was sent to, and is let in, unless the answering
/// side's mapping depends on the destination; then a filter that looks at ports stops it.
///
/// Kernel NATs whose full-cone maps are nested may filter more strictly than this says
/// (measured: two restricted ones in a row behave as port-restricted).
pub fn direct_path_possible(a: &[NatProfile], b: &[NatProfile]) -> bool {
    let either = |from: &[NatProfile], to: &[NatProfile]| {
        gets_in(from, to) && (is_endpoint_known(to) || !looks_at_ports(from))
    };
    either(a, b) || either(b, a)
}

/// Whether packets from one side to the other's known endpoint get in.
///
/// Each NAT of the receiver must let them pass. A filter that depends on the source was opened by the
/// receiver's own packets to the sender's known endpoint; but only if those leave through the same
/// mapping as those to the third host (all mappings from the host to here endpoint-independent), and
/// if ports count, only if the sender's packets come from its known endpoint.
fn gets_in(from: &[NatProfile], to: &[NatProfile]) -> bool {
    let mut same_mapping = true;
    to.iter().all(|nat| {
        same_mapping &= nat.mapping == Mapping::EndpointIndependent;
        match nat.filtering {
            Filtering::EndpointIndependent => true,
            Filtering::AddressDependent => same_mapping,
            Filtering::AddressAndPortDependent => same_mapping && is_endpoint_known(from),
        }
    })
}

/// Whether a host's packets to everybody come from the endpoint that the third host saw.
fn is_endpoint_known(chain: &[NatProfile]) -> bool {
    chain.iter().all(|nat| nat.mapping == Mapping::EndpointIndependent)
}

fn looks_at_ports(chain: &[NatProfile]) -> bool {
    chain.iter().any(|nat| nat.filtering == Filtering::AddressAndPortDependent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: NatProfile = NatProfile::FULL_CONE;
    const RESTRICTED: NatProfile = NatProfile::RESTRICTED;
    const HOME: NatProfile = NatProfile::HOME;
    const SYMMETRIC: NatProfile = NatProfile::SYMMETRIC;

    /// What was measured with the kernel's NATs, both sides sending to each other's observed endpoint.
    #[test]
    fn agrees_with_the_measured_table() {
        let kinds = [FULL, RESTRICTED, HOME, SYMMETRIC];
        let measured = [
            [true, true, true, true],
            [true, true, true, true],
            [true, true, true, false],
            [true, true, false, false],
        ];
        for (a, row) in kinds.iter().zip(measured) {
            for (b, expected) in kinds.iter().zip(row) {
                assert_eq!(direct_path_possible(&[*a], &[*b]), expected, "{a:?} × {b:?}");
            }
        }
    }

    #[test]
    fn everybody_reaches_a_public_host() {
        for chain in [&[][..], &[FULL], &[HOME], &[SYMMETRIC], &[HOME, SYMMETRIC]] {
            assert!(direct_path_possible(chain, &[]), "{chain:?}");
            assert!(direct_path_possible(&[], chain), "{chain:?}");
        }
    }

    #[test]
    fn chain_is_as_bad_as_its_worst_members() {
        assert!(direct_path_possible(&[HOME, HOME], &[HOME]));
        assert!(!direct_path_possible(&[HOME, SYMMETRIC], &[HOME]));
        assert!(!direct_path_possible(&[FULL, HOME], &[SYMMETRIC]));
        assert!(direct_path_possible(&[FULL, FULL], &[HOME, SYMMETRIC]));
    }

    #[test]
    fn is_symmetric() {
        let chains: Vec<Vec<NatProfile>> = [FULL, RESTRICTED, HOME, SYMMETRIC]
            .iter()
            .flat_map(|inner| [vec![*inner], vec![*inner, HOME], vec![*inner, SYMMETRIC]])
            .collect();
        for a in &chains {
            for b in &chains {
                assert_eq!(direct_path_possible(a, b), direct_path_possible(b, a));
            }
        }
    }
}
