//! Puts the halves of packets together again.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Part;

/// How long a half waits for the other one. Chosen: they are sent at the same moment, and WireGuard would
/// rather lose a packet than have it late.
const PATIENCE: Duration = Duration::from_millis(500);

/// Halves that wait; the oldest goes first. Chosen: those that a fast link delivers within the patience
/// of a lost one, some 100 kB.
const MAX_WAITING: usize = 64;

#[derive(Debug)]
struct Half {
    relay: SocketAddr,
    channel: u32,
    number: u16,
    is_second: bool,
    bytes: Vec<u8>,
    at: Instant,
}

/// The halves that wait for the other one.
#[derive(Debug, Default)]
pub struct Joiner(VecDeque<Half>);

impl Joiner {
    /// Takes a half that came from that relay; the whole packet when it was the second to come.
    ///
    /// A half that is there already replaces the one that waits: its sender counts anew.
    pub fn take(&mut self, now: Instant, relay: SocketAddr, part: &Part<'_>) -> Option<Vec<u8>> {
        self.0.retain(|half| now.saturating_duration_since(half.at) < PATIENCE);
        let is_same = |half: &Half| {
            (half.relay, half.channel, half.number) == (relay, part.channel, part.number)
        };
        if let Some(half) = self.0.iter().position(is_same).and_then(|index| self.0.remove(index))
            && half.is_second != part.is_second
        {
            let mut packet = half.bytes;
            if half.is_second {
                packet.splice(..0, part.bytes.iter().copied());
            } else {
                packet.extend_from_slice(part.bytes);
            }
            return Some(packet);
        }
        if self.0.len() >= MAX_WAITING {
            self.0.pop_front();
        }
        let Part { channel, number, is_second, bytes } = *part;
        self.0.push_back(Half {
            relay,
            channel,
            number,
            is_second,
            bytes: bytes.to_vec(),
            at: now,
        });
        None
    }

    /// Halves that wait.
    pub fn waiting(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MAX_JOINED, parse_part, split};
    use super::*;

    fn relay(number: u8) -> SocketAddr {
        SocketAddr::from(([198, 51, 100, number], 6444))
    }

    fn packet(len: usize) -> Vec<u8> {
        (0..len).map(|index| (index % 251) as u8).collect()
    }

    #[test]
    fn packets_of_every_length_come_together_in_either_order() {
        let mut joiner = Joiner::default();
        let now = Instant::now();
        for len in 2..=MAX_JOINED {
            let packet = packet(len);
            let mut halves = split(7, len as u16, &packet).unwrap();
            if len % 2 == 0 {
                halves.reverse();
            }
            let [first, second] = halves.each_ref().map(|half| parse_part(half).unwrap());
            assert_eq!(joiner.take(now, relay(1), &first), None);
            assert_eq!(joiner.take(now, relay(1), &second), Some(packet), "{len} bytes");
        }
        assert_eq!(joiner.waiting(), 0);
    }

    #[test]
    fn halves_of_different_packets_channels_and_relays_never_meet() {
        let now = Instant::now();
        let mut joiner = Joiner::default();
        let of = |channel, number| split(channel, number, &packet(1444)).unwrap();
        let [first, _] = of(1, 1);
        joiner.take(now, relay(1), &parse_part(&first).unwrap());
        for (from, channel, number) in [(1, 1, 2), (1, 2, 1), (2, 1, 1)] {
            let [_, second] = of(channel, number);
            assert_eq!(joiner.take(now, relay(from), &parse_part(&second).unwrap()), None);
        }
    }

    #[test]
    fn repeated_late_and_flooding_halves_cost_little() {
        let now = Instant::now();
        let mut joiner = Joiner::default();
        let [first, second] = split(1, 1, &packet(1444)).unwrap();
        for _ in 0..10 {
            assert_eq!(joiner.take(now, relay(1), &parse_part(&first).unwrap()), None);
        }
        assert_eq!(joiner.waiting(), 1);
        let late = now + PATIENCE;
        assert_eq!(joiner.take(late, relay(1), &parse_part(&second).unwrap()), None);
        for number in 0..10_000 {
            let [first, _] = split(9, number, &packet(1444)).unwrap();
            joiner.take(late, relay(1), &parse_part(&first).unwrap());
            assert!(joiner.waiting() <= MAX_WAITING);
        }
    }
}
