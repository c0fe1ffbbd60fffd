//! When machines come and go.

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::units::{millis, seconds};

/// The shortest time on or off that is drawn: keeps the number of changes in bounds.
const SHORTEST: Duration = Duration::from_millis(1);

/// The most changes of one machine. Chosen: ten a day for almost three years.
const MAX_CHANGES: usize = 10_000;

/// When machines come and go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Churn {
    /// Times on and off, each drawn from an exponential distribution (memoryless).
    Exponential(Exponential),
    /// On in these intervals, off otherwise; in order, without overlap.
    Intervals(Vec<Interval>),
}

/// Mean times on and off. In the long run a machine is on `mean_on / (mean_on + mean_off)` of the
/// time; that is also the chance that it is on at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Exponential {
    /// Mean time on. Whole seconds in text.
    #[serde(rename = "mean-on-s", with = "seconds")]
    pub mean_on: Duration,
    /// Mean time off. Whole seconds in text.
    #[serde(rename = "mean-off-s", with = "seconds")]
    pub mean_off: Duration,
}

/// A time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Interval {
    /// Its beginning, from the start. Milliseconds in text.
    #[serde(rename = "from-ms", with = "millis")]
    pub from: Duration,
    /// Its end.
    #[serde(rename = "to-ms", with = "millis")]
    pub to: Duration,
}

/// Why a churn is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChurnError {
    /// A mean of zero.
    #[error("a mean time of zero: give a second at least")]
    NoTime,
    /// An interval that ends before it begins, or begins before the one before it ends.
    #[error(
        "interval {0} is out of order: give them in order, each with an end after its beginning"
    )]
    OutOfOrder(usize),
    /// More than are simulated.
    #[error("{0} intervals: give 5,000 at most")]
    TooMany(usize),
}

/// A machine's presence: how it starts, and when that changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Whether it is on at the start.
    pub starts_on: bool,
    /// The times, strictly increasing and less than the end, at which it goes on or off in turn.
    pub changes: Vec<Duration>,
}

impl Churn {
    /// Refuses what cannot be meant.
    pub fn check(&self) -> Result<(), ChurnError> {
        match self {
            Self::Exponential(Exponential { mean_on, mean_off }) => {
                let is_zero = mean_on.is_zero() || mean_off.is_zero();
                if is_zero { Err(ChurnError::NoTime) } else { Ok(()) }
            }
            Self::Intervals(list) if list.len() > MAX_CHANGES / 2 => {
                Err(ChurnError::TooMany(list.len()))
            }
            Self::Intervals(list) => {
                let mut end = None;
                for (index, Interval { from, to }) in list.iter().enumerate() {
                    if to <= from || end.is_some_and(|end| *from <= end) {
                        return Err(ChurnError::OutOfOrder(index));
                    }
                    end = Some(*to);
                }
                Ok(())
            }
        }
    }

    /// The presence of one machine until that end. The same seed and machine give the same one,
    /// whatever other machines there are; at most 10,000 changes.
    pub fn presence(&self, seed: u64, machine: u64, end: Duration) -> Presence {
        match self {
            Self::Exponential(means) => means.presence(seed, machine, end),
            Self::Intervals(list) => {
                let starts_on = list.first().is_some_and(|first| first.from.is_zero());
                let changes = list.iter().flat_map(|interval| [interval.from, interval.to]);
                let changes = changes.filter(|at| !at.is_zero() && *at < end);
                Presence { starts_on, changes: changes.take(MAX_CHANGES).collect() }
            }
        }
    }
}

impl Exponential {
    fn presence(&self, seed: u64, machine: u64, end: Duration) -> Presence {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(machine);
        let (on, off) = (self.mean_on.as_secs_f64(), self.mean_off.as_secs_f64());
        let share = if on + off > 0.0 { on / (on + off) } else { 1.0 };
        let starts_on = rng.random_bool(share);
        let (mut is_on, mut at) = (starts_on, Duration::ZERO);
        let mut changes = Vec::new();
        while changes.len() < MAX_CHANGES {
            // Inverse transform; 1 - u is never zero.
            let draw = -(1.0 - rng.random::<f64>()).ln();
            let mean = if is_on { self.mean_on } else { self.mean_off };
            at += mean.mul_f64(draw).max(SHORTEST);
            if at >= end {
                break;
            }
            changes.push(at);
            is_on = !is_on;
        }
        Presence { starts_on, changes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn churn() -> Churn {
        Churn::Exponential(Exponential { mean_on: HOUR * 3, mean_off: HOUR })
    }

    #[test]
    fn share_of_time_on_is_that_of_the_means() {
        let end = HOUR * 1000;
        let mut on = Duration::ZERO;
        for machine in 0..200 {
            let presence = churn().presence(1, machine, end);
            let (mut is_on, mut since) = (presence.starts_on, Duration::ZERO);
            for at in presence.changes.into_iter().chain([end]) {
                on += if is_on { at - since } else { Duration::ZERO };
                (is_on, since) = (!is_on, at);
            }
        }
        let share = on.as_secs_f64() / (end * 200).as_secs_f64();
        assert!((share - 0.75).abs() < 0.01, "{share}");
    }

    #[test]
    fn machines_differ_and_seeds_repeat() {
        let of = |seed, machine| churn().presence(seed, machine, HOUR * 100);
        assert_eq!(of(1, 1), of(1, 1));
        assert_ne!(of(1, 1), of(1, 2));
        assert_ne!(of(1, 1), of(2, 1));
        assert!(of(1, 1).changes.is_sorted());
    }

    #[test]
    fn intervals_are_taken_as_given_or_refused() {
        let at = Duration::from_secs;
        let of = |list: &[(u64, u64)]| {
            let list = list.iter().map(|(from, to)| Interval { from: at(*from), to: at(*to) });
            Churn::Intervals(list.collect())
        };
        let presence = of(&[(0, 5), (7, 9)]).presence(1, 1, at(8));
        assert_eq!(presence, Presence { starts_on: true, changes: vec![at(5), at(7)] });
        assert_eq!(of(&[(0, 5), (7, 9)]).check(), Ok(()));
        assert_eq!(of(&[(0, 5), (4, 9)]).check(), Err(ChurnError::OutOfOrder(1)));
        assert_eq!(of(&[(5, 5)]).check(), Err(ChurnError::OutOfOrder(0)));
    }
}
