//! The two clocks that a relay needs, read once per batch by the shell.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One point in time on both clocks: the monotonic one measures silence, the calendar ends tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The monotonic clock.
    pub instant: Instant,
    /// The calendar, milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

impl Moment {
    /// Reads both clocks. For shells only: the pure states are given their moments.
    pub fn read() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            instant: Instant::now(),
            unix_ms: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// The calendar in whole seconds, as tickets count.
    pub fn unix_s(&self) -> u64 {
        self.unix_ms / 1000
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    /// Both clocks later by `by`.
    fn add(self, by: Duration) -> Self {
        let by_ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        Self { instant: self.instant + by, unix_ms: self.unix_ms.saturating_add(by_ms) }
    }
}
