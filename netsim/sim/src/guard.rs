//! Finds state machines that ask for wakeups without getting anywhere.

use std::time::Duration;

/// Wakeups at one instant that count as a busy loop. Chosen: far above what one instant can need.
const LIMIT: u32 = 1_000;

/// A state machine asked for 1,000 wakeups without time moving.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("busy loop: {LIMIT} wakeups at {at:?} without time moving")]
pub struct BusyLoop {
    /// When.
    pub at: Duration,
}

/// Counts the wakeups of one state machine.
#[derive(Clone, Debug, Default)]
pub struct WakeupGuard {
    at: Duration,
    count: u32,
}

impl WakeupGuard {
    /// To be called with each wakeup.
    pub fn observe(&mut self, now: Duration) -> Result<(), BusyLoop> {
        if now > self.at {
            *self = Self { at: now, count: 0 };
        }
        self.count += 1;
        if self.count >= LIMIT { Err(BusyLoop { at: self.at }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fails_when_time_stands_still_only() {
        let mut guard = WakeupGuard::default();
        for ms in 0..5_000 {
            assert_eq!(guard.observe(Duration::from_millis(ms)), Ok(()));
        }
        let still = Duration::from_secs(10);
        let failed = (0..LIMIT).find_map(|_| guard.observe(still).err());
        assert_eq!(failed, Some(BusyLoop { at: still }));
    }
}
