//! The cases. Sizes and times are those of WireGuard's paper (§5.4, §6.1) unless it says otherwise.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::clock;
use crate::ends::{Due, End, Got};

const INITIATION: usize = 148;
const RESPONSE: usize = 92;
const COOKIE: usize = 64;
const OVERHEAD: usize = 32;

/// An inner packet.
const BYTES: usize = 100;

/// How often the driver lets timers run.
const STEP: Duration = Duration::from_millis(100);

fn ends<E: End>() -> (E, E) {
    (E::new(1, 2), E::new(2, 1))
}

/// The reply to a message that has one.
fn reply<E: End>(end: &mut E, packet: &E::Packet) -> E::Packet {
    match end.open(packet) {
        Got::Reply(reply) => reply,
        other => panic!("{other:?} in place of a reply"),
    }
}

/// Two ends with keys that both have used: the first has begun.
fn keyed<E: End>() -> (E, E) {
    let (mut a, mut b) = ends::<E>();
    shake_hands(&mut a, &mut b);
    (a, b)
}

fn shake_hands<E: End>(a: &mut E, b: &mut E) {
    let initiation = a.initiate(true).unwrap();
    let response = reply(b, &initiation);
    let confirmation = reply(a, &response);
    assert_eq!(b.open(&confirmation), Got::Nothing);
}

fn passes<E: End>(from: &mut E, to: &mut E, bytes: usize) -> bool {
    let packet = from.seal(Some(bytes)).unwrap();
    to.open(&packet) == Got::Inner(bytes)
}

/// Lets that much time pass at one end, and gives the first thing that its timers ask for.
fn first_due<E: End>(end: &mut E, within: Duration) -> Option<(Duration, Due<E::Packet>)> {
    let start = clock::now();
    while clock::now() < start + within {
        clock::advance(STEP);
        match end.tick() {
            Due::Nothing => {}
            due => return Some((clock::now() - start, due)),
        }
    }
    None
}

