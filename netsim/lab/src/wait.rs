//! Waiting for conditions, with a deadline.

use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at. Chosen: short beside everything that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Something did not happen in time.
#[derive(Debug, thiserror::Error)]
#[error("{what} did not happen within {} s", .limit.as_secs_f32())]
pub struct TimedOut {
    /// What was waited for, as the subject of the sentence.
    pub what: String,
    /// How long.
    pub limit: Duration,
}

/// Looks at a condition until it gives something; `what` is the subject of the error's sentence.
pub fn until<T>(
    what: impl Into<String>,
    limit: Duration,
    look: impl FnMut() -> Option<T>,
) -> Result<T, TimedOut> {
    until_every(LOOK_EVERY, what, limit, look)
}

/// [`until`], for conditions that cost more to look at.
pub fn until_every<T>(
    every: Duration,
    what: impl Into<String>,
    limit: Duration,
    mut look: impl FnMut() -> Option<T>,
) -> Result<T, TimedOut> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(TimedOut { what: what.into(), limit });
        }
        thread::sleep(every);
    }
}
