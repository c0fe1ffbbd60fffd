//! The time of day, with a hand for tests to push it forward.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use coordinator_core::UnixMillis;
use tokio::sync::watch;

/// The system's clock plus a skew that only tests set.
#[derive(Debug)]
pub struct Clock {
    skew: watch::Sender<Duration>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { skew: watch::Sender::new(Duration::ZERO) }
    }
}

impl Clock {
    /// Milliseconds since the Unix epoch.
    pub fn now(&self) -> UnixMillis {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis::default() + now + *self.skew.borrow()
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
