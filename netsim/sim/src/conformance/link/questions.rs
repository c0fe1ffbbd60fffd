//! Each aspect's profile, its train, and what has to come of it.

use std::time::Duration;

use super::{Aspect, Heard, Passed, Shot};
use crate::link::{GilbertElliott, Loss, Mtu, OneWay, Rate, Reorder, TooBig};

const MS: Duration = Duration::from_millis(1);

/// Small packets, so that nothing but the link is busy with them.
const SMALL: u32 = 100;
const LARGE: u32 = 1000;

const SHARE: f64 = 0.1;
const BURSTS: GilbertElliott =
    GilbertElliott { enter: 0.02, leave: 0.2, loss_good: 0.0, loss_bad: 1.0 };
/// A large packet takes 2 ms.
const BITS_PER_S: u64 = 4_000_000;
const QUEUED: u32 = 20;
const MTU: u32 = 1200;
const HOLD: Duration = Duration::from_millis(10);

/// Standard deviations within which what is drawn has to be.
const SIGMAS: f64 = 5.0;

pub(super) fn way(aspect: Aspect) -> OneWay {
    let plain = OneWay::PERFECT;
    let jitter = OneWay { delay: 10 * MS, jitter: 10 * MS, ..plain };
    let mtu = |too_big| OneWay { mtu: Some(Mtu { bytes: MTU, too_big }), ..plain };
    let rate =
        |queue_bytes| OneWay { rate: Some(Rate { bits_per_s: BITS_PER_S, queue_bytes }), ..plain };
    match aspect {
        Aspect::Delay => OneWay { delay: 20 * MS, ..plain },
        Aspect::Jitter => OneWay { jitter_reorders: true, ..jitter },
        Aspect::OrderedJitter => jitter,
        Aspect::Loss => OneWay { loss: Loss::Independent(SHARE), ..plain },
        Aspect::Bursts => OneWay { loss: Loss::Bursty(BURSTS), ..plain },
        Aspect::Rate => rate(1_000_000),
        Aspect::Queue => rate(QUEUED * LARGE),
        Aspect::Mtu => mtu(TooBig::Notice),
        Aspect::BlackHole => mtu(TooBig::Drop),
        Aspect::Reorder => OneWay { reorder: Some(Reorder { share: SHARE, hold: HOLD }), ..plain },
        Aspect::Duplicate => OneWay { duplicate: SHARE, ..plain },
    }
}

pub(super) fn train(aspect: Aspect) -> Vec<Shot> {
    let every = |gap: Duration, count: u32, bytes| {
        (0..count).map(|index| Shot { at: gap * index, bytes }).collect::<Vec<_>>()
    };
    match aspect {
        Aspect::Delay => every(2 * MS, 200, SMALL),
        Aspect::Jitter | Aspect::OrderedJitter => every(2 * MS, 300, SMALL),
        Aspect::Loss => every(MS / 4, 2_000, SMALL),
        Aspect::Bursts => every(MS / 4, 4_000, SMALL),
        Aspect::Rate => every(Duration::ZERO, 100, LARGE),
        Aspect::Queue => every(Duration::ZERO, 3 * QUEUED, LARGE),
        Aspect::Mtu | Aspect::BlackHole => {
            // The largest that fits between two that do not.
            [MTU + 1, MTU, MTU + 200]
                .into_iter()
                .zip(0..)
                .map(|(bytes, index)| Shot { at: 20 * MS * index, bytes })
                .collect()
        }
        Aspect::Reorder | Aspect::Duplicate => every(MS, 1_000, SMALL),
    }
}