/// The same for something that is sent, of that size, about then.
fn sends<E: End>(end: &mut E, size: usize, after: Duration) -> E::Packet {
    match first_due(end, after + STEP * 10) {
        Some((at, Due::Send(packet))) => {
            assert_eq!(E::size(&packet), size);
            assert!(
                at + STEP * 3 >= after && at <= after + STEP * 5,
                "{at:?} in place of {after:?}"
            );
            packet
        }
        other => panic!("{other:?} in place of a message of {size} bytes"),
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Lets time pass at both ends, which have nothing to do.
fn idle<E: End>(a: &mut E, b: &mut E, time: Duration) {
    let end = clock::now() + time;
    while clock::now() < end {
        clock::advance(STEP);
        assert_eq!(a.tick(), Due::Nothing);
        assert_eq!(b.tick(), Due::Nothing);
    }
}

pub(crate) fn messages_have_the_sizes_of_the_protocol<E: End>() {
    let (mut a, mut b) = ends::<E>();
    let initiation = a.initiate(true).unwrap();
    assert_eq!(E::size(&initiation), INITIATION);
    let response = reply(&mut b, &initiation);
    assert_eq!(E::size(&response), RESPONSE);
    let confirmation = reply(&mut a, &response);
    assert_eq!(E::size(&confirmation), OVERHEAD);
    assert_eq!(b.open(&confirmation), Got::Nothing);
    // boringtun does not pad to 16 bytes, as the paper would have it.
    for bytes in [20, 21, 100, 1412] {
        let packet = a.seal(Some(bytes)).unwrap();
        assert_eq!(E::size(&packet), bytes + OVERHEAD);
        assert_eq!(b.open(&packet), Got::Inner(bytes));
    }
    assert_eq!(E::size(&b.seal(None).unwrap()), OVERHEAD);
}

pub(crate) fn responder_sends_nothing_before_the_first_packet_under_new_keys<E: End>() {
    let (mut a, mut b) = ends::<E>();
    let initiation = a.initiate(true).unwrap();
    let response = reply(&mut b, &initiation);
    // It may not use the keys, and begins a handshake of its own for what it has to say.
    assert_eq!(E::size(&b.seal(Some(BYTES)).unwrap()), INITIATION);
    let confirmation = reply(&mut a, &response);
    assert_eq!(b.open(&confirmation), Got::Nothing);
    let waited = b.unqueue().unwrap();
    assert_eq!(a.open(&waited), Got::Inner(BYTES));
}

pub(crate) fn lost_first_initiation_is_sent_again_after_five_seconds<E: End>() {
    let (mut a, mut b) = ends::<E>();
    assert!(a.initiate(true).is_some());
    assert_eq!(a.initiate(false), None);
    let again = sends(&mut a, INITIATION, seconds(5));
    let response = reply(&mut b, &again);
    let confirmation = reply(&mut a, &response);
    assert_eq!(b.open(&confirmation), Got::Nothing);
    assert!(passes(&mut a, &mut b, BYTES) && passes(&mut b, &mut a, BYTES));
}

pub(crate) fn lost_response_leads_to_another_handshake<E: End>() {
    let (mut a, mut b) = ends::<E>();
    let initiation = a.initiate(true).unwrap();
    let _lost = reply(&mut b, &initiation);
    let again = sends(&mut a, INITIATION, seconds(5));
    let response = reply(&mut b, &again);
    let confirmation = reply(&mut a, &response);
    assert_eq!(b.open(&confirmation), Got::Nothing);
    assert!(passes(&mut a, &mut b, BYTES) && passes(&mut b, &mut a, BYTES));
}

pub(crate) fn lost_confirmation_is_made_good_by_the_next_packet<E: End>() {
    let (mut a, mut b) = ends::<E>();
    let initiation = a.initiate(true).unwrap();
    let response = reply(&mut b, &initiation);
    let _lost = reply(&mut a, &response);
    assert!(passes(&mut a, &mut b, BYTES));
    assert!(passes(&mut b, &mut a, BYTES));
}

pub(crate) fn crossed_initiations_both_end_in_keys<E: End>() {
    let (mut a, mut b) = ends::<E>();
    let (from_a, from_b) = (a.initiate(true).unwrap(), b.initiate(true).unwrap());
    let (by_a, by_b) = (reply(&mut a, &from_b), reply(&mut b, &from_a));
    let (confirmed_by_a, confirmed_by_b) = (reply(&mut a, &by_b), reply(&mut b, &by_a));
    assert_eq!(a.open(&confirmed_by_b), Got::Nothing);
    assert_eq!(b.open(&confirmed_by_a), Got::Nothing);
    for _ in 0..3 {
        assert!(passes(&mut a, &mut b, BYTES) && passes(&mut b, &mut a, BYTES));
    }
}

pub(crate) fn answers_to_the_last_two_initiations_are_taken_and_no_others<E: End>() {
    let (mut a, mut b) = ends::<E>();
    let initiations = [(); 3].map(|()| a.initiate(true).unwrap());
    let responses = initiations.map(|initiation| reply(&mut b, &initiation));
    assert_eq!(a.open(&responses[0]), Got::Refused);
    let second = reply(&mut a, &responses[1]);
    let third = reply(&mut a, &responses[2]);
    assert_eq!(a.open(&responses[2]), Got::Refused);
    assert_eq!(b.open(&third), Got::Nothing);
    assert_eq!(b.open(&second), Got::Nothing);
    assert!(passes(&mut a, &mut b, BYTES) && passes(&mut b, &mut a, BYTES));
}

pub(crate) fn initiation_that_is_replayed_or_overtaken_is_refused<E: End>() {
    let (mut a, mut b) = ends::<E>();
    let (first, second) = (a.initiate(true).unwrap(), a.initiate(true).unwrap());
    let response = reply(&mut b, &second);
    assert_eq!(b.open(&second), Got::Refused);
    assert_eq!(b.open(&first), Got::Refused);
    let confirmation = reply(&mut a, &response);
    assert_eq!(b.open(&confirmation), Got::Nothing);
}

pub(crate) fn packets_are_opened_once_in_any_order_within_a_window<E: End>() {
    let (mut a, mut b) = keyed::<E>();
    let packets: Vec<_> = (0..1_100).map(|_| a.seal(Some(BYTES)).unwrap()).collect();
    for index in [5, 3, 4, 1_099, 1_000, 200] {
        assert_eq!(b.open(&packets[index]), Got::Inner(BYTES), "{index}");
        assert_eq!(b.open(&packets[index]), Got::Refused, "{index} again");
    }
    // Further behind the newest than 1,024 (boringtun's window).
    assert_eq!(b.open(&packets[10]), Got::Refused);
}

pub(crate) fn messages_of_strangers_are_refused<E: End>() {
    let (mut a, mut b) = keyed::<E>();
    let mut stranger = E::new(3, 2);
    assert_eq!(b.open(&stranger.initiate(true).unwrap()), Got::Refused);
    let mut other = E::new(2, 3);
    let response = reply(&mut other, &stranger.initiate(true).unwrap());
    assert_eq!(a.open(&response), Got::Refused);
    let packet = reply(&mut stranger, &response);
    assert_eq!(b.open(&packet), Got::Refused);
    assert!(passes(&mut a, &mut b, BYTES));
}

/// Both sides talk once a second until one begins a handshake; which of them, and when.
fn talk<E: End>(a: &mut E, b: &mut E, a_talks: bool, b_talks: bool) -> (char, Duration) {
    let start = clock::now();
    loop {
        for _ in 0..10 {
            clock::advance(STEP);
            for name in ['a', 'b'] {
                let end = if name == 'a' { &mut *a } else { &mut *b };
                let due = end.tick();
                match due {
                    Due::Nothing => {}
                    Due::Send(packet) if E::size(&packet) == INITIATION => {
                        return (name, clock::now() - start);
                    }
                    Due::Send(packet) => {
                        let other = if name == 'a' { &mut *b } else { &mut *a };
                        assert_eq!(other.open(&packet), Got::Nothing);
                    }
                    Due::Expired => panic!("{name} has expired"),
                }
            }
        }
        assert!(!a_talks || passes(a, b, BYTES));
        assert!(!b_talks || passes(b, a, BYTES));
    }
}

pub(crate) fn initiator_renews_keys_in_use_after_two_minutes<E: End>() {
    for b_talks in [false, true] {
        let (mut a, mut b) = keyed::<E>();
        let (who, after) = talk(&mut a, &mut b, true, b_talks);
        assert_eq!(who, 'a');
        assert!((119..=121).contains(&after.as_secs()), "{after:?}");
    }
}

pub(crate) fn initiator_that_only_receives_renews_keys_before_they_are_refused<E: End>() {
    let (mut a, mut b) = keyed::<E>();
    let (who, after) = talk(&mut a, &mut b, false, true);
    assert_eq!(who, 'a');
    assert!((164..=166).contains(&after.as_secs()), "{after:?}");
}

pub(crate) fn packets_on_their_way_survive_new_keys<E: End>() {
    let (mut a, mut b) = keyed::<E>();
    let under_old = [a.seal(Some(BYTES)).unwrap(), b.seal(Some(BYTES)).unwrap()];
    shake_hands(&mut a, &mut b);
    assert!(passes(&mut a, &mut b, BYTES) && passes(&mut b, &mut a, BYTES));
    assert_eq!(b.open(&under_old[0]), Got::Inner(BYTES));
    assert_eq!(a.open(&under_old[1]), Got::Inner(BYTES));
    assert!(passes(&mut a, &mut b, BYTES) && passes(&mut b, &mut a, BYTES));
}

pub(crate) fn keys_are_not_used_after_three_minutes<E: End>() {
    let (mut a, mut b) = keyed::<E>();
    let old = a.seal(Some(BYTES)).unwrap();
    let silent = clock::now() + seconds(182);
    while clock::now() < silent {
        clock::advance(STEP);
        // What a sends (it has heard nothing) is lost.
        let _ = a.tick();
        assert_eq!(b.tick(), Due::Nothing);
    }
    assert_eq!(b.open(&old), Got::Refused);
    assert_eq!(E::size(&b.seal(Some(BYTES)).unwrap()), INITIATION);
}

pub(crate) fn idle_tunnel_says_nothing_and_is_dead_after_nine_minutes<E: End>() {
    let (mut a, mut b) = keyed::<E>();
    idle(&mut a, &mut b, seconds(539));
    for end in [&mut a, &mut b] {
        let (at, due) = first_due(end, seconds(3)).unwrap();
        assert_eq!(due, Due::Expired, "{at:?}");
        assert_eq!(end.tick(), Due::Expired);
    }
}

/// It goes on where it was: made anew, it would not know which of the peer's initiations are old.
pub(crate) fn dead_tunnel_knows_old_initiations_and_shakes_hands_with_either_side<E: End>() {
    for a_begins in [true, false] {
        let (mut a, mut b) = ends::<E>();
        let old = a.initiate(false).unwrap();
        let response = reply(&mut b, &old);
        let confirmation = reply(&mut a, &response);
        assert_eq!(b.open(&confirmation), Got::Nothing);
        idle(&mut a, &mut b, seconds(539));
        for end in [&mut a, &mut b] {
            assert_eq!(first_due(end, seconds(3)).unwrap().1, Due::Expired);
        }
        assert_eq!(b.open(&old), Got::Refused);
        let (one, other) = if a_begins { (&mut a, &mut b) } else { (&mut b, &mut a) };
        let initiation = one.initiate(false).unwrap();
        let response = reply(other, &initiation);
        let confirmation = reply(one, &response);
        assert_eq!(other.open(&confirmation), Got::Nothing);
        assert!(passes(one, other, BYTES) && passes(other, one, BYTES));
        assert_eq!((one.tick(), other.tick()), (Due::Nothing, Due::Nothing));
    }
}

pub(crate) fn initiations_that_nobody_answers_end_after_ninety_seconds<E: End>() {
    let (mut a, _) = ends::<E>();
    let start = clock::now();
    a.initiate(true).unwrap();
    let mut initiations = 1;
    loop {
        match first_due(&mut a, seconds(10)).unwrap() {
            (_, Due::Send(packet)) => assert_eq!(E::size(&packet), INITIATION),
            (_, Due::Expired) => break,
            (_, Due::Nothing) => unreachable!("it is not told"),
        }
        initiations += 1;
    }
    let after = clock::now() - start;
    assert!((89..=91).contains(&after.as_secs()), "{after:?}");
    assert!((17..=18).contains(&initiations), "{initiations}");
}

pub(crate) fn who_has_received_and_says_nothing_sends_a_keepalive_after_ten_seconds<E: End>() {
    let (mut a, mut b) = keyed::<E>();
    idle(&mut a, &mut b, seconds(1));
    assert!(passes(&mut a, &mut b, BYTES));
    // Ten seconds after it has sent the last time (boringtun), which was the response.
    let keepalive = sends(&mut b, OVERHEAD, seconds(9));
    assert_eq!(a.open(&keepalive), Got::Nothing);
    // It was said, and is not said again.
    idle(&mut a, &mut b, seconds(30));
}

pub(crate) fn who_sends_and_hears_nothing_begins_a_handshake_after_fifteen_seconds<E: End>() {
    for b_sends in [false, true] {
        let (mut a, mut b) = keyed::<E>();
        idle(&mut a, &mut b, seconds(2));
        let end = if b_sends { &mut b } else { &mut a };
        let _lost = end.seal(Some(BYTES)).unwrap();
        // Fifteen seconds after it has heard something the last time (boringtun).
        sends(end, INITIATION, seconds(13));
    }
}

pub(crate) fn packets_wait_for_keys_and_not_too_many_of_them<E: End>() {
    let (mut a, mut b) = ends::<E>();
    let initiation = a.seal(Some(20)).unwrap();
    for number in 1..300 {
        assert_eq!(a.seal(Some(20 + number)), None);
    }
    let response = reply(&mut b, &initiation);
    let confirmation = reply(&mut a, &response);
    assert_eq!(b.open(&confirmation), Got::Nothing);
    let mut waited = Vec::new();
    while let Some(packet) = a.unqueue() {
        match b.open(&packet) {
            Got::Inner(bytes) => waited.push(bytes),
            other => panic!("{other:?}"),
        }
    }
    // 256 of them (boringtun), the first ones.
    assert_eq!(waited, (20..276).collect::<Vec<_>>());
}

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(198, 18, 0, last).into()
}

/// So many handshakes from there that the next is asked for a cookie.
fn overwhelm<E: End>(a: &mut E, b: &mut E, from: IpAddr) -> (E::Packet, E::Packet) {
    for _ in 0..10 {
        let initiation = a.initiate(true).unwrap();
        assert!(
            matches!(b.open_from(from, &initiation), Got::Reply(reply) if E::size(&reply) == RESPONSE)
        );
    }
    let initiation = a.initiate(true).unwrap();
    match b.open_from(from, &initiation) {
        Got::Reply(cookie) => {
            assert_eq!(E::size(&cookie), COOKIE);
            (initiation, cookie)
        }
        other => panic!("{other:?} in place of a cookie"),
    }
}

pub(crate) fn too_many_handshakes_are_asked_for_a_cookie_which_then_opens_the_door<E: End>() {
    let (mut a, mut b) = ends::<E>();
    let (_, cookie) = overwhelm(&mut a, &mut b, address(1));
    assert_eq!(a.open(&cookie), Got::Nothing);
    let elsewhere = a.initiate(true).unwrap();
    // From another address the cookie is worth nothing.
    assert!(
        matches!(b.open_from(address(9), &elsewhere), Got::Reply(reply) if E::size(&reply) == COOKIE)
    );
    let initiation = a.initiate(true).unwrap();
    let Got::Reply(response) = b.open_from(address(1), &initiation) else {
        panic!("the cookie was shown");
    };
    assert_eq!(E::size(&response), RESPONSE);
    let confirmation = reply(&mut a, &response);
    assert_eq!(b.open(&confirmation), Got::Nothing);
    // A second later nobody is under load.
    clock::advance(seconds(2));
    assert_eq!(b.tick(), Due::Nothing);
    let mut fresh = E::new(1, 2);
    let initiation = fresh.initiate(true).unwrap();
    assert!(
        matches!(b.open_from(address(9), &initiation), Got::Reply(reply) if E::size(&reply) == RESPONSE)
    );
}

pub(crate) fn cookie_is_good_for_two_minutes_at_most<E: End>() {
    let (mut a, mut b) = ends::<E>();
    let (_, cookie) = overwhelm(&mut a, &mut b, address(1));
    assert_eq!(a.open(&cookie), Got::Nothing);
    // A cookie of somebody else's handshake is refused.
    let mut other = E::new(1, 2);
    other.initiate(true).unwrap();
    assert_eq!(other.open(&cookie), Got::Refused);
    clock::advance(seconds(125));
    let _ = a.tick();
    let _ = b.tick();
    let (_, cookie) = overwhelm(&mut a, &mut b, address(1));
    assert_eq!(E::size(&cookie), COOKIE);
}
