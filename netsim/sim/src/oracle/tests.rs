use super::*;
use crate::nat::Preset;
use crate::topology::{HostSpec, NatSpec, RouterSpec, Topology};

const FULL: NatProfile = NatProfile::FULL_CONE;
const RESTRICTED: NatProfile = NatProfile::RESTRICTED;
const HOME: NatProfile = NatProfile::HOME;
const SYMMETRIC: NatProfile = NatProfile::SYMMETRIC;
const SEQUENTIAL: NatProfile = NatProfile::SYMMETRIC_SEQUENTIAL;
/// Keeps the port for the first destination, and takes the next free one for each further.
const PRESERVING: NatProfile = NatProfile { port: PortAllocation::Preserving, ..SYMMETRIC };
/// Keeps the port for the first destination, and takes any for each further.
const OR_RANDOM: NatProfile = NatProfile { port: PortAllocation::PreservingOrRandom, ..SYMMETRIC };

fn reach(a: &[NatProfile], b: &[NatProfile]) -> Reach {
    verdict_of_nats(a, b).reach
}

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
        assert_eq!(reach(chain, &[]), Reach::Plain, "{chain:?}");
        assert_eq!(reach(&[], chain), Reach::Plain, "{chain:?}");
    }
}

#[test]
fn chain_is_as_bad_as_its_worst_members() {
    assert_eq!(reach(&[HOME, HOME], &[HOME]), Reach::Plain);
    assert_eq!(reach(&[HOME, SYMMETRIC], &[HOME]), Reach::Impossible);
    assert_eq!(reach(&[FULL, HOME], &[SYMMETRIC]), Reach::Impossible);
    assert_eq!(reach(&[FULL, FULL], &[HOME, SYMMETRIC]), Reach::Plain);
}

#[test]
fn next_port_can_be_calculated_where_it_follows_from_the_last() {
    for guessable in [SEQUENTIAL, PRESERVING] {
        assert_eq!(reach(&[guessable], &[HOME]), Reach::Predicted);
        assert_eq!(reach(&[guessable], &[guessable]), Reach::Predicted);
        assert_eq!(reach(&[guessable], &[RESTRICTED]), Reach::Plain);
        // It could be reached, but it asks for the port of the other side.
        assert_eq!(reach(&[guessable], &[SYMMETRIC]), Reach::Impossible);
        let by_address = NatProfile { filtering: Filtering::AddressDependent, ..guessable };
        // It gets in; the answer is another destination, comes from another port and is filtered.
        assert_eq!(reach(&[by_address], &[SYMMETRIC]), Reach::Impossible);
        let steady = NatProfile { mapping: Mapping::AddressDependent, ..by_address };
        assert_eq!(reach(&[steady], &[SYMMETRIC]), Reach::Predicted);
    }
    assert_eq!(reach(&[OR_RANDOM], &[HOME]), Reach::Impossible);
}

#[test]
fn port_is_calculated_through_further_nats_unless_they_draw_it() {
    let carrier = NatProfile { filtering: Filtering::AddressAndPortDependent, ..CARRIER };
    const CARRIER: NatProfile = NatProfile::CARRIER_GRADE;
    assert_eq!(reach(&[SEQUENTIAL, HOME], &[HOME]), Reach::Predicted);
    // To the outer one it is a new endpoint, whose port is free.
    assert_eq!(reach(&[SEQUENTIAL, OR_RANDOM], &[HOME]), Reach::Predicted);
    assert_eq!(reach(&[SEQUENTIAL, carrier], &[HOME]), Reach::Impossible);
    assert_eq!(reach(&[HOME, SEQUENTIAL], &[HOME]), Reach::Predicted);
}

#[test]
fn is_symmetric() {
    let kinds = [FULL, RESTRICTED, HOME, SYMMETRIC, SEQUENTIAL, PRESERVING, OR_RANDOM];
    let chains: Vec<Vec<NatProfile>> = kinds
        .iter()
        .flat_map(|inner| [vec![*inner], vec![*inner, HOME], vec![*inner, SYMMETRIC]])
        .collect();
    for a in &chains {
        for b in &chains {
            assert_eq!(verdict_of_nats(a, b).reach, verdict_of_nats(b, a).reach);
        }
    }
}

fn router(name: &str, behind: Option<&str>, nat: NatSpec) -> RouterSpec {
    let (name, behind) = (name.to_owned(), behind.map(str::to_owned));
    RouterSpec { name, behind, nat, ..RouterSpec::default() }
}

fn hosts(behind: &[(&str, Option<&str>)]) -> Vec<HostSpec> {
    let of = |(name, behind): &(&str, Option<&str>)| HostSpec {
        name: (*name).to_owned(),
        behind: behind.map(str::to_owned),
        ..HostSpec::default()
    };
    behind.iter().map(of).collect()
}

