//! Datagrams in, exact datagrams out.

use hex_literal::hex;
use overlay_core::NodeId;
use overlay_core::wire::control::BIND_LEN;
use proptest::prelude::*;

use super::*;
use crate::issue_ticket;
use crate::limits::ByteRate;

const CHANNEL: u32 = 0xa1b2_c3d4;
const NONCE: [u8; 8] = hex!("0102030405060708");
const EXPIRES: u64 = 5_000;

fn keys() -> RelayKeys {
    RelayKeys { ticket_key: [1; 32], reflector_key: [2; 32] }
}

/// A relay whose calendar begins at 1,000 s.
struct Bench {
    state: RelayState,
    start: Moment,
}

fn bench() -> Bench {
    bench_with(RelayLimits::default())
}

fn bench_with(limits: RelayLimits) -> Bench {
    let start = Moment { instant: Instant::now(), unix_ms: 1_000_000 };
    Bench { state: RelayState::new(keys(), limits, [3; 32], start), start }
}

fn route(address: &str) -> Route {
    Route { remote: address.parse().unwrap(), local: None }
}

fn alice() -> Route {
    route("192.0.2.1:1111")
}

fn bob() -> Route {
    route("198.51.100.2:2222")
}

fn ticket(side: u8) -> Ticket {
    Ticket::from_bytes(&issue_ticket(&keys(), CHANNEL, side, EXPIRES))
}

fn request(ticket: Ticket) -> Vec<u8> {
    ControlFrame::BindRequest { ticket, nonce: NONCE }.encode()
}

fn answer(ticket: Ticket, cookie: [u8; 16]) -> Vec<u8> {
    ControlFrame::BindAnswer { ticket, nonce: NONCE, cookie }.encode()
}

fn packet(payload: &[u8]) -> Vec<u8> {
    relay::encode(CHANNEL, payload)
}

impl Bench {
    fn at(&self, seconds: u64) -> Moment {
        self.start + Duration::from_secs(seconds)
    }

    fn send(&mut self, seconds: u64, from: Route, bytes: &[u8]) -> Action {
        self.state.handle_datagram(self.at(seconds), from, bytes)
    }

    fn cookie(&mut self, seconds: u64, from: Route, ticket: Ticket) -> [u8; 16] {
        let Action::Reply(reply) = self.send(seconds, from, &request(ticket)) else {
            panic!("no challenge");
        };
        reply[13..].try_into().unwrap()
    }

    fn bind(&mut self, seconds: u64, from: Route, ticket: Ticket) -> Action {
        let cookie = self.cookie(seconds, from, ticket);
        self.send(seconds, from, &answer(ticket, cookie))
    }

    fn bind_both(&mut self, seconds: u64) {
        assert!(matches!(self.bind(seconds, alice(), ticket(0)), Action::Reply(_)));
        assert!(matches!(self.bind(seconds, bob(), ticket(1)), Action::Reply(_)));
    }
}

#[test]
fn the_ladder_of_a_bind_has_these_bytes() {
    let mut bench = bench();

    let Action::Reply(challenge) = bench.send(0, alice(), &request(ticket(0))) else {
        panic!("no challenge");
    };
    assert_eq!(challenge[..13], hex!("0b434801 04 0102030405060708"));
    assert_eq!(challenge.len(), 29);
    assert_eq!(bench.state.stats().channels, 0, "no state before the proof");

    let cookie = challenge[13..].try_into().unwrap();
    let ack = bench.send(0, alice(), &answer(ticket(0), cookie));
    let expected = hex!("0b434801 06 0102030405060708 a1b2c3d4 0078");
    assert_eq!(ack, Action::Reply(expected.to_vec()));
    assert_eq!(bench.state.stats().channels, 1);
}

#[test]
fn packets_go_unchanged_to_the_other_side() {
    let mut bench = bench();
    bench.bind_both(0);
    assert_eq!(bench.send(1, alice(), &packet(b"x")), Action::Forward(bob()));
    assert_eq!(bench.send(1, bob(), &packet(b"y")), Action::Forward(alice()));
    let stats = bench.state.stats();
    assert_eq!((stats.forwarded_packets, stats.forwarded_bytes), (2, 18));
}

