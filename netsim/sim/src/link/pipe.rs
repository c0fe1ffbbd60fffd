//! One direction of a link at work.
//!
//! ```text
//!   packet ─ MTU ─ queue (drop-tail) ─ rate ─ loss ─ delay + jitter + hold ─ arrival
//! ```
//!
//! The queue is not a list: since it is served in order and at a fixed rate, the time at which its
//! last bit leaves says all about it. A pipe's memory is therefore constant.

use std::time::Duration;

use rand::Rng;

use super::loss::chance;
use super::profile::{OneWay, Rate, TooBig};

/// What a pipe does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It arrives then, and a second time when there is a copy.
    Arrives {
        /// When.
        at: Duration,
        /// When the copy arrives.
        again: Option<Duration>,
    },
    /// The medium loses it.
    Lost,
    /// The queue is full.
    QueueFull,
    /// It is larger than the MTU. Whether the sender hears of it.
    TooBig {
        /// The MTU, in bytes of a whole IP packet.
        mtu_bytes: u32,
        /// Whether the sender hears of it.
        notice: bool,
    },
    /// The link is down.
    Down,
}

/// One direction of a link at work. Times count from wherever the caller likes, and never go back.
#[derive(Clone, Debug)]
pub struct Pipe {
    way: OneWay,
    is_down: bool,
    in_burst: bool,
    /// When the last bit of the queue leaves.
    busy_until: Duration,
    /// The arrival of the last packet that kept its place.
    last_arrival: Duration,
}

impl Pipe {
    /// An empty one.
    pub fn new(way: OneWay) -> Self {
        let (busy_until, last_arrival) = (Duration::ZERO, Duration::ZERO);
        Self { way, is_down: false, in_burst: false, busy_until, last_arrival }
    }

    /// Goes on with another profile. What is on its way is not touched.
    pub fn set_profile(&mut self, way: OneWay) {
        self.way = way;
        self.in_burst = false;
    }

    /// Whether nothing gets through.
    pub fn is_down(&self) -> bool {
        self.is_down
    }

    /// Takes it down, or up again.
    pub fn set_down(&mut self, is_down: bool) {
        self.is_down = is_down;
    }

    /// What becomes of a packet that gets to the pipe now.
    pub fn pass(&mut self, now: Duration, bytes: u32, rng: &mut impl Rng) -> Passage {
        if self.is_down {
            return Passage::Down;
        }
        if let Some(mtu) = self.way.mtu.filter(|mtu| bytes > mtu.bytes) {
            let notice = mtu.too_big == TooBig::Notice;
            return Passage::TooBig { mtu_bytes: mtu.bytes, notice };
        }
        let Some(left) = self.queue(now, bytes) else { return Passage::QueueFull };
        if self.way.loss.strikes(&mut self.in_burst, rng) {
            return Passage::Lost;
        }
        let at = self.arrival(left, rng);
        let is_doubled = chance(self.way.duplicate, rng);
        let again = is_doubled.then(|| self.queue(now, bytes)).flatten();
        Passage::Arrives { at, again: again.map(|left| self.arrival(left, rng)) }
    }

    /// When a packet has left the queue; none when it does not fit.
    fn queue(&mut self, now: Duration, bytes: u32) -> Option<Duration> {
        let Some(rate) = self.way.rate else { return Some(now) };
        let starts = self.busy_until.max(now);
        let waiting = starts - now;
        let takes = rate.time_of(bytes);
        if !waiting.is_zero() && waiting + takes > rate.time_of(rate.queue_bytes) {
            return None;
        }
        self.busy_until = starts + takes;
        Some(self.busy_until)
    }

    fn arrival(&mut self, left: Duration, rng: &mut impl Rng) -> Duration {
        let OneWay { delay, jitter, jitter_reorders, reorder, .. } = self.way;
        let mut at = left + delay;
        if !jitter.is_zero() {
            let most = u64::try_from(jitter.as_nanos()).unwrap_or(u64::MAX);
            at += Duration::from_nanos(rng.random_range(0..=most));
        }
        if !jitter_reorders {
            at = at.max(self.last_arrival);
        }
        match reorder.filter(|reorder| chance(reorder.share, rng)) {
            // The ones after it do not wait for it.
            Some(reorder) => at + reorder.hold,
            None => {
                self.last_arrival = self.last_arrival.max(at);
                at
            }
        }
    }
}

impl Rate {
    /// How long that many bytes take, rounded up to nanoseconds: never faster than the rate.
    fn time_of(&self, bytes: u32) -> Duration {
        let bits_ns = u128::from(bytes) * 8 * 1_000_000_000;
        let ns = bits_ns.div_ceil(u128::from(self.bits_per_s.max(1)));
        Duration::from_nanos(u64::try_from(ns).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;
