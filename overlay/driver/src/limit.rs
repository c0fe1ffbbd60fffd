//! What the owner grants the network: bytes per second, and a volume, in one bucket over everything that takes from it.
//!
//! The bucket is one number, the moment at which all that was taken is paid for (the virtual scheduling of ATM's
//! cells, ITU-T I.371, with integers): a take moves it on by the time that its bytes cost. It may lie ahead of the
//! clock by [`SLACK`]; what wants more then waits, or is dropped where it cannot. Data is taken by superpackets,
//! so that the cost is a few atomic operations for dozens of packets, and one addition where there is no limit.
//! What is taken counts always; when it has reached the volume's end, a trickle is all that passes.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How far ahead of its rate a burst may be. Chosen: a round trip of most connections, so that what comes in
/// bursts, as TCP does, is not cut where its mean keeps to the rate.
const SLACK: Duration = Duration::from_millis(100);

const NANOS: u128 = 1_000_000_000;

/// The longest packet of a job, bytes: the MTU of the agent's meshes.
const PACKET: usize = 1412;

/// What the way adds to each: IPv6 (40), UDP (8), the relay's frame (8), WireGuard (32).
const HEADERS: usize = 88;

/// What so many bytes of a job's packets are on the owner's line, about: the kernel hands over dozens as one.
pub(crate) fn on_the_line(bytes: usize) -> usize {
    bytes + HEADERS * bytes.div_ceil(PACKET).max(1)
}

/// Bytes that pass at the full rate, and what passes afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Bytes, from now on.
    pub bytes: u64,
    /// Bytes per second when they are used up.
    pub trickle: NonZeroU64,
}

/// See the module. Shared by all that it limits; rate and volume may change at any time.
#[derive(Debug)]
pub struct RateLimit {
    /// Bytes per second; 0: no limit.
    rate: AtomicU64,
    /// How much may be taken in all before only the trickle passes; `u64::MAX`: without an end.
    volume_end: AtomicU64,
    /// Bytes per second then.
    trickle: AtomicU64,
    /// When all that was taken is paid for, in nanoseconds since `started`.
    paid_at: AtomicU64,
    taken: AtomicU64,
    started: Instant,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::new(None)
    }
}

impl RateLimit {
    /// A limit of so many bytes per second; none: everything passes.
    pub fn new(bytes_per_second: Option<NonZeroU64>) -> Self {
        Self {
            rate: AtomicU64::new(bytes_per_second.map_or(0, NonZeroU64::get)),
            volume_end: AtomicU64::new(u64::MAX),
            trickle: AtomicU64::new(0),
            paid_at: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            started: Instant::now(),
        }
    }

    /// Another rate from now on. What was taken before is forgiven.
    pub fn set(&self, bytes_per_second: Option<NonZeroU64>) {
        self.rate.store(bytes_per_second.map_or(0, NonZeroU64::get), Ordering::Relaxed);
        self.paid_at.store(0, Ordering::Relaxed);
    }

    /// Another volume from now on; none: without an end. What was taken before is forgiven.
    pub fn set_volume(&self, volume: Option<Volume>) {
        let end = volume.map_or(u64::MAX, |volume| self.taken().saturating_add(volume.bytes));
        self.trickle.store(volume.map_or(0, |volume| volume.trickle.get()), Ordering::Relaxed);
        self.volume_end.store(end, Ordering::Relaxed);
        self.paid_at.store(0, Ordering::Relaxed);
    }

    /// Bytes per second that pass now; none: everything passes.
    pub fn bytes_per_second(&self) -> Option<NonZeroU64> {
        let rate = NonZeroU64::new(self.rate.load(Ordering::Relaxed));
        if !self.is_used_up() {
            return rate;
        }
        let trickle = NonZeroU64::new(self.trickle.load(Ordering::Relaxed));
        rate.into_iter().chain(trickle).min()
    }

    /// The volume has come to its end.
    pub fn is_used_up(&self) -> bool {
        self.taken() >= self.volume_end.load(Ordering::Relaxed)
    }

    /// Bytes taken since the start.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes bytes that go in any case, such as what was read already; whoever asks waits for
    /// [`wait`](Self::wait) before the next.
    pub fn take(&self, bytes: usize) {
        match self.bytes_per_second() {
            Some(rate) => self.take_at(self.now(), rate, bytes),
            None => self.count(bytes),
        }
    }

    /// Takes bytes unless too many were taken; false: they must not go.
    pub fn try_take(&self, bytes: usize) -> bool {
        let Some(rate) = self.bytes_per_second() else {
            self.count(bytes);
            return true;
        };
        let now = self.now();
        let may = self.wait_at(now) == 0;
        if may {
            self.take_at(now, rate, bytes);
        }
        may
    }

    /// How long nothing more should be taken.
    pub fn wait(&self) -> Duration {
        match self.bytes_per_second() {
            None => Duration::ZERO,
            Some(_) => Duration::from_nanos(self.wait_at(self.now())),
        }
    }