#[test]
fn an_answer_replayed_from_another_address_gets_nothing() {
    let mut bench = bench();
    let cookie = bench.cookie(0, alice(), ticket(0));
    let replay = bench.send(0, route("192.0.2.66:1111"), &answer(ticket(0), cookie));
    assert_eq!(replay, Action::Drop(DropReason::BadCookie));
    let replay = bench.send(0, route("192.0.2.1:1112"), &answer(ticket(0), cookie));
    assert_eq!(replay, Action::Drop(DropReason::BadCookie));
    assert_eq!(bench.state.stats().channels, 0);
}

#[test]
fn forged_and_expired_tickets_get_nothing() {
    let mut bench = bench();
    let forged = Ticket { mac: [0; 16], ..ticket(0) };
    let upgraded = Ticket { side: 1, ..ticket(0) };
    for forged in [forged, upgraded] {
        let reply = bench.send(0, alice(), &request(forged));
        assert_eq!(reply, Action::Drop(DropReason::ForgedTicket));
    }
    let expired = bench.send(EXPIRES - 1000, alice(), &request(ticket(0)));
    assert_eq!(expired, Action::Drop(DropReason::ExpiredTicket));
    let last_second = bench.send(EXPIRES - 1001, alice(), &request(ticket(0)));
    assert!(matches!(last_second, Action::Reply(_)));
}

#[test]
fn a_bind_ends_with_its_ticket() {
    let mut bench = bench();
    let last = EXPIRES - 1001;
    bench.bind_both(last);
    assert_eq!(bench.send(last, alice(), &packet(b"x")), Action::Forward(bob()));
    let late = bench.send(last + 1, alice(), &packet(b"x"));
    assert_eq!(late, Action::Drop(DropReason::Unbound));
}

#[test]
fn cookies_of_the_last_two_secrets_count() {
    let mut bench = bench();
    let cookie = bench.cookie(0, alice(), ticket(0));
    assert!(matches!(bench.send(239, alice(), &answer(ticket(0), cookie)), Action::Reply(_)));

    let mut bench = self::bench();
    let cookie = bench.cookie(0, alice(), ticket(0));
    let late = bench.send(240, alice(), &answer(ticket(0), cookie));
    assert_eq!(late, Action::Drop(DropReason::BadCookie));
}

#[test]
fn channels_that_are_not_bound_drop() {
    let mut bench = bench();
    assert_eq!(bench.send(0, alice(), &packet(b"x")), Action::Drop(DropReason::Unbound));
    bench.bind(0, alice(), ticket(0));
    assert_eq!(bench.send(0, alice(), &packet(b"x")), Action::Drop(DropReason::PeerUnbound));
}

#[test]
fn a_source_that_holds_no_side_is_dropped() {
    let mut bench = bench();
    bench.bind_both(0);
    for stranger in ["192.0.2.1:1112", "203.0.113.9:1111", "[2001:db8::1]:1111"] {
        let spoof = bench.send(1, route(stranger), &packet(b"x"));
        assert_eq!(spoof, Action::Drop(DropReason::Unbound), "{stranger}");
    }
}

#[test]
fn a_roaming_node_takes_its_side_along() {
    let mut bench = bench();
    bench.bind_both(0);
    let roamed = route("203.0.113.7:1111");
    bench.bind(10, roamed, ticket(0));
    assert_eq!(bench.send(10, bob(), &packet(b"x")), Action::Forward(roamed));
    let old = bench.send(14, alice(), &packet(b"x"));
    assert_eq!(old, Action::Drop(DropReason::Unbound));
}

#[test]
fn an_endpoint_holds_one_side_at_a_time() {
    let mut bench = bench();
    bench.bind_both(0);
    bench.bind(1, alice(), ticket(1));
    let alone = bench.send(1, alice(), &packet(b"x"));
    assert_eq!(alone, Action::Drop(DropReason::PeerUnbound), "never back to the sender");
}

