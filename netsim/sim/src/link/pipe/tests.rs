//! What holds for every profile and every traffic.

use proptest::prelude::*;

use super::super::loss::Loss;
use super::super::profile::{Mtu, Reorder};
use super::*;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const MS: Duration = Duration::from_millis(1);

/// A pipe with its random numbers.
struct Seeded(Pipe, ChaCha8Rng);

impl Seeded {
    fn new(way: OneWay, seed: u64) -> Self {
        Self(Pipe::new(way), ChaCha8Rng::seed_from_u64(seed))
    }

    fn pass(&mut self, now: Duration, bytes: u32) -> Passage {
        self.0.pass(now, bytes, &mut self.1)
    }
}

fn pipe(way: OneWay) -> Seeded {
    Seeded::new(way, 1)
}

fn arrival(passage: Passage) -> Option<Duration> {
    match passage {
        Passage::Arrives { at, .. } => Some(at),
        Passage::Lost | Passage::QueueFull | Passage::TooBig { .. } | Passage::Down => None,
    }
}

prop_compose! {
    fn ways()(
        delay_us in 0u64..50_000,
        jitter_us in 0u64..20_000,
        jitter_reorders: bool,
        share in 0.0..0.3f64,
        bits_per_s in 10_000u64..10_000_000,
        queue_bytes in 0u32..100_000,
        hold_us in 0u64..10_000,
    ) -> OneWay {
        OneWay {
            delay: Duration::from_micros(delay_us),
            jitter: Duration::from_micros(jitter_us),
            jitter_reorders,
            loss: Loss::Independent(share),
            rate: Some(Rate { bits_per_s, queue_bytes }),
            mtu: None,
            duplicate: share,
            reorder: Some(Reorder { share, hold: Duration::from_micros(hold_us) }),
        }
    }
}

/// Gaps between packets in microseconds, and sizes in bytes.
fn traffic() -> impl Strategy<Value = Vec<(u64, u32)>> {
    prop::collection::vec((0u64..20_000, 20u32..1500), 1..200)
}

proptest! {
    #[test]
    fn nothing_arrives_before_its_delay(way in ways(), traffic in traffic(), seed: u64) {
        let mut pipe = Seeded::new(way, seed);
        let mut now = Duration::ZERO;
        for (gap, bytes) in traffic {
            now += Duration::from_micros(gap);
            if let Passage::Arrives { at, again } = pipe.pass(now, bytes) {
                let least = now + way.delay + way.rate.unwrap().time_of(bytes);
                prop_assert!(at >= least);
                prop_assert!(again.is_none_or(|again| again >= least));
            }
        }
    }

    /// The bits that leave in any window are no more than the rate allows in it: seen at the end,
    /// where constant delay keeps the spacing. Copies count.
    #[test]
    fn rate_holds_over_every_window(way in ways(), traffic in traffic(), seed: u64) {
        let way = OneWay { jitter: Duration::ZERO, reorder: None, ..way };
        let rate = way.rate.unwrap();
        let mut pipe = Seeded::new(way, seed);
        let mut now = Duration::ZERO;
        let mut arrivals = Vec::new();
        for (gap, bytes) in traffic {
            now += Duration::from_micros(gap);
            if let Passage::Arrives { at, again } = pipe.pass(now, bytes) {
                arrivals.push((at, bytes));
                arrivals.extend(again.map(|at| (at, bytes)));
            }
        }
        arrivals.sort();
        for first in 0..arrivals.len() {
            let mut bits = 0u128;
            for (at, bytes) in &arrivals[first..] {
                bits += u128::from(*bytes) * 8;
                // The window opens when the first bit of the first packet leaves.
                let window = *at - arrivals[first].0 + rate.time_of(arrivals[first].1);
                let allowed = window.as_nanos() * u128::from(rate.bits_per_s);
                prop_assert!(bits * 1_000_000_000 <= allowed);
            }
        }
    }

    #[test]
    fn nobody_waits_longer_than_the_queue(way in ways(), traffic in traffic(), seed: u64) {
        let rate = way.rate.unwrap();
        let mut pipe = Seeded::new(way, seed);
        let mut now = Duration::ZERO;
        for (gap, bytes) in traffic {
            now += Duration::from_micros(gap);
            pipe.pass(now, bytes);
            let most = rate.time_of(rate.queue_bytes.max(1500));
            prop_assert!(pipe.0.busy_until.saturating_sub(now) <= most);
        }
    }

    #[test]
    fn jitter_keeps_the_order_unless_told_otherwise(way in ways(), seed: u64) {
        let way = OneWay { jitter_reorders: false, reorder: None, ..way };
        let mut pipe = Seeded::new(way, seed);
        let arrivals: Vec<_> = (0..100).filter_map(|ms| arrival(pipe.pass(MS * ms, 100))).collect();
        prop_assert!(arrivals.is_sorted());
    }
}

#[test]
fn held_packets_are_overtaken() {
    let reorder = Some(Reorder { share: 0.2, hold: MS * 10 });
    let mut pipe = pipe(OneWay { reorder, ..OneWay::PERFECT });
    let arrivals: Vec<_> = (0..100).filter_map(|ms| arrival(pipe.pass(MS * ms, 100))).collect();
    assert!(!arrivals.is_sorted());
}

#[test]
fn full_queue_drops_the_tail_and_drains() {
    // 1,000 bytes take 8 ms; three of them fit.
    let rate = Some(Rate { bits_per_s: 1_000_000, queue_bytes: 3_000 });
    let mut pipe = pipe(OneWay { rate, ..OneWay::PERFECT });
    let at = |ms| Passage::Arrives { at: MS * ms, again: None };
    let passages: Vec<_> = (0..4).map(|_| pipe.pass(Duration::ZERO, 1_000)).collect();
    assert_eq!(passages, [at(8), at(16), at(24), Passage::QueueFull]);
    assert_eq!(pipe.pass(MS * 7, 1_000), Passage::QueueFull);
    assert_eq!(pipe.pass(MS * 8, 1_000), at(32));
}

#[test]
fn too_big_and_down_are_told_apart() {
    let mtu = Some(Mtu { bytes: 1280, too_big: TooBig::Notice });
    let mut pipe = pipe(OneWay { mtu, ..OneWay::PERFECT });
    let too_big = Passage::TooBig { mtu_bytes: 1280, notice: true };
    assert_eq!(pipe.pass(MS, 1281), too_big);
    assert!(arrival(pipe.pass(MS, 1280)).is_some());
    pipe.0.set_down(true);
    assert_eq!(pipe.pass(MS, 1280), Passage::Down);
}
