//! The time of day, with a hand for tests to push it forward.
//!
//! It is read from the system once, and counted by the monotonic clock from there: an administrator
//! or a time server that sets the system's clock, or a machine that was suspended, must not make all
//! nodes look silent. What it shows is right again, to the second, after the next start.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use coordinator_core::UnixMillis;
use tokio::sync::watch;

/// The time since the start, on top of the time of day at the start, plus a skew that only tests set.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    started_at: UnixMillis,
    skew: watch::Sender<Duration>,
}

impl Default for Clock {
    fn default() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            started: Instant::now(),
            started_at: UnixMillis::default() + since_epoch,
            skew: watch::Sender::new(Duration::ZERO),
        }
    }
}

impl Clock {
    /// Milliseconds since the Unix epoch.
    pub fn now(&self) -> UnixMillis {
        self.started_at + self.started.elapsed() + *self.skew.borrow()
    }

    /// Lets `time` pass at once.
    pub fn advance(&self, time: Duration) {
        self.skew.send_modify(|skew| *skew += time);
    }

    /// Sleeps until `deadline`, or until somebody has moved the clock.
    pub(crate) async fn sleep_until(&self, deadline: UnixMillis) {
        let mut moved = self.skew.subscribe();
        let remaining = deadline.since(self.now());
        tokio::select! {
            () = tokio::time::sleep(remaining) => {}
            _ = moved.changed() => {}
        }
    }
}
