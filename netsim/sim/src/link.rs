//! What a packet meets on the way between two points.

use std::time::Duration;

use rand::Rng;
use serde::{Deserialize, Serialize};

/// A link, the same in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Link {
    /// One-way delay.
    pub delay: Duration,
    /// The share of packets that are lost, 0 to 1.
    pub loss: f64,
}

impl Link {
    /// A link that delays and loses nothing.
    pub const PERFECT: Self = Self { delay: Duration::ZERO, loss: 0.0 };

    /// A link with that one-way delay and no loss.
    pub fn with_delay(delay: Duration) -> Self {
        Self { delay, ..Self::PERFECT }
    }

    /// How long the next packet takes; none when it is lost.
    pub(crate) fn transit(&self, rng: &mut impl Rng) -> Option<Duration> {
        // Nothing is drawn on links without loss, so that they do not disturb the other draws.
        let lost = self.loss > 0.0 && rng.random_bool(self.loss.clamp(0.0, 1.0));
        (!lost).then_some(self.delay)
    }
}
