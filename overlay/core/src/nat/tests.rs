use rand::SeedableRng;

use super::*;

const TOKEN: [u8; 16] = [7; 16];

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn reflector() -> SocketAddr {
    at("198.51.100.1:6444")
}

fn nonce_of(frame: &ControlFrame) -> [u8; 8] {
    if let ControlFrame::ReflectRequest { nonce, .. }
    | ControlFrame::ReflectElsewhere { nonce, .. } = frame
    {
        return *nonce;
    }
    panic!("{frame:?} asks no reflector")
}

/// Answers whatever is asked as that NAT would have it, for ten seconds. Counts the requests.
fn run(
    probe: &mut NatProbe,
    start: Instant,
    answer: impl Fn(&ControlFrame) -> Option<(SocketAddr, SocketAddr)>,
) -> usize {
    let mut requests = 0;
    while let Some(now) = probe.next_timer().filter(|at| *at <= start + Duration::from_secs(10)) {
        let (asked, _) = probe.fire_due_timers(now, true);
        for (_, frame) in asked {
            requests += 1;
            let nonce = nonce_of(&frame);
            if let Some((from, observed)) = answer(&frame) {
                assert_ne!(probe.on_response(now, from, nonce, observed, true), Taken::No);
            }
        }
    }
    requests
}

fn probe(start: Instant, observed: &str) -> NatProbe {
    let mut probe = NatProbe::new(ChaCha8Rng::seed_from_u64(1));
    probe.on_hosts(&[at("192.168.1.2:4000")]);
    probe.on_welcome(start, at(observed), reflector(), TOKEN);
    probe
}

#[test]
fn filter_is_what_the_answer_from_another_port_makes_of_it() {
    let observed = at("203.0.113.1:4000");
    let elsewhere = [
        (Some(at("198.51.100.1:6445")), ObservedFiltering::ByAddress),
        (Some(at("198.51.100.2:6444")), ObservedFiltering::Open),
        (None, ObservedFiltering::ByAddressAndPort),
    ];
    for (other, expected) in elsewhere {
        let start = Instant::now();
        let mut probe = probe(start, "203.0.113.1:4000");
        run(&mut probe, start, |frame| {
            let asks_other =
                matches!(frame, ControlFrame::ReflectElsewhere { from_other: true, .. });
            let from = if asks_other { other } else { Some(reflector()) };
            from.map(|from| (from, observed))
        });
        assert_eq!(probe.traits().filtering, expected);
        assert_eq!(probe.mapping(), ObservedMapping::EndpointIndependent);
        assert_eq!(probe.traits().ports, crate::netmap::ObservedPorts::Preserved);
    }
}

#[test]
fn reflector_of_an_older_version_tells_nothing_about_the_filter() {
    let start = Instant::now();
    let mut probe = probe(start, "203.0.113.1:4000");
    run(&mut probe, start, |frame| {
        let is_known = matches!(frame, ControlFrame::ReflectRequest { .. });
        is_known.then(|| (reflector(), at("203.0.113.1:4000")))
    });
    assert_eq!(probe.traits().filtering, ObservedFiltering::Unknown);
}

#[test]
fn blocked_udp_is_silence_of_all_reflectors_after_a_few_requests() {
    let start = Instant::now();
    let mut probe = probe(start, "203.0.113.1:4000");
    probe.add_reflector(start, at("198.51.100.2:6444"), TOKEN);
    assert!(!probe.is_silent());
    let requests = run(&mut probe, start, |_| None);
    assert!(probe.is_silent());
    assert_eq!(requests, 12);
}

