//! What really flows by a way to a relay, from counters of both directions.
//!
//! What comes is counted by the numbers of the pairs' sealed packets: a gap is a loss. What goes is counted where it
//! leaves: a tunnel knows what it had no room for, and what its transport has seen lost. UDP knows nothing of what
//! becomes of what is sent; the trains do ([`train`](super::train)).

use std::time::Duration;

/// Packets in a direction without which its loss says nothing. Chosen: one that is lost by chance is 2 %.
const ENOUGH: u64 = 50;

/// A number beyond this distance is no gap but another sender's doing. Chosen: more than is on the way anywhere.
const LONGEST_GAP: u64 = 1 << 16;

/// Counts sealed packets by their numbers: how many came, and how many were to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    keys: u32,
    highest: u64,
    /// Packets that came.
    pub received: u64,
    /// Packets that were to come, as far as the numbers tell.
    pub expected: u64,
    /// Bytes of those that came.
    pub bytes: u64,
}

impl Arrivals {
    /// An authentic packet that was not seen before, for those keys.
    pub fn take(&mut self, keys: u32, number: u64, bytes: usize) {
        self.received += 1;
        self.bytes += bytes as u64;
        let gap = number.wrapping_sub(self.highest);
        if self.expected == 0 || keys != self.keys || (number > self.highest && gap > LONGEST_GAP) {
            // New keys begin anew; what was lost at that moment is not seen.
            (self.keys, self.highest) = (keys, number);
            self.expected += 1;
        } else if number > self.highest {
            self.highest = number;
            self.expected += gap;
        }
        // One that comes late was counted as a gap, or belongs to keys that began in between.
        self.expected = self.expected.max(self.received);
    }
}

/// Counters of one way, as they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// What came, and was to come.
    pub received: u64,
    /// See [`Arrivals::expected`].
    pub expected: u64,
    /// Bytes that came.
    pub received_bytes: u64,
    /// Packets given to the way; 0 where nobody counts them.
    pub sent: u64,
    /// Bytes given to it.
    pub sent_bytes: u64,
    /// Those that its transport knows to be lost.
    pub sent_lost: u64,
    /// Those that it had no room for.
    pub overflowed: u64,
}

/// What flowed over a while.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flowed {
    /// Bytes per second that arrived, in both directions together.
    pub goodput: u64,
    /// Lost packets, per mille, in the direction that loses more.
    pub loss: u16,
    /// There was more to send than it took.
    pub is_full: bool,
}

impl Counters {
    /// What flowed since `before`, `took` ago; none where it was too little to say anything.
    pub fn since(&self, before: &Self, took: Duration) -> Option<Flowed> {
        let grown = |now: u64, before: u64| now.saturating_sub(before);
        let (received, expected) =
            (grown(self.received, before.received), grown(self.expected, before.expected));
        let (sent, overflowed) =
            (grown(self.sent, before.sent), grown(self.overflowed, before.overflowed));
        if expected.max(sent) < ENOUGH || took.is_zero() {
            return None;
        }
        let gone = grown(self.sent_lost, before.sent_lost) + overflowed;
        let lost_in = share(expected.saturating_sub(received), expected);
        let lost_out = share(gone, sent);
        let sent_bytes = grown(self.sent_bytes, before.sent_bytes);
        let arrived = sent_bytes - sent_bytes * u64::from(share_of_any(gone, sent)) / 1000;
        let bytes = grown(self.received_bytes, before.received_bytes) + arrived;
        let goodput = bytes as f64 / took.as_secs_f64();
        Some(Flowed {
            goodput: goodput as u64,
            loss: lost_in.max(lost_out),
            is_full: overflowed > 0,
        })
    }
}

/// Per mille; nothing of few.
fn share(lost: u64, of: u64) -> u16 {
    if of < ENOUGH { 0 } else { share_of_any(lost, of) }
}

fn share_of_any(lost: u64, of: u64) -> u16 {
    u16::try_from(lost.min(of) * 1000 / of.max(1)).unwrap_or(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_losses_and_late_or_new_ones_are_none() {
        let mut arrivals = Arrivals::default();
        for number in [0, 1, 2, 5, 6, 4] {
            arrivals.take(7, number, 100);
        }
        assert_eq!((arrivals.received, arrivals.expected, arrivals.bytes), (6, 7, 600));
        arrivals.take(8, 0, 100);
        arrivals.take(8, 1, 100);
        assert_eq!((arrivals.received, arrivals.expected), (8, 9), "new keys");
        arrivals.take(8, u64::MAX, 100);
        arrivals.take(8, 3, 100);
        assert_eq!((arrivals.received, arrivals.expected), (10, 10), "senseless numbers");
    }

    #[test]
    fn goodput_is_what_arrived_and_loss_that_of_the_worse_direction() {
        let second = Duration::from_secs(1);
        let before = Counters::default();
        let now = Counters {
            received: 900,
            expected: 1000,
            received_bytes: 900_000,
            sent: 1000,
            sent_bytes: 1_000_000,
            sent_lost: 20,
            overflowed: 30,
        };
        let flowed = now.since(&before, second).unwrap();
        assert_eq!(flowed, Flowed { goodput: 1_850_000, loss: 100, is_full: true });
        assert_eq!(before.since(&now, second), None, "counters that begin anew say nothing");
        let little = Counters { received: 10, expected: 40, ..before };
        assert_eq!(little.since(&before, second), None);
        assert_eq!(now.since(&before, Duration::ZERO), None);
    }
}