    fn take_at(&self, now: u64, rate: NonZeroU64, bytes: usize) {
        let cost = bytes as u128 * NANOS / u128::from(rate.get());
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        let moved = |paid_at: u64| Some(paid_at.max(now).saturating_add(cost));
        // It never refuses.
        let _ = self.paid_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, moved);
        self.count(bytes);
    }

    fn count(&self, bytes: usize) {
        self.taken.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn wait_at(&self, now: u64) -> u64 {
        let slack = SLACK.as_nanos() as u64;
        self.paid_at.load(Ordering::Relaxed).saturating_sub(now.saturating_add(slack))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = NANOS as u64;
    const FRAME: usize = 60_000;

    fn rate(bytes: u64) -> NonZeroU64 {
        NonZeroU64::new(bytes).unwrap()
    }

    /// Takes frames whenever that is allowed, for so many seconds; the bytes taken.
    fn taken_in(limit: &RateLimit, rate: NonZeroU64, seconds: u64) -> u64 {
        let (mut now, mut bytes) = (0, 0);
        while now < seconds * SECOND {
            match limit.wait_at(now) {
                0 => {
                    limit.take_at(now, rate, FRAME);
                    bytes += FRAME as u64;
                }
                wait => now += wait,
            }
        }
        bytes
    }

    #[test]
    fn the_rate_is_kept_to_but_for_one_burst() {
        for per_second in [100_000, 1_250_000, 125_000_000, 12_500_000_000] {
            let per_second = rate(per_second);
            let limit = RateLimit::new(Some(per_second));
            let taken = taken_in(&limit, per_second, 10);
            let granted = per_second.get() * 10;
            let burst = per_second.get() / 10 + 2 * FRAME as u64;
            assert!((granted..=granted + burst).contains(&taken), "{taken} of {granted}");
            assert_eq!(limit.taken(), taken);
        }
    }

    #[test]
    fn an_hour_of_rest_gives_no_more_than_the_slack() {
        let per_second = rate(1_000_000);
        let limit = RateLimit::new(Some(per_second));
        let now = 3600 * SECOND;
        let mut bytes = 0;
        while limit.wait_at(now) == 0 {
            limit.take_at(now, per_second, 1000);
            bytes += 1000;
        }
        assert_eq!(
            bytes, 101_000,
            "what a tenth of a second grants, and the one that was too much"
        );
    }

    #[test]
    fn without_a_limit_everything_passes_and_one_may_come_and_go() {
        let limit = RateLimit::default();
        assert!((0..1000).all(|_| limit.try_take(FRAME)));
        assert_eq!((limit.wait(), limit.taken()), (Duration::ZERO, 1000 * FRAME as u64));

        limit.set(Some(rate(1000)));
        assert!(limit.try_take(FRAME), "the first is taken whole");
        assert!(!limit.try_take(1));
        assert!(limit.wait() > Duration::from_secs(50));
        limit.set(Some(rate(2000)));
        assert!(limit.try_take(FRAME), "a new limit begins anew");
        limit.set(None);
        assert!(limit.try_take(FRAME));
        assert_eq!(limit.wait(), Duration::ZERO);
    }

    #[test]
    fn the_line_carries_headers_too() {
        assert_eq!([0, 1, 1412, 1413].map(on_the_line), [88, 89, 1500, 1589]);
        assert_eq!(on_the_line(40 * 1412), 40 * 1500);
    }

    #[test]
    fn a_volume_passes_whole_and_then_a_trickle_until_there_is_another() {
        let limit = RateLimit::default();
        limit.take(FRAME);
        let volume = |frames: usize| Volume { bytes: (frames * FRAME) as u64, trickle: rate(1000) };
        limit.set_volume(Some(volume(3)));
        assert!((0..3).all(|_| !limit.is_used_up() && limit.try_take(FRAME)));
        assert!(limit.is_used_up());
        assert_eq!(limit.bytes_per_second(), Some(rate(1000)));
        assert!(limit.try_take(FRAME), "the first of the trickle is taken whole");
        assert!(!limit.try_take(1) && limit.wait() > Duration::from_secs(50));
        assert_eq!(limit.taken(), 5 * FRAME as u64, "what must not go is not counted");

        // A rate below the trickle stays.
        limit.set(Some(rate(10)));
        assert_eq!(limit.bytes_per_second(), Some(rate(10)));
        limit.set(Some(rate(5000)));
        assert_eq!(limit.bytes_per_second(), Some(rate(1000)));

        limit.set_volume(Some(volume(1)));
        assert_eq!((limit.wait(), limit.bytes_per_second()), (Duration::ZERO, Some(rate(5000))));
        limit.set_volume(None);
        limit.set(None);
        assert!((0..1000).all(|_| limit.try_take(FRAME)) && !limit.is_used_up());
    }

    #[test]
    fn absurd_figures_wait_for_ever_and_break_nothing() {
        let limit = RateLimit::new(Some(rate(1)));
        limit.take(usize::MAX);
        limit.take(usize::MAX);
        assert!(!limit.try_take(0));
        let limit = RateLimit::new(Some(rate(u64::MAX)));
        limit.take(1 << 40);
        assert!(limit.try_take(1));
        limit.set_volume(Some(Volume { bytes: u64::MAX, trickle: rate(1) }));
        assert!(limit.try_take(1) && !limit.is_used_up());
    }
}
