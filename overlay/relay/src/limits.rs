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
            total_rate: ByteRate { bytes_per_second: 1_250_000_000, burst: 64_000_000 },
            channel_quota: 1 << 40,
            bind_lifetime: Duration::from_secs(120),
        }
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

/// A token bucket: a token is a byte.
#[derive(Debug)]
pub(crate) struct Bucket {
    tokens: u64,
    filled_at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn full(rate: &ByteRate, now: Instant) -> Self {
        Self { tokens: rate.burst, filled_at: now }
    }

    /// Takes `bytes` tokens if they are there.
    pub(crate) fn take(&mut self, rate: &ByteRate, now: Instant, bytes: u64) -> bool {
        if self.tokens < bytes {
            self.fill(rate, now);
        }
        let left = self.tokens.checked_sub(bytes);
        self.tokens = left.unwrap_or(self.tokens);
        left.is_some()
    }

    fn fill(&mut self, rate: &ByteRate, now: Instant) {
        let passed = now.saturating_duration_since(self.filled_at).as_micros();
        let fresh = passed * u128::from(rate.bytes_per_second) / 1_000_000;
        // Less than one token: the time is left to count next time.
        if fresh > 0 {
            let tokens = u64::try_from(fresh).unwrap_or(u64::MAX).saturating_add(self.tokens);
            self.tokens = tokens.min(rate.burst);
            self.filled_at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: ByteRate = ByteRate { bytes_per_second: 1000, burst: 500 };

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::full(&RATE, start);
        assert!(bucket.take(&RATE, start, 500));
        assert!(!bucket.take(&RATE, start, 1));
        assert!(bucket.take(&RATE, start + Duration::from_millis(100), 100));
        assert!(!bucket.take(&RATE, start + Duration::from_millis(100), 1));
        assert!(!bucket.take(&RATE, start + Duration::from_secs(60), 501));
        assert!(bucket.take(&RATE, start + Duration::from_secs(60), 500));
    }

    #[test]
    fn time_too_short_for_a_token_is_not_lost() {
        let start = Instant::now();
        let mut bucket = Bucket::full(&RATE, start);
        assert!(bucket.take(&RATE, start, 500));
        let taken = (1..=1000)
            .filter(|micros| bucket.take(&RATE, start + Duration::from_micros(micros * 10), 1));
        assert_eq!(taken.count(), 10);
    }
}