#[test]
fn a_silent_side_is_forgotten_and_a_refreshed_one_is_kept() {
    let mut bench = bench();
    bench.bind_both(0);
    assert_eq!(bench.send(119, alice(), &packet(b"x")), Action::Forward(bob()));
    let late = bench.send(120, alice(), &packet(b"x"));
    assert_eq!(late, Action::Drop(DropReason::PeerUnbound));
    bench.bind(121, bob(), ticket(1));
    assert_eq!(bench.send(122, alice(), &packet(b"x")), Action::Forward(bob()));
    bench.state.handle_wakeup(bench.at(260));
    assert_eq!(bench.state.stats().channels, 0);
}

#[test]
fn ipv4_on_a_dual_stack_socket_is_ipv4() {
    let mut bench = bench();
    let mapped = route("[::ffff:192.0.2.1]:1111");
    bench.bind_both(0);
    assert_eq!(bench.send(0, mapped, &packet(b"x")), Action::Forward(bob()));
    let token = crate::reflector_token(&keys(), NodeId([9; 32]));
    let request = ControlFrame::ReflectRequest { token, nonce: NONCE }.encode();
    let response = hex!("0b434801 02 0102030405060708 04 c0000201000000000000000000000000 0457");
    assert_eq!(bench.send(0, mapped, &request), Action::Reply(response.to_vec()));
}

#[test]
fn the_reflector_answers_tokens_of_its_key_only() {
    let mut bench = bench();
    let token = [7; 16];
    let request = ControlFrame::ReflectRequest { token, nonce: NONCE }.encode();
    assert_eq!(bench.send(0, alice(), &request), Action::Drop(DropReason::BadToken));
}

#[test]
fn the_reflector_answers_elsewhere_at_the_same_address_only() {
    let mut bench = bench();
    let token = crate::reflector_token(&keys(), NodeId([9; 32]));
    let frame = |port, from_other| {
        ControlFrame::ReflectElsewhere { token, nonce: NONCE, port, from_other }.encode()
    };
    for (port, from_other, expected) in
        [(0, true, Some(alice())), (4000, false, Some(route("192.0.2.1:4000"))), (161, false, None)]
    {
        let to = match bench.send(0, alice(), &frame(port, from_other)) {
            Action::ReplyElsewhere { to, from_other: other, .. } if other == from_other => Some(to),
            Action::Drop(DropReason::Malformed) => None,
            action @ (Action::Forward(_)
            | Action::Hold { .. }
            | Action::Reply(_)
            | Action::ReplyElsewhere { .. }
            | Action::Drop(_)) => panic!("{action:?}"),
        };
        assert_eq!(to, expected);
    }
    let forged = ControlFrame::ReflectElsewhere {
        token: [7; 16],
        nonce: NONCE,
        port: 4000,
        from_other: true,
    };
    let refused = bench.send(0, alice(), &forged.encode());
    assert_eq!(refused, Action::Drop(DropReason::BadToken));
}

#[test]
fn rates_and_quota_are_held() {
    let rate = ByteRate { bytes_per_second: 100, burst: 1000 };
    let limits = RelayLimits {
        channel_rate: rate,
        channel_hold: Duration::ZERO,
        channel_quota: 1600,
        ..Default::default()
    };
    let mut bench = bench_with(limits);
    bench.bind_both(0);
    let frame = packet(&[0; 492]);
    assert_eq!(bench.send(0, alice(), &frame), Action::Forward(bob()));
    assert_eq!(bench.send(0, bob(), &frame), Action::Forward(alice()));
    assert_eq!(bench.send(0, alice(), &frame), Action::Drop(DropReason::OverRate));
    assert_eq!(bench.send(5, alice(), &frame), Action::Forward(bob()));
    assert_eq!(bench.send(10, alice(), &frame), Action::Drop(DropReason::OverQuota));

    let limits = RelayLimits { total_rate: rate, ..Default::default() };
    let mut bench = bench_with(limits);
    bench.bind_both(0);
    assert_eq!(bench.send(0, alice(), &packet(&[0; 992])), Action::Forward(bob()));
    assert_eq!(bench.send(0, alice(), &packet(b"x")), Action::Drop(DropReason::OverRate));
}

