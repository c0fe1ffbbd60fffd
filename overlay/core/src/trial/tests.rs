use rand::SeedableRng;

use super::*;

const PATIENCE: Duration = Duration::from_millis(400);

fn trial(now: Instant) -> Trial {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let endpoint = "203.0.113.1:4000".parse().unwrap();
    let mut trial = Trial::new(now, endpoint, Origin::Announced, Duration::ZERO, &mut rng);
    trial.due = Some(now);
    trial
}

/// Runs the timers until `end`; the times and sizes of the pings in milliseconds and bytes.
fn run(trial: &mut Trial, start: Instant, end: Duration) -> Vec<(u128, usize)> {
    let mut pings = Vec::new();
    while let Some(at) = trial.next_timer().filter(|at| *at <= start + end) {
        let size = trial.fire_due_timers(at, PATIENCE);
        pings.extend(size.map(|size| ((at - start).as_millis(), size)));
    }
    pings
}

#[test]
fn silent_endpoint_gets_twelve_pings_and_settles_after_the_sixth() {
    let start = Instant::now();
    let mut trial = trial(start);
    run(&mut trial, start, Duration::from_millis(3399));
    assert!(!trial.is_settled());
    run(&mut trial, start, Duration::from_millis(3400));
    assert!(trial.is_settled() && !trial.is_at_rest());
    run(&mut trial, start, Duration::from_secs(1000));
    assert!(trial.is_at_rest());
    assert_eq!(trial.sent_ever(), BUDGET);
}

#[test]
fn pings_keep_their_gaps() {
    let start = Instant::now();
    let times: Vec<u128> =
        run(&mut trial(start), start, Duration::from_secs(3)).iter().map(|ping| ping.0).collect();
    assert_eq!(times, [0, 200, 500, 1000, 2000, 3000]);
}

#[test]
fn answer_brings_the_full_size_ping_and_at_least_three_more() {
    let start = Instant::now();
    let mut trial = trial(start);
    run(&mut trial, start, Duration::ZERO);
    let took = Duration::from_millis(10);
    trial.on_pong(start + took, MIN_PING, took);
    assert!(trial.is_answered() && !trial.is_proven());
    assert_eq!(run(&mut trial, start, took), [(10, MESH_MTU)]);
    trial.on_pong(start + took * 2, MESH_MTU, took);
    assert!(trial.is_proven());
    assert_eq!(run(&mut trial, start, Duration::from_secs(100)).len(), 3);
    assert!(trial.is_at_rest());
}

#[test]
fn endpoint_that_carries_only_small_packets_settles_unproven() {
    let start = Instant::now();
    let mut trial = trial(start);
    run(&mut trial, start, Duration::ZERO);
    trial.on_pong(start, MIN_PING, Duration::ZERO);
    let pings = run(&mut trial, start, Duration::from_secs(100));
    assert_eq!(pings.len(), FULL_SIZE_BUDGET as usize);
    assert!(trial.is_settled() && !trial.is_proven() && trial.is_at_rest());
}

#[test]
fn peer_that_pings_all_the_time_does_not_make_us_ping_all_the_time() {
    let start = Instant::now();
    let mut trial = trial(start);
    let mut sent = 0;
    for ms in 0..60_000 {
        let now = start + Duration::from_millis(ms);
        trial.on_peer_ping(now);
        sent += u32::from(trial.fire_due_timers(now, PATIENCE).is_some());
    }
    assert!(sent <= BUDGET + 12 * RETRY_BUDGET, "{sent} pings in a minute");
}

#[test]
fn largest_size_that_passes_is_the_mtu() {
    for (passes, expected) in [
        (1279, None),
        (1280, Some(1280)),
        (1359, Some(1280)),
        (1360, Some(1360)),
        (1412, Some(1412)),
    ] {
        let start = Instant::now();
        let mut trial = trial(start);
        let mut sent = 0;
        while let Some(at) = trial.next_timer() {
            if let Some(size) = trial.fire_due_timers(at, PATIENCE) {
                sent += 1;
                if size <= passes {
                    trial.on_pong(at, size, Duration::ZERO);
                }
            }
        }
        assert_eq!(trial.mtu(), expected, "{passes} bytes pass");
        assert!(sent <= 12 && trial.is_settled(), "{sent} pings");
    }
}

#[test]
fn woken_endpoint_is_asked_at_once_with_the_size_that_it_carried() {
    let start = Instant::now();
    let mut trial = trial(start);
    run(&mut trial, start, Duration::ZERO);
    trial.on_pong(start, MIN_PING, Duration::ZERO);
    trial.on_pong(start, 1360, Duration::ZERO);
    trial.rest();
    assert_eq!(trial.next_timer(), None);
    trial.wake(start);
    assert!(!trial.is_proven());
    assert_eq!(run(&mut trial, start, Duration::from_millis(200)), [(0, 1360), (200, MIN_PING)]);
    trial.on_pong(start, 1360, Duration::ZERO);
    assert_eq!(trial.mtu(), Some(1360));
}
