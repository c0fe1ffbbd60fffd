//! Measures what a way to a relay carries: a train of small questions, and which of them are answered.
//!
//! The relay answers questions of its reflector only, so a train says two things: how many packets are lost
//! while the job's own packets are on the way, and how long the others take. What a TCP connection in
//! the tunnel would make of the two (M. Mathis et al., "The macroscopic behavior of the TCP congestion
//! avoidance algorithm", 1997: rate = segment / round trip time * sqrt(3/2) / sqrt(loss)) is the goodput by
//! which ways are compared. A stream loses nothing but makes all packets wait for a lost one: that is in its
//! round trip times.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Questions in a train. Chosen: one lost by chance is below the loss that matters; 2 kB in all.
pub const CARS: usize = 40;

/// Between two of them: the loss of a second is seen, not that of a moment.
pub const CAR_GAP: Duration = Duration::from_millis(25);

/// How long the last answers may take.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// Bytes of TCP's segments inside.
const SEGMENT: f64 = 1300.0;

/// A question's nonce.
pub type Nonce = [u8; 8];

/// A train under way.
#[derive(Debug)]
pub struct Train {
    starts: Instant,
    asked: BTreeMap<Nonce, Instant>,
    sent: usize,
    answered: u32,
    took: Duration,
}

/// What a train has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Bytes per second that a TCP connection inside would get.
    pub goodput: u64,
    /// Lost packets, per mille.
    pub loss: u16,
    /// Mean round trip time of the others.
    pub rtt: Option<Duration>,
}

impl Train {
    /// A train that leaves now.
    pub fn new(now: Instant) -> Self {
        Self { starts: now, asked: BTreeMap::new(), sent: 0, answered: 0, took: Duration::ZERO }
    }

    /// When the next question leaves, or what came is counted.
    pub fn next_step(&self) -> Instant {
        let cars = u32::try_from(self.sent.min(CARS - 1)).unwrap_or(0);
        let departed = self.starts + CAR_GAP * cars;
        if self.sent < CARS { departed } else { departed + PATIENCE }
    }

    /// Whether a question leaves now: it has that nonce.
    pub fn ask(&mut self, now: Instant, nonce: Nonce) -> bool {
        let is_due = self.sent < CARS && self.next_step() <= now;
        if is_due {
            self.sent += 1;
            self.asked.insert(nonce, now);
        }
        is_due
    }

    /// An answer came.
    pub fn on_answer(&mut self, now: Instant, nonce: Nonce) {
        if let Some(asked) = self.asked.remove(&nonce) {
            self.answered += 1;
            self.took += now.saturating_duration_since(asked);
        }
    }

    /// What it has shown; none while it is under way.
    pub fn result(&self, now: Instant) -> Option<Measured> {
        let has_left = self.sent >= CARS;
        let is_over = has_left && (self.asked.is_empty() || now >= self.next_step());
        is_over.then(|| measured(self.sent, self.answered, self.took))
    }
}

fn measured(sent: usize, answered: u32, took: Duration) -> Measured {
    let sent = u32::try_from(sent).unwrap_or(u32::MAX).max(1);
    let lost = sent.saturating_sub(answered);
    let loss = u16::try_from(lost * 1000 / sent).unwrap_or(1000);
    if answered == 0 {
        return Measured { goodput: 0, loss, rtt: None };
    }
    let rtt = took / answered;
    // Half a packet more is lost than was seen: none of a train does not mean none at all.
    let share = (f64::from(lost) + 0.5) / (f64::from(sent) + 1.0);
    let seconds = rtt.as_secs_f64().max(1e-4);
    let goodput = SEGMENT / seconds * (1.5 / share).sqrt();
    Measured { goodput: goodput as u64, loss, rtt: Some(rtt) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A train on a way with that round trip time; `is_lost` by the car's number.
    fn run(rtt_ms: u64, is_lost: impl Fn(usize) -> bool) -> Measured {
        let start = Instant::now();
        let mut train = Train::new(start);
        let mut answers = Vec::new();
        let mut now = start;
        for number in 0..CARS {
            now = train.next_step();
            let nonce = (number as u64).to_be_bytes();
            assert!(train.ask(now, nonce) && !train.ask(now, nonce), "one at a time");
            assert_eq!(train.result(now), None);
            if !is_lost(number) {
                answers.push((now + Duration::from_millis(rtt_ms), nonce));
            }
        }
        assert_eq!((now - start).as_millis(), 975);
        for (at, nonce) in answers {
            train.on_answer(at, nonce);
            train.on_answer(at, nonce);
        }
        train.on_answer(now, [0xff; 8]);
        train.result(train.next_step()).expect("the train has arrived")
    }

    #[test]
    fn train_tells_loss_and_what_is_left_for_tcp() {
        let clean = run(40, |_| false);
        assert_eq!((clean.loss, clean.rtt), (0, Some(Duration::from_millis(40))));
        let throttled = run(40, |number| number % 10 < 3);
        assert_eq!(throttled.loss, 300);
        assert!(clean.goodput > 4 * throttled.goodput, "{clean:?} {throttled:?}");
        // A stream over the same line: nothing is lost, but it all waits.
        let stream = run(120, |_| false);
        assert!(stream.goodput * 2 > throttled.goodput * 3, "{stream:?} {throttled:?}");
        let one = run(40, |number| number == 7);
        assert!(one.loss < 50 && one.goodput * 2 > clean.goodput, "{one:?}");
        assert_eq!(run(40, |_| true), Measured { goodput: 0, loss: 1000, rtt: None });
    }
}
