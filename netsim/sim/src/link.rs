//! What a packet meets on the way between two points.
//!
//! [`LinkProfile`] says what a link does, in each direction on its own; [`Pipe`] is one direction at
//! work. [`Link`] is the short form for tests that need a delay and no more.

mod loss;
mod pipe;
mod preset;
mod profile;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use loss::{GilbertElliott, Loss};
pub use pipe::{Passage, Pipe};
pub use preset::LinkPreset;
pub use profile::{LinkError, LinkProfile, Mtu, OneWay, Rate, Reorder, TooBig};

/// A link, the same in both directions, that delays and loses and does nothing else.
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
}

impl From<Link> for LinkProfile {
    fn from(link: Link) -> Self {
        let loss = if link.loss > 0.0 { Loss::Independent(link.loss) } else { Loss::None };
        Self::symmetric(OneWay { delay: link.delay, loss, ..OneWay::PERFECT })
    }
}
