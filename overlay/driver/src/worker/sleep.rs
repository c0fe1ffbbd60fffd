//! Notices that the machine was suspended: the clock of timers stood still meanwhile, another went on.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A shorter one is nobody's loss: peers wait longer before they give a path up.
const WORTH_NOTICING: Duration = Duration::from_secs(2);

/// See the module.
pub(super) struct SleepWatch {
    /// How far the clock that goes on is ahead.
    ahead: Option<Duration>,
}

impl SleepWatch {
    pub(super) fn new() -> Self {
        Self { ahead: ahead() }
    }

    /// Whether the machine was suspended since this was asked last.
    pub(super) fn has_slept(&mut self) -> bool {
        self.note(ahead())
    }

    fn note(&mut self, ahead: Option<Duration>) -> bool {
        let before = std::mem::replace(&mut self.ahead, ahead);
        let (Some(before), Some(now)) = (before, ahead) else { return false };
        now.saturating_sub(before) >= WORTH_NOTICING
    }
}

fn ahead() -> Option<Duration> {
    // The later reading first: an interruption between the two then makes the difference smaller.
    let boot = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?);
    let running = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).ok()?);
    Some(boot.saturating_sub(running))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_growth_of_the_difference_counts() {
        let seconds = |s| Some(Duration::from_secs(s));
        let mut watch = SleepWatch { ahead: seconds(100) };
        assert!(!watch.note(seconds(100)) && !watch.note(seconds(101)));
        assert!(watch.note(seconds(3700)) && !watch.note(seconds(3700)));
        assert!(!watch.note(None) && !watch.note(seconds(9000)));
        let mut real = SleepWatch::new();
        assert!(real.ahead.is_some() && !real.has_slept());
    }
}
