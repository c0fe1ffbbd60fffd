//! Limits of a relay, and the token bucket that holds channels to theirs.

use std::time::{Duration, Instant};

/// What a relay grants at most.
#[derive(Clone, Copy, Debug)]
pub struct RelayLimits {
    /// Channels with a bound side. Chosen: a million pairs' worth of jobs would need 15 relays;
    /// at about 200 bytes a channel the table stays below 15 MB.
    pub max_channels: usize,
    /// Rate of each channel, both directions together. Chosen: 1 Gbit/s, above any home uplink.
    pub channel_rate: ByteRate,
    /// How long packets beyond the channel's rate are held back, in order, before they are dropped. A
    /// queue lets TCP find the rate with large windows and few losses (measured: at the rate, one packet
    /// a system call without it and dozens with it). Chosen: a router's short queue.
    pub channel_hold: Duration,
    /// Rate of the relay as a whole. Chosen: 10 Gbit/s, above what one thread forwards.
    pub total_rate: ByteRate,
    /// Bytes that a channel may carry from its first bind until it falls idle. Chosen: 1 TiB.
    pub channel_quota: u64,
    /// Silence after which a bind is forgotten. From the wire format: six refreshes of 20 s.
    pub bind_lifetime: Duration,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            max_channels: 65_536,
            channel_rate: ByteRate { bytes_per_second: 125_000_000, burst: 16_000_000 },
            channel_hold: Duration::from_millis(12),
            total_rate: ByteRate { bytes_per_second: 1_250_000_000, burst: 64_000_000 },
            channel_quota: 1 << 40,
            bind_lifetime: Duration::from_secs(120),
        }
    }
}

impl RelayLimits {
    /// The same with another rate of each channel, bytes per second; the relay's is no smaller.
    pub fn with_channel_rate(mut self, bytes_per_second: u64) -> Self {
        self.channel_rate.bytes_per_second = bytes_per_second;
        let total = &mut self.total_rate.bytes_per_second;
        *total = bytes_per_second.max(*total);
        self
    }
}

/// A rate with room for bursts.
#[derive(Clone, Copy, Debug)]
pub struct ByteRate {
    /// The rate that can be kept up.
    pub bytes_per_second: u64,
    /// What can go at once after silence, bytes.
    pub burst: u64,
}

/// A token bucket: a token is a byte. Tokens may be owed for a while.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: i64,
    filled_at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn full(rate: &ByteRate, now: Instant) -> Self {
        Self { tokens: i64::try_from(rate.burst).unwrap_or(i64::MAX), filled_at: now }
    }

    /// Takes `bytes` tokens, and tells how long it takes until they are there. None, and nothing is
    /// taken, when that is longer than `patience`.
    pub(crate) fn take(
        &mut self,
        rate: &ByteRate,
        now: Instant,
        bytes: u64,
        patience: Duration,
    ) -> Option<Duration> {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        if self.tokens < bytes {
            self.fill(rate, now);
        }
        let left = self.tokens.saturating_sub(bytes);
        let owed = u128::try_from(left.saturating_neg()).unwrap_or(0);
        let wait_ns = (owed * 1_000_000_000).checked_div(rate.bytes_per_second.into());
        let wait = match wait_ns {
            _ if owed == 0 => Duration::ZERO,
            Some(wait_ns) => Duration::from_nanos(u64::try_from(wait_ns).unwrap_or(u64::MAX)),
            None => return None,
        };
        if wait > patience {
            return None;
        }
        self.tokens = left;
        Some(wait)
    }

    /// Puts tokens back that were taken for nothing.
    pub(crate) fn put_back(&mut self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.tokens = self.tokens.saturating_add(bytes);
    }

    fn fill(&mut self, rate: &ByteRate, now: Instant) {
        let passed = now.saturating_duration_since(self.filled_at).as_micros();
        let fresh = passed * u128::from(rate.bytes_per_second) / 1_000_000;
        // Less than one token: the time is left to count next time.
        if fresh > 0 {
            let fresh = i64::try_from(fresh).unwrap_or(i64::MAX);
            let burst = i64::try_from(rate.burst).unwrap_or(i64::MAX);
            self.tokens = self.tokens.saturating_add(fresh).min(burst);
            self.filled_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: ByteRate = ByteRate { bytes_per_second: 1000, burst: 500 };

    /// Takes what is there.
    fn takes(bucket: &mut Bucket, at: Instant, bytes: u64) -> bool {
        bucket.take(&RATE, at, bytes, Duration::ZERO).is_some()
    }

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::full(&RATE, start);
        assert!(takes(&mut bucket, start, 500));
        assert!(!takes(&mut bucket, start, 1));
        assert!(takes(&mut bucket, start + Duration::from_millis(100), 100));
        assert!(!takes(&mut bucket, start + Duration::from_millis(100), 1));
        assert!(!takes(&mut bucket, start + Duration::from_secs(60), 501));
        assert!(takes(&mut bucket, start + Duration::from_secs(60), 500));
    }

    #[test]
    fn tokens_are_owed_as_long_as_somebody_waits_for_them() {
        let (start, patience) = (Instant::now(), Duration::from_millis(50));
        let mut bucket = Bucket::full(&RATE, start);
        let mut take = |at, bytes| bucket.take(&RATE, at, bytes, patience);
        assert_eq!(take(start, 520), Some(Duration::from_millis(20)));
        assert_eq!(take(start, 30), Some(patience));
        assert_eq!(take(start, 1), None);
        let later = start + Duration::from_millis(60);
        assert_eq!(take(later, 10), Some(Duration::ZERO));
        assert_eq!(take(later, 1), Some(Duration::from_millis(1)));
    }

    #[test]
    fn time_too_short_for_a_token_is_not_lost() {
        let start = Instant::now();
        let mut bucket = Bucket::full(&RATE, start);
        assert!(takes(&mut bucket, start, 500));
        let taken = (1..=1000)
            .filter(|micros| takes(&mut bucket, start + Duration::from_micros(micros * 10), 1));
        assert_eq!(taken.count(), 10);
    }
}