/// What is wrong, in words.
pub(super) fn judge(
    aspect: Aspect,
    train: &[Shot],
    passed: &Passed,
    lateness: Duration,
) -> Vec<String> {
    let mut found = Found { wrong: Vec::new(), heard: &passed.heard, sent: train.len() };
    let OneWay { delay, jitter, .. } = way(aspect);
    match aspect {
        Aspect::Delay => {
            found.all_once();
            found.in_order();
            found.takes(delay, delay + lateness);
        }
        Aspect::Jitter => {
            found.all_once();
            found.takes(delay, delay + jitter / 2 + lateness + jitter / 10);
            found.is_spread(jitter);
            if found.overtaken() == 0 {
                found.say("no packet overtook another, and may".to_owned());
            }
        }
        Aspect::OrderedJitter => {
            found.all_once();
            found.in_order();
            // Waiting for the one before makes all later.
            found.takes(delay, delay + jitter + lateness);
        }
        Aspect::Loss => {
            found.nothing_twice();
            found.lost(SHARE, 1.0);
            found.bursts(1.0, 1.4);
        }
        Aspect::Bursts => {
            found.nothing_twice();
            // Neighbours are alike: what is drawn varies as if fewer were drawn.
            let alike = 1.0 - BURSTS.enter - BURSTS.leave;
            found.lost(BURSTS.mean_loss(), (1.0 + alike) / (1.0 - alike));
            let mean = 1.0 / BURSTS.leave;
            found.bursts(mean / 2.0, mean * 2.0);
        }
        Aspect::Rate => {
            found.all_once();
            found.in_order();
            found.leaves_at_rate(train, lateness);
        }
        Aspect::Queue => {
            found.nothing_twice();
            found.in_order();
            found.queue_is_drop_tail();
        }
        Aspect::Mtu => found.fits(passed.told_mtu, Some(MTU)),
        Aspect::BlackHole => found.fits(passed.told_mtu, None),
        Aspect::Reorder => {
            found.all_once();
            let held = found.heard.iter().filter(|heard| heard.took >= HOLD).count();
            found.share("held back", held, SHARE, 1.0);
            if found.overtaken() == 0 {
                found.say("what was held back was overtaken by nobody".to_owned());
            }
        }
        Aspect::Duplicate => {
            let twice = found.heard.len().saturating_sub(found.sent);
            found.share("doubled", twice, SHARE, 1.0);
        }
    }
    found.wrong
}

struct Found<'a> {
    wrong: Vec<String>,
    heard: &'a [Heard],
    sent: usize,
}

