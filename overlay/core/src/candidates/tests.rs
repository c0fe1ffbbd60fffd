use super::*;

const EIM: ObservedMapping = ObservedMapping::EndpointIndependent;

fn endpoint(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn behind_a_nat() -> OwnCandidates {
    let mut own = OwnCandidates::new(NodeId([1; 32]));
    own.on_hosts(vec![endpoint("192.168.1.2:4000")]);
    own.on_nat(vec![endpoint("203.0.113.1:4000")], EIM, NatTraits::default());
    own
}

#[test]
fn address_that_moves_is_announced_with_the_next_sequence() {
    let mut own = behind_a_nat();
    assert_eq!(own.take_announcement().unwrap().sequence, 1);
    assert_eq!(own.take_announcement(), None);
    own.on_nat(vec![endpoint("203.0.113.9:4000")], EIM, NatTraits::default());
    let moved = own.take_announcement().unwrap();
    assert_eq!(moved.sequence, 2);
    assert_eq!(moved.candidates[1].endpoint, endpoint("203.0.113.9:4000"));
}

#[test]
fn announces_few_and_usable_endpoints_of_every_kind() {
    let mut own = OwnCandidates::new(NodeId([1; 32]));
    let mut hosts: Vec<_> =
        (1..=20).map(|host| SocketAddr::from(([10, 0, 0, host], 4000))).collect();
    hosts.insert(0, endpoint("169.254.0.1:4000"));
    hosts.insert(0, endpoint("[fe80::1]:4000"));
    own.on_hosts(hosts);
    own.on_nat(vec![endpoint("203.0.113.1:4000")], EIM, NatTraits::default());
    let announced = own.take_announcement().unwrap().candidates;
    assert_eq!(announced.len(), MAX_CANDIDATES);
    assert_eq!(announced[0].endpoint, endpoint("10.0.0.1:4000"));
    assert_eq!(announced[MAX_CANDIDATES - 1].kind, CandidateKind::Reflexive);

    own.on_port_mapped(vec![endpoint("203.0.113.1:4001"), endpoint("203.0.113.1:4000")]);
    own.on_operator_set(vec![endpoint("198.51.100.1:5000"); 9]);
    let kinds: Vec<_> = own.take_announcement().unwrap().candidates;
    let of = |kind| kinds.iter().filter(|candidate| candidate.kind == kind).count();
    assert_eq!(kinds.len(), MAX_CANDIDATES);
    // The mapping to where the reflectors see the node anyway is no further candidate.
    let counts =
        [CandidateKind::Host, CandidateKind::PortMapped, CandidateKind::OperatorSet].map(of);
    assert_eq!(counts, [5, 1, 1]);
}

#[test]
fn peers_word_counts_when_two_agree_and_expires() {
    let now = Instant::now();
    let mut own = behind_a_nat();
    own.take_announcement();
    let seen = endpoint("198.51.100.7:4000");
    own.on_peer_report(now, NodeId([2; 32]), seen);
    own.on_peer_report(now, NodeId([2; 32]), seen);
    assert_eq!(own.take_announcement(), None);
    own.on_peer_report(now, NodeId([3; 32]), seen);
    let candidates = own.take_announcement().unwrap().candidates;
    let expected = Candidate { endpoint: seen, kind: CandidateKind::PeerReported };
    assert_eq!(candidates.last(), Some(&expected));
    own.on_peer_report(now + REPORT_LIFE, NodeId([2; 32]), endpoint("198.51.100.8:4000"));
    assert_eq!(own.take_announcement().unwrap().candidates.len(), 2);
    for port in 0..100 {
        own.on_peer_report(
            now,
            NodeId([2; 32]),
            SocketAddr::from(([198, 51, 100, 9], 2000 + port)),
        );
    }
    assert!(own.reports.len() <= MAX_REPORTS);
}

#[test]
fn some_endpoints_are_never_probed() {
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

#[test]
fn private_endpoints_are_probed_where_both_may_be_on_one_site() {
    let own = behind_a_nat();
    let elsewhere = [endpoint("198.51.100.1:4000")];
    let here = [endpoint("203.0.113.1:5000")];
    let table: [(&str, &[SocketAddr], bool); 6] = [
        ("192.168.7.7:4000", &elsewhere, false),
        ("192.168.7.7:4000", &here, true),
        ("192.168.1.7:4000", &elsewhere, true),
        ("10.0.0.7:4000", &[], true),
        ("10.0.0.7:4000", &[SocketAddr::from(([10, 0, 0, 7], 4000))], true),
        ("198.51.100.1:4000", &elsewhere, true),
    ];
    for (candidate, seen, expected) in table {
        assert_eq!(own.is_worthwhile(endpoint(candidate), seen), expected, "{candidate} {seen:?}");
    }
}
