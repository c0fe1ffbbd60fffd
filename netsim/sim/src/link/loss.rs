//! Which packets a link loses: each by itself, or in bursts.

use rand::Rng;
use serde::{Deserialize, Serialize};

/// How packets are lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// None is lost.
    #[default]
    None,
    /// That share of the packets, 0 to 1, each by itself.
    Independent(f64),
    /// In bursts.
    Bursty(GilbertElliott),
}

/// Loss in bursts: a chain of two states, which takes one step before each packet.
///
/// Gilbert (1960) and Elliott (1963), *Bell System Technical Journal*; `tc netem loss gemodel`
/// takes the same four numbers (its `1-h` and `1-k` are the two loss shares here).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct GilbertElliott {
    /// Probability of a step from the good state to the bad one, 0 to 1 (`p`).
    pub enter: f64,
    /// Probability of a step back, 0 to 1 (`r`). A burst lasts `1 / leave` packets on average.
    pub leave: f64,
    /// The share of packets lost in the good state, 0 to 1.
    pub loss_good: f64,
    /// The share of packets lost in the bad state, 0 to 1.
    pub loss_bad: f64,
}

impl GilbertElliott {
    /// The share of packets lost in the long run: each state's, weighed by the time spent in it.
    pub fn mean_loss(&self) -> f64 {
        let steps = self.enter + self.leave;
        if steps <= 0.0 {
            // The chain never moves and starts in the good state.
            return self.loss_good;
        }
        (self.leave * self.loss_good + self.enter * self.loss_bad) / steps
    }

    pub(super) fn shares(&self) -> [f64; 4] {
        [self.enter, self.leave, self.loss_good, self.loss_bad]
    }
}

impl Loss {
    /// The share of packets lost in the long run.
    pub fn mean(&self) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Independent(share) => *share,
            Self::Bursty(chain) => chain.mean_loss(),
        }
    }

    /// Whether the next packet is lost. `bad` is the chain's state, kept by the caller.
    pub(super) fn strikes(&self, bad: &mut bool, rng: &mut impl Rng) -> bool {
        match self {
            Self::None => false,
            Self::Independent(share) => chance(*share, rng),
            Self::Bursty(chain) => {
                *bad ^= chance(if *bad { chain.leave } else { chain.enter }, rng);
                chance(if *bad { chain.loss_bad } else { chain.loss_good }, rng)
            }
        }
    }
}

/// True with that probability; draws nothing where the answer is certain.
pub(super) fn chance(share: f64, rng: &mut impl Rng) -> bool {
    if share >= 1.0 { true } else { share > 0.0 && rng.random_bool(share) }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const CHAIN: GilbertElliott =
        GilbertElliott { enter: 0.01, leave: 0.25, loss_good: 0.0, loss_bad: 0.8 };

    #[test]
    fn bursts_have_their_mean_loss_and_length() {
        let (mut bad, mut rng) = (false, ChaCha8Rng::seed_from_u64(1));
        let (mut lost, mut bursts, mut in_bursts) = (0u32, 0u32, 0u32);
        const PACKETS: u32 = 200_000;
        for _ in 0..PACKETS {
            let before = bad;
            lost += u32::from(Loss::Bursty(CHAIN).strikes(&mut bad, &mut rng));
            bursts += u32::from(bad && !before);
            in_bursts += u32::from(bad);
        }
        let share = f64::from(lost) / f64::from(PACKETS);
        assert!((share - CHAIN.mean_loss()).abs() < 0.003, "{share}");
        let length = f64::from(in_bursts) / f64::from(bursts);
        assert!((length - 1.0 / CHAIN.leave).abs() < 0.3, "{length}");
    }

    #[test]
    fn certain_answers_draw_nothing() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        assert!(chance(1.0, &mut rng) && !chance(0.0, &mut rng) && !chance(f64::NAN, &mut rng));
        assert_eq!(rng, ChaCha8Rng::seed_from_u64(1));
    }

    #[test]
    fn standing_chain_stays_good() {
        let still = GilbertElliott { enter: 0.0, leave: 0.0, ..CHAIN };
        assert_eq!(still.mean_loss(), 0.0);
    }
}