#[test]
fn packets_beyond_the_rate_wait_for_it_in_order() {
    let rate = ByteRate { bytes_per_second: 1000, burst: 1000 };
    let limits = RelayLimits {
        channel_rate: rate,
        channel_hold: Duration::from_secs(1),
        ..Default::default()
    };
    let mut bench = bench_with(limits);
    bench.bind_both(0);
    let until = |ms| bench.start.instant + Duration::from_millis(ms);
    let hold = |to, ms| Action::Hold { to, until: until(ms) };
    let [first, second] = [hold(bob(), 500), hold(alice(), 1000)];
    let frame = packet(&[0; 492]);
    let mut send = |at, from| bench.send(at, from, &frame);
    assert_eq!(send(0, alice()), Action::Forward(bob()));
    assert_eq!(send(0, alice()), Action::Forward(bob()));
    assert_eq!(send(0, alice()), first);
    assert_eq!(send(0, bob()), second, "both directions share the rate");
    assert_eq!(send(0, alice()), Action::Drop(DropReason::OverRate));
    assert_eq!(send(2, alice()), Action::Forward(bob()), "nothing is held any more");
}

#[test]
fn datagrams_that_came_together_are_decided_about_together_as_far_as_they_pass() {
    let mut bench = bench_with(RelayLimits { channel_quota: 49, ..Default::default() });
    bench.bind_both(0);
    let stranger = relay::encode(CHANNEL + 1, b"12");
    let together = [packet(b"12"), packet(b"34"), stranger, packet(b"56"), packet(b"7")].concat();
    let mut told = Vec::new();
    let at = bench.at(0);
    bench.state.handle_datagrams(at, alice(), &together, 10, |n, action| told.push((n, action)));
    let forward = Action::Forward(bob());
    let unbound = Action::Drop(DropReason::Unbound);
    assert_eq!(told, [(2, forward.clone()), (1, unbound), (2, forward.clone())]);
    let mut told = Vec::new();
    bench.state.handle_datagrams(at, bob(), b"no frame", 3, |n, action| told.push((n, action)));
    assert_eq!(told, vec![(1, Action::Drop(DropReason::Malformed)); 3]);
    let stats = bench.state.stats();
    assert_eq!((stats.forwarded_packets, stats.forwarded_bytes), (4, 39));

    let (more, mut told) = (packet(b"12").repeat(2), Vec::new());
    let over = Action::Drop(DropReason::OverQuota);
    bench.state.handle_datagrams(at, alice(), &more, 10, |n, action| told.push((n, action)));
    assert_eq!(told, [(1, forward), (1, over.clone())]);
    assert_eq!(bench.send(0, alice(), &packet(b"x")), over);
}

#[test]
fn a_full_table_takes_no_new_channel_until_old_ones_are_silent() {
    let mut bench = bench_with(RelayLimits { max_channels: 1, ..Default::default() });
    let other = Ticket::from_bytes(&issue_ticket(&keys(), 7, 0, EXPIRES));
    bench.bind(0, alice(), ticket(0));
    assert_eq!(bench.bind(1, alice(), other), Action::Drop(DropReason::TableFull));
    assert!(matches!(bench.bind(1, bob(), ticket(1)), Action::Reply(_)), "the old one goes on");
    assert!(matches!(bench.bind(122, alice(), other), Action::Reply(_)));
}

#[test]
fn a_flood_of_forged_binds_leaves_no_state() {
    let mut bench = bench();
    for number in 0..50_000u32 {
        let from = Route { remote: SocketAddr::new(number.to_be_bytes().into(), 1), local: None };
        let forged = Ticket { channel: number, ..ticket(0) };
        let dropped = bench.send(0, from, &answer(forged, [0; 16]));
        assert_eq!(dropped, Action::Drop(DropReason::ForgedTicket));
        // A valid ticket, stolen, from sources that the flooder cannot receive at.
        let dropped = bench.send(
            0,
            from,
            &answer(ticket(0), number.to_be_bytes().repeat(4).try_into().unwrap()),
        );
        assert_eq!(dropped, Action::Drop(DropReason::BadCookie));
    }
    assert_eq!(bench.state.channels.capacity(), 0);
}

