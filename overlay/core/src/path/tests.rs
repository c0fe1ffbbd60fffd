use super::*;

const AROUND: Surroundings =
    Surroundings { rtt: Some(Duration::ZERO), can_rest: true, keepalive: KEEPALIVE };

fn direct() -> Path {
    Path::Direct("203.0.113.1:4000".parse().unwrap())
}

fn relayed() -> Path {
    Path::Relayed { relay: "203.0.113.9:6444".parse().unwrap(), channel: 7 }
}

/// What falls due until `end`, with its time in milliseconds.
fn run(selected: &mut Selected, start: Instant, end_s: u64) -> Vec<(u128, Due)> {
    let end = start + Duration::from_secs(end_s);
    let mut seen = Vec::new();
    let mut at = start;
    while at <= end {
        for due in selected.fire_due_timers(at, &AROUND) {
            if due == Due::Doubt {
                selected.also = Some(relayed());
            }
            seen.push(((at - start).as_millis(), due));
        }
        let Some(next) = selected.next_timer(&AROUND) else { break };
        assert!(next > at, "a timer is still due");
        at = next;
    }
    seen
}

fn without_pings(seen: &[(u128, Due)]) -> Vec<(u128, Due)> {
    seen.iter().filter(|(_, due)| *due != Due::Ping).copied().collect()
}

#[test]
fn data_without_an_answer_is_doubted_in_two_seconds_and_given_up_in_nine() {
    let start = Instant::now();
    let mut selected = Selected::new(start, direct(), start);
    selected.on_sent(start);
    let seen = run(&mut selected, start, 9);
    assert_eq!(seen[0], (1000, Due::Ping));
    assert_eq!(without_pings(&seen), [(1900, Due::Doubt), (9000, Due::GiveUp)]);
}

#[test]
fn answered_data_is_only_a_heartbeat() {
    let start = Instant::now();
    let mut selected = Selected::new(start, direct(), start);
    let mut pings = 0;
    for tick in 0..100 {
        let now = start + Duration::from_millis(tick * 100);
        selected.on_sent(now);
        selected.on_heard(now, direct(), true);
        for due in selected.fire_due_timers(now, &AROUND) {
            assert_eq!(due, Due::Ping);
            pings += 1;
            selected.on_pong(direct());
        }
    }
    assert_eq!(pings, 3, "in ten seconds");
}

#[test]
fn long_round_trip_gets_its_time() {
    let start = Instant::now();
    let mut selected = Selected::new(start, direct(), start);
    let around = Surroundings { rtt: Some(Duration::from_millis(600)), ..AROUND };
    selected.question_now();
    selected.fire_due_timers(start, &around);
    let due = selected.fire_due_timers(start + Duration::from_millis(2600), &around);
    assert!(!due.contains(&Due::Doubt));
    let due = selected.fire_due_timers(start + Duration::from_millis(2700), &around);
    assert!(due.contains(&Due::Doubt));
}

#[test]
fn direct_path_without_data_is_kept_alive_and_then_rests() {
    let start = Instant::now();
    let mut selected = Selected::new(start, direct(), start);
    assert_eq!(selected.next_timer(&AROUND), Some(start + KEEPALIVE));
    let end = start + IDLE_AFTER;
    assert_eq!(selected.fire_due_timers(end, &AROUND), [Due::Rest]);
    let nowhere = Surroundings { can_rest: false, ..AROUND };
    assert_eq!(selected.fire_due_timers(end, &nowhere), [Due::Ping]);
}

#[test]
fn resting_pair_needs_nothing_and_its_next_data_is_asked_after() {
    let start = Instant::now();
    let mut selected = Selected::resting(start, relayed(), start);
    assert_eq!(selected.next_timer(&AROUND), None);
    let hour = start + Duration::from_secs(3600);
    selected.on_sent(hour);
    assert_eq!(selected.fire_due_timers(hour, &AROUND), [Due::Ping]);
}

#[test]
fn pong_ends_the_doubt() {
    let start = Instant::now();
    let mut selected = Selected::new(start, direct(), start);
    selected.question_now();
    run(&mut selected, start, 2);
    assert!(selected.also.is_some() && selected.is_doubted());
    assert!(selected.on_pong(direct()));
    assert_eq!((selected.also, selected.questioned), (None, None));
}

#[test]
fn silent_relay_is_doubted_then_the_keys_are_renewed_and_peace_returns() {
    let start = Instant::now();
    let mut selected = Selected::new(start, relayed(), start);
    selected.on_sent(start);
    let seen = run(&mut selected, start, 3600);
    let first: Vec<_> = without_pings(&seen).into_iter().take(3).map(|(_, due)| due).collect();
    assert_eq!(first, [Due::Doubt, Due::RenewKeys, Due::GiveUp]);
    let last = seen.last().map(|(at, _)| *at);
    assert!(last.is_some_and(|at| at <= 46_000), "still busy at {last:?}");
}