#[test]
fn homes_of_one_carrier_meet_only_where_it_turns_packets_round() {
    for (hairpin, expected) in [(true, Reach::Plain), (false, Reach::Impossible)] {
        let carrier = NatSpec::Axes(NatProfile { hairpin, ..NatProfile::CARRIER_GRADE });
        let home = |name| router(name, Some("carrier"), NatSpec::Preset(Preset::Home));
        let topology = Topology {
            routers: vec![router("carrier", None, carrier), home("home-1"), home("home-2")],
            hosts: hosts(&[
                ("a", Some("home-1")),
                ("b", Some("home-2")),
                ("c", Some("home-1")),
                ("street", Some("carrier")),
                ("public", None),
            ]),
            ..Topology::default()
        };
        let oracle = Oracle::new(&topology).unwrap();
        let reach = |a, b| oracle.between(a, b).unwrap().reach;
        assert_eq!(reach("a", "b"), expected);
        // In one home, and towards a machine in the carrier's own network, no hairpin is needed.
        assert_eq!(reach("a", "c"), Reach::Plain);
        assert_eq!(reach("a", "street"), Reach::Plain);
        assert_eq!(reach("a", "public"), Reach::Plain);
        assert!(oracle.between("a", "nobody").is_err());
    }
}

#[test]
fn symmetric_homes_of_one_carrier_that_turns_packets_round_are_still_strangers() {
    let carrier = NatSpec::Axes(NatProfile { hairpin: true, ..HOME });
    let home = |name| router(name, Some("carrier"), NatSpec::Preset(Preset::Symmetric));
    let topology = Topology {
        routers: vec![router("carrier", None, carrier), home("home-1"), home("home-2")],
        hosts: hosts(&[("a", Some("home-1")), ("b", Some("home-2")), ("c", Some("home-2"))]),
        ..Topology::default()
    };
    let oracle = Oracle::new(&topology).unwrap();
    assert_eq!(oracle.between("a", "b").unwrap().reach, Reach::Impossible);
    assert_eq!(oracle.between("b", "c").unwrap().reach, Reach::Plain);
}

#[test]
fn ipv6_needs_no_punching_and_firewalls_end_everything() {
    let with = |name, ipv6, firewall| RouterSpec {
        ipv6,
        firewall,
        stateful: Some(Stateful::default()),
        ..router(name, None, NatSpec::Preset(Preset::Symmetric))
    };
    let topology = Topology {
        routers: vec![
            with("six", true, Firewall::None),
            with("other-six", true, Firewall::None),
            with("four", false, Firewall::None),
            with("web", true, Firewall::Tcp80443Only),
            RouterSpec { ipv6_only: true, ..with("six-only", true, Firewall::None) },
        ],
        hosts: hosts(&[
            ("a", Some("six")),
            ("b", Some("other-six")),
            ("c", Some("four")),
            ("d", Some("web")),
            ("e", Some("web")),
            ("f", None),
            ("g", Some("six-only")),
        ]),
        ..Topology::default()
    };
    let oracle = Oracle::new(&topology).unwrap();
    let verdict = |a, b| oracle.between(a, b).unwrap();
    assert_eq!(verdict("a", "b").reach, Reach::Plain);
    assert!(verdict("a", "b").because.contains("IPv6"));
    assert_eq!(verdict("a", "c").reach, Reach::Impossible);
    for other in ["a", "c", "f"] {
        assert_eq!(verdict("d", other), Verdict { reach: Reach::Impossible, because: NO_UDP });
    }
    assert_eq!(verdict("d", "e").reach, Reach::Plain);
    assert_eq!(verdict("g", "a").reach, Reach::Plain);
    assert_eq!(verdict("g", "f").reach, Reach::Plain);
    assert!(verdict("g", "c").because.contains("IPv6 only"));
}

#[test]
fn filter_without_translation_is_opened_from_inside() {
    let campus = RouterSpec {
        stateful: Some(Stateful::default()),
        ..router("campus", None, NatSpec::Preset(Preset::None))
    };
    let topology = Topology {
        routers: vec![campus, router("hard", None, NatSpec::Preset(Preset::Symmetric))],
        hosts: hosts(&[("a", Some("campus")), ("b", Some("hard")), ("c", None)]),
        ..Topology::default()
    };
    let oracle = Oracle::new(&topology).unwrap();
    assert_eq!(oracle.between("a", "c").unwrap().reach, Reach::Plain);
    // It asks for the port, as a home router does.
    assert_eq!(oracle.between("a", "b").unwrap().reach, Reach::Impossible);
}