/// Arbitrary bytes, and bytes that get past the first checks.
fn any_datagram() -> impl Strategy<Value = Vec<u8>> {
    let token = crate::reflector_token(&keys(), NodeId([9; 32]));
    let valid = prop_oneof![
        Just(request(ticket(0))),
        Just(answer(ticket(1), [0; 16])),
        Just(ControlFrame::ReflectRequest { token, nonce: NONCE }.encode()),
        Just(
            ControlFrame::ReflectElsewhere { token, nonce: NONCE, port: 4000, from_other: true }
                .encode()
        ),
        Just(packet(b"payload")),
    ];
    let bytes = || prop::collection::vec(any::<u8>(), 0..200);
    prop_oneof![
        bytes(),
        (any::<u8>(), bytes())
            .prop_map(|(kind, rest)| { [&control::MAGIC[..], &[kind % 8], &rest].concat() }),
        (valid, any::<prop::sample::Index>(), any::<u8>(), 0..=BIND_LEN).prop_map(
            |(mut bytes, at, with, len)| {
                let at = at.index(bytes.len());
                bytes[at] = with;
                bytes.truncate(len);
                bytes
            }
        ),
    ]
}

proptest! {
    #[test]
    fn no_reply_is_longer_than_its_request(datagram in any_datagram()) {
        let mut bench = bench();
        bench.bind_both(0);
        if let Action::Reply(reply) | Action::ReplyElsewhere { bytes: reply, .. } =
            bench.send(1, alice(), &datagram)
        {
            prop_assert!(reply.len() <= datagram.len());
        }
    }
}

#[test]
fn bindings_and_pairs_are_counted_as_they_come_and_go() {
    let mut bench = bench();
    let held = |bench: &Bench| {
        let stats = bench.state.stats();
        (stats.channels, stats.bindings, stats.pairs)
    };
    bench.bind(0, alice(), ticket(0));
    assert_eq!(held(&bench), (1, 1, 0));
    bench.bind(0, bob(), ticket(1));
    bench.bind(1, bob(), ticket(1));
    assert_eq!(held(&bench), (1, 2, 1));
    // The NAT has given the one's address to the other.
    bench.bind(2, alice(), ticket(1));
    assert_eq!(held(&bench), (1, 1, 0));
    bench.bind(2, bob(), ticket(0));
    assert_eq!(held(&bench), (1, 2, 1));

    // One of them goes on, the other is silent.
    for seconds in (20..200).step_by(20) {
        bench.bind(seconds, alice(), ticket(1));
    }
    assert_eq!(held(&bench), (1, 1, 0));
    let later = bench.at(400);
    bench.state.handle_wakeup(later);
    assert_eq!(held(&bench), (0, 0, 0));
}

#[test]
fn packets_on_their_way_pass_when_their_sender_has_moved_and_for_three_seconds_only() {
    let mut bench = bench();
    bench.bind(0, alice(), ticket(0));
    bench.bind(0, bob(), ticket(1));
    let (moved, stranger) = (route("192.0.2.77:7777"), route("192.0.2.9:1111"));
    bench.bind(10, moved, ticket(0));
    for (at, from, expected) in [
        (10, moved, Action::Forward(bob())),
        (11, alice(), Action::Forward(bob())),
        (11, stranger, Action::Drop(DropReason::Unbound)),
        // What was bound before is sent nothing.
        (11, bob(), Action::Forward(moved)),
        (13, alice(), Action::Drop(DropReason::Unbound)),
    ] {
        assert_eq!(bench.send(at, from, &packet(b"x")), expected, "{from:?} at {at} s");
    }
    // It holds nothing: no keepalive counts for it.
    let keepalive = ControlFrame::KeepAlive { nonce: NONCE }.encode();
    bench.bind(20, alice(), ticket(0));
    assert_eq!(bench.send(21, moved, &keepalive), Action::Drop(DropReason::Unbound));
}
