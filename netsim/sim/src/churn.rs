//! When machines come and go.

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::units::millis;

/// The shortest time on or off that is drawn: keeps the number of changes in bounds.
const SHORTEST: Duration = Duration::from_millis(1);

/// The most changes of one machine. Chosen: ten a day for almost three years.
const MAX_CHANGES: usize = 10_000;

/// When machines come and go.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Churn {
    /// Times on and off, each drawn from an exponential distribution (memoryless).
    Exponential(Exponential),
    /// Times on and off, each drawn from a distribution of its own.
    Drawn(Drawn),
    /// On in these intervals, off otherwise; in order, without overlap.
    Intervals(Vec<Interval>),
}

/// Mean times on and off. In the long run a machine is on `mean_on / (mean_on + mean_off)` of the
/// time; that is also the chance that it is on at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Exponential {
    /// Mean time on. Whole milliseconds in text.
    #[serde(rename = "mean-on-ms", with = "millis")]
    pub mean_on: Duration,
    /// Mean time off. Whole milliseconds in text.
    #[serde(rename = "mean-off-ms", with = "millis")]
    pub mean_off: Duration,
}

/// Times on and off of any distributions. A machine is on at the start with the chance that
/// [`Exponential`] has, and at the beginning of a time on or off: chosen, since what is left of a
/// heavy-tailed time has another distribution, and a run shall show many changes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Drawn {
    /// Times on.
    pub on: Times,
    /// Times off.
    pub off: Times,
}

/// A distribution of times, by its mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Times {
    /// Memoryless.
    #[serde(rename_all = "kebab-case")]
    Exponential {
        /// The mean.
        #[serde(rename = "mean-ms", with = "millis")]
        mean: Duration,
    },
    /// Weibull's: heavy-tailed for shapes below 1.
    #[serde(rename_all = "kebab-case")]
    Weibull {
        /// The mean.
        #[serde(rename = "mean-ms", with = "millis")]
        mean: Duration,
        /// The shape, 0.1 to 10.
        shape: f64,
    },
    /// The logarithm is normally distributed: heavy-tailed.
    #[serde(rename_all = "kebab-case")]
    Lognormal {
        /// The mean.
        #[serde(rename = "mean-ms", with = "millis")]
        mean: Duration,
        /// The logarithm's standard deviation, up to 5.
        sigma: f64,
    },
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
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum ChurnError {
    /// A mean of zero.
    #[error("a mean time of zero: give a millisecond at least")]
    NoTime,
    /// A shape without sense.
    #[error("a shape of {0}: give 0.1 to 10 for weibull, 0 to 5 for lognormal")]
    Shape(f64),
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
            Self::Drawn(Drawn { on, off }) => on.check().and_then(|()| off.check()),
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
            Self::Exponential(Exponential { mean_on, mean_off }) => {
                let of = |mean| Times::Exponential { mean };
                Drawn { on: of(*mean_on), off: of(*mean_off) }.presence(seed, machine, end)
            }
            Self::Drawn(drawn) => drawn.presence(seed, machine, end),
            Self::Intervals(list) => {
                let starts_on = list.first().is_some_and(|first| first.from.is_zero());
                let changes = list.iter().flat_map(|interval| [interval.from, interval.to]);
                let changes = changes.filter(|at| !at.is_zero() && *at < end);
                Presence { starts_on, changes: changes.take(MAX_CHANGES).collect() }
            }
        }
    }
}

impl Drawn {
    fn presence(&self, seed: u64, machine: u64, end: Duration) -> Presence {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(machine);
        let (on, off) = (self.on.mean().as_secs_f64(), self.off.mean().as_secs_f64());
        let share = if on + off > 0.0 { on / (on + off) } else { 1.0 };
        let starts_on = rng.random_bool(share);
        let (mut is_on, mut at) = (starts_on, Duration::ZERO);
        let mut changes = Vec::new();
        while changes.len() < MAX_CHANGES {
            let time = if is_on { self.on.draw(&mut rng) } else { self.off.draw(&mut rng) };
            at = at.saturating_add(time.max(SHORTEST));
            if at >= end {
                break;
            }
            changes.push(at);
            is_on = !is_on;
        }
        Presence { starts_on, changes }
    }
}

impl Times {
    /// The mean.
    pub fn mean(&self) -> Duration {
        match self {
            Self::Exponential { mean }
            | Self::Weibull { mean, .. }
            | Self::Lognormal { mean, .. } => *mean,
        }
    }

    fn check(&self) -> Result<(), ChurnError> {
        let shape = match self {
            Self::Exponential { .. } => None,
            Self::Weibull { shape, .. } => Some(*shape).filter(|s| !(0.1..=10.0).contains(s)),
            Self::Lognormal { sigma, .. } => Some(*sigma).filter(|s| !(0.0..=5.0).contains(s)),
        };
        match shape {
            Some(shape) => Err(ChurnError::Shape(shape)),
            None if self.mean().is_zero() => Err(ChurnError::NoTime),
            None => Ok(()),
        }
    }

    /// A time, by inverse transform; by Box and Muller (1958) for the normal one.
    fn draw(&self, rng: &mut impl Rng) -> Duration {
        // 1 - u is never zero.
        let exponential = -(1.0 - rng.random::<f64>()).ln();
        let factor = match self {
            Self::Exponential { .. } => exponential,
            Self::Weibull { shape, .. } => {
                exponential.powf(1.0 / shape) / libm::tgamma(1.0 + 1.0 / shape)
            }
            Self::Lognormal { sigma, .. } => {
                let angle = std::f64::consts::TAU * rng.random::<f64>();
                let normal = (2.0 * exponential).sqrt() * angle.cos();
                (sigma * normal - sigma * sigma / 2.0).exp()
            }
        };
        let seconds = self.mean().as_secs_f64() * factor;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
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
    fn drawn_times_have_their_mean_and_their_tail() {
        let mean = Duration::from_secs(100);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (times, longest) in [
            (Times::Exponential { mean }, 30.0),
            (Times::Weibull { mean, shape: 2.0 }, 10.0),
            (Times::Weibull { mean, shape: 0.5 }, 200.0),
            (Times::Lognormal { mean, sigma: 1.0 }, 200.0),
        ] {
            assert_eq!(times.check(), Ok(()));
            let draws: Vec<f64> =
                (0..200_000).map(|_| times.draw(&mut rng).as_secs_f64() / 100.0).collect();
            let found = draws.iter().sum::<f64>() / draws.len() as f64;
            assert!((found - 1.0).abs() < 0.03, "{times:?}: {found}");
            let most = draws.iter().copied().fold(0.0, f64::max);
            assert!(most < longest, "{times:?}: {most}");
            // The heavy tails are far beyond the exponential's.
            let is_heavy = !matches!(times, Times::Weibull { shape, .. } if shape >= 1.0)
                && !matches!(times, Times::Exponential { .. });
            assert_eq!(most > 20.0, is_heavy, "{times:?}: {most}");
        }
        assert!(Times::Weibull { mean, shape: 0.0 }.check().is_err());
        assert!(Times::Lognormal { mean, sigma: f64::NAN }.check().is_err());
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