impl Found<'_> {
    fn say(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// How often each packet was heard.
    fn counts(&self) -> Vec<u32> {
        let mut counts = vec![0; self.sent];
        for heard in self.heard {
            if let Some(count) = counts.get_mut(heard.shot) {
                *count += 1;
            }
        }
        counts
    }

    fn all_once(&mut self) {
        self.nothing_twice();
        let missing = self.counts().iter().filter(|count| **count == 0).count();
        if missing > 0 {
            self.say(format!("{missing} of {} did not arrive", self.sent));
        }
    }

    fn nothing_twice(&mut self) {
        let twice = self.counts().iter().filter(|count| **count > 1).count();
        if twice > 0 {
            self.say(format!("{twice} of {} arrived more than once", self.sent));
        }
    }

    /// Packets that came after one that was sent later.
    fn overtaken(&self) -> usize {
        self.heard.windows(2).filter(|two| two[1].shot < two[0].shot).count()
    }

    fn in_order(&mut self) {
        let overtaken = self.overtaken();
        if overtaken > 0 {
            self.say(format!("{overtaken} were overtaken, and none should be"));
        }
    }

    /// Nobody is earlier, and half of all are not later.
    fn takes(&mut self, least: Duration, most: Duration) {
        let mut took: Vec<Duration> = self.heard.iter().map(|heard| heard.took).collect();
        took.sort_unstable();
        let (Some(first), Some(middle)) = (took.first(), took.get(took.len() / 2)) else {
            return self.say("nothing arrived".to_owned());
        };
        if *first < least {
            self.say(format!("one took {first:?}, and none may take less than {least:?}"));
        }
        if *middle > most {
            self.say(format!("half took {middle:?} or more, which should be {most:?} at most"));
        }
    }

    /// The middle eight tenths of what is drawn evenly cover eight tenths; half of them is enough.
    fn is_spread(&mut self, jitter: Duration) {
        let mut took: Vec<Duration> = self.heard.iter().map(|heard| heard.took).collect();
        took.sort_unstable();
        let at = |tenths: usize| took.get(took.len() * tenths / 10).copied().unwrap_or_default();
        let spread = at(9).saturating_sub(at(1));
        if spread < jitter * 6 / 10 {
            self.say(format!(
                "the middle of all is within {spread:?}, with a jitter of {jitter:?}"
            ));
        }
    }

    fn lost(&mut self, share: f64, inflation: f64) {
        let lost = self.counts().iter().filter(|count| **count == 0).count();
        self.share("lost", lost, share, inflation);
    }

    /// Whether a count is within the bounds of a binomial distribution whose variance is that many
    /// times as large.
    fn share(&mut self, what: &str, count: usize, share: f64, inflation: f64) {
        let (count, sent) = (as_f64(count), as_f64(self.sent));
        let expected = sent * share;
        let most = SIGMAS * (sent * share * (1.0 - share) * inflation).sqrt();
        if (count - expected).abs() > most {
            self.say(format!("{count} of {sent} were {what}, not {expected:.0} ± {most:.0}"));
        }
    }

    /// The mean number of packets that are lost in a row.
    fn bursts(&mut self, least: f64, most: f64) {
        let counts = self.counts();
        let lost = counts.iter().filter(|count| **count == 0).count();
        let begins = |two: &&[u32]| two[0] > 0 && two[1] == 0;
        let bursts = counts.windows(2).filter(begins).count()
            + usize::from(counts.first().is_some_and(|count| *count == 0));
        let mean = as_f64(lost) / as_f64(bursts.max(1));
        if !(least..=most).contains(&mean) {
            self.say(format!(
                "{mean:.2} in a row are lost on average, not {least:.1} to {most:.1}"
            ));
        }
    }

    fn leaves_at_rate(&mut self, train: &[Shot], lateness: Duration) {
        let takes =
            |shot: &Shot| Duration::from_secs_f64(f64::from(shot.bytes) * 8.0 / BITS_PER_S as f64);
        let whole: Duration = train.iter().map(takes).sum();
        let one = train.first().map(takes).unwrap_or_default();
        let Some(last) = self.heard.last() else { return };
        // A token bucket lets the first one or two go at once.
        if last.at + 2 * one < whole {
            self.say(format!("the last came after {:?}, which takes {whole:?}", last.at));
        }
        if last.took > whole + lateness + whole / 20 {
            self.say(format!("the last took {:?}, which should be {whole:?}", last.took));
        }
    }

    fn queue_is_drop_tail(&mut self) {
        let (got, fits) = (self.heard.len(), usize::try_from(QUEUED).unwrap_or(usize::MAX));
        // Some leave while the others are being sent, and a token bucket lets two go at once.
        if !(fits..=fits + 4).contains(&got) {
            self.say(format!("{got} packets got through a queue of {fits}"));
        }
        let first = self.heard.iter().filter(|heard| heard.shot < fits).count();
        if first < fits {
            self.say(format!("{} of the first {fits} were dropped", fits - first));
        }
    }

    fn fits(&mut self, told: Option<u32>, expected: Option<u32>) {
        let arrived: Vec<usize> = self.heard.iter().map(|heard| heard.shot).collect();
        if arrived != [1] {
            self.say(format!("packets {arrived:?} arrived, and only number 1 fits"));
        }
        if told != expected {
            self.say(format!("the sender was told {told:?}, not {expected:?}"));
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "thousands of packets")]
fn as_f64(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link that does nothing is found out on every aspect, and one that does everything wrong too.
    #[test]
    fn wrong_links_are_found_out() {
        for aspect in Aspect::ALL {
            let train = train(aspect);
            let perfect: Vec<Heard> = train
                .iter()
                .enumerate()
                .map(|(shot, sent)| Heard { shot, took: Duration::ZERO, at: sent.at })
                .collect();
            let idle = Passed { heard: perfect.clone(), told_mtu: None };
            assert_ne!(judge(aspect, &train, &idle, MS), [""; 0], "{aspect:?}");
            let deaf = Passed::default();
            assert_ne!(judge(aspect, &train, &deaf, MS), [""; 0], "{aspect:?}");
            let late = |heard: &Heard| Heard { took: 500 * MS, at: heard.at + 500 * MS, ..*heard };
            let slow = Passed { heard: perfect.iter().map(late).collect(), told_mtu: Some(68) };
            assert_ne!(judge(aspect, &train, &slow, MS), [""; 0], "{aspect:?}");
        }
    }
}