#[test]
fn machine_with_both_families_is_seen_in_both_and_one_without_ipv6_asks_nobody_there() {
    let start = Instant::now();
    let six = at("[2001:db8::1]:6444");
    let seen_as = |family_of: SocketAddr| match family_of {
        SocketAddr::V4(_) => at("203.0.113.1:4000"),
        SocketAddr::V6(_) => at("[2001:db8:1::9]:4000"),
    };
    let mut probe = probe(start, "203.0.113.1:4000");
    probe.add_other_reflector(start, six, TOKEN);
    let mut asked_there = 0;
    let mut ask = |probe: &mut NatProbe, start| {
        while let Some(now) = probe.next_timer().filter(|at| *at <= start + PATIENCE * 5) {
            for (to, frame) in probe.fire_due_timers(now, true).0 {
                asked_there += usize::from(to == six);
                probe.on_response(now, to, nonce_of(&frame), seen_as(to), true);
            }
        }
        asked_there
    };
    assert_eq!(ask(&mut probe, start), 0, "it has no such address");
    assert_eq!(probe.reflexive(), [seen_as(reflector())]);
    let mapping = probe.mapping();
    probe.on_hosts(&[at("192.168.1.2:4000"), at("[2001:db8:1::9]:4000")]);
    assert_ne!(ask(&mut probe, start + Duration::from_secs(20)), 0);
    assert_eq!(probe.reflexive(), [seen_as(reflector()), seen_as(six)]);
    assert_eq!(probe.mapping(), mapping, "what IPv4 is like is not touched");
    assert!(!probe.is_silent());
}

#[test]
fn nat_that_starts_again_is_noticed_by_one_and_asked_of_all() {
    let start = Instant::now();
    let mut probe = probe(start, "203.0.113.1:4000");
    run(&mut probe, start, |_| Some((reflector(), at("203.0.113.1:4000"))));
    let now = start + Duration::from_secs(11);
    let moved = at("203.0.113.1:61000");
    assert_eq!(
        probe.on_relay_saw(now, at("198.51.100.9:6444"), at("203.0.113.1:4000")),
        Taken::News
    );
    assert_eq!(probe.on_relay_saw(now, at("198.51.100.9:6444"), moved), Taken::News);
    assert_eq!(probe.reflexive(), [moved]);
    assert_eq!(probe.next_timer(), Some(now), "the reflector is asked at once");
    assert_eq!(probe.on_relay_saw(now, at("198.51.100.9:6444"), moved), Taken::AsKnown);
}

#[test]
fn answers_that_nobody_asked_for_are_nothing() {
    let start = Instant::now();
    let mut probe = probe(start, "203.0.113.1:4000");
    let stranger = at("192.0.2.1:6444");
    assert_eq!(probe.on_response(start, reflector(), [0; 8], stranger, true), Taken::No);
    let (asked, _) = probe.fire_due_timers(start, true);
    let nonce = nonce_of(&asked[0].1);
    assert_eq!(probe.on_response(start, stranger, nonce, stranger, true), Taken::No);
    assert_eq!(probe.reflexive(), [at("203.0.113.1:4000")]);
    for number in 0..100 {
        probe.add_reflector(start, SocketAddr::from(([192, 0, 2, number], 6444)), TOKEN);
    }
    assert!(probe.reflectors.len() <= MAX_REFLECTORS);
}

#[test]
fn what_a_tunnels_other_end_looks_like_is_no_finding() {
    let now = Instant::now();
    let mut probe = NatProbe::new(ChaCha8Rng::seed_from_u64(1));
    let [reflector, relay, outside, loopback]: [SocketAddr; 4] =
        ["192.0.2.1:6444", "192.0.2.2:6444", "203.0.113.1:4000", "127.0.0.1:5000"]
            .map(|text| text.parse().unwrap());
    probe.on_welcome(now, outside, reflector, [1; 16]);
    assert!(probe.set_blind(true) && !probe.set_blind(true));
    probe.on_welcome(now, "0.0.0.0:0".parse().unwrap(), reflector, [1; 16]);
    probe.on_relay_saw(now, relay, loopback);
    assert_eq!((probe.reflexive(), probe.mapping()), (Vec::new(), ObservedMapping::Unknown));
    assert_eq!((probe.next_timer(), probe.is_silent()), (None, false), "nobody is asked");
    assert!(probe.set_blind(false));
    probe.on_welcome(now, outside, reflector, [1; 16]);
    assert_eq!(probe.reflexive(), [outside]);
    assert!(probe.next_timer().is_some());
}
