//! Bursts of channels that have reached their rate, until their time comes.

use std::collections::BTreeMap;
use std::time::Instant;

use super::outbox::{Burst, Waiting};

/// Bytes that are held at most. Chosen: what a dozen channels at the default rate may hold back.
const HELD_BYTES: usize = 16 << 20;

/// Buffers that are kept for the next bursts: the allocator would give their memory back to the kernel
/// and fetch it again, a thousand times a second (measured: a third of the relay's time). Chosen: more than
/// a channel holds back.
const SPARE: usize = 64;

/// Bursts that are looked at for one to join. Chosen: two channels, both ways.
const LOOK_BACK: usize = 4;

/// See the module.
#[derive(Default)]
pub(super) struct Held {
    /// By the time at which they leave.
    rounds: BTreeMap<Instant, Vec<Waiting>>,
    bytes: usize,
    spare: Vec<Vec<u8>>,
}

impl Held {
    /// Holds a burst back, and joins it to one before it where it can. False: there is no room.
    pub(super) fn add(&mut self, until: Instant, burst: Burst<'_>) -> bool {
        if self.bytes + burst.bytes.len() > HELD_BYTES {
            return false;
        }
        self.bytes += burst.bytes.len();
        let round = self.rounds.entry(until).or_default();
        // Only what is behind all others to the same place may be joined, or packets would be reordered.
        let mut last = round.iter_mut().rev().take(LOOK_BACK);
        let last = last.find(|waiting| waiting.burst().route == burst.route);
        if !last.is_some_and(|last| last.join(&burst)) {
            round.push(Waiting::copy(burst, self.spare.pop().unwrap_or_default()));
        }
        true
    }

    /// When something leaves next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.rounds.first_key_value().map(|(until, _)| *until)
    }

    /// What leaves by now, in order.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Waiting> {
        let mut due = Vec::new();
        while let Some(round) = self.rounds.first_entry()
            && *round.key() <= now
        {
            due.extend(round.remove());
        }
        self.bytes -= due.iter().map(|waiting| waiting.burst().bytes.len()).sum::<usize>();
        due
    }

    /// A burst has left.
    pub(super) fn recycle(&mut self, left: Waiting) {
        if self.spare.len() < SPARE {
            self.spare.push(left.into_buffer());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::state::Route;

    fn burst(port: u16, segment: usize, bytes: &[u8]) -> Burst<'_> {
        let remote = SocketAddr::from(([192, 0, 2, 1], port));
        Burst { route: Route { remote, local: None }, ecn: None, segment, bytes }
    }

    #[test]
    fn neighbours_to_the_same_place_leave_together_and_in_order() {
        let (start, mut held) = (Instant::now(), Held::default());
        let soon = start + Duration::from_millis(1);
        assert!(held.add(soon, burst(1, 2, b"aabb")));
        assert!(held.add(soon, burst(2, 2, b"xx")));
        assert!(held.add(soon, burst(1, 2, b"cc")));
        assert!(held.add(soon, burst(1, 1, b"d")), "shorter, so the last one");
        assert!(held.add(soon, burst(1, 2, b"ee")));
        assert!(held.add(start, burst(1, 2, b"00")), "of an earlier round");
        assert_eq!(
            (held.next_due(), held.take_due(start - Duration::from_nanos(1)).len()),
            (Some(start), 0)
        );
        let due = held.take_due(soon);
        let told: Vec<_> =
            due.iter().map(|w| (w.burst().route.remote.port(), w.burst().bytes)).collect();
        assert_eq!(told, [(1, &b"00"[..]), (1, b"aabbccd"), (2, b"xx"), (1, b"ee")]);
        assert_eq!((held.next_due(), held.bytes), (None, 0));
    }

    #[test]
    fn what_is_held_is_bounded() {
        let (now, mut held) = (Instant::now(), Held::default());
        let long = vec![0; 60_000];
        let taken = (0..1000).filter(|_| held.add(now, burst(1, 1000, &long))).count();
        assert_eq!(taken, HELD_BYTES / long.len());
        assert_eq!(
            held.take_due(now).iter().map(|w| w.burst().packets()).sum::<u64>(),
            60 * taken as u64
        );
        assert!(held.add(now, burst(1, 1000, &long)));
    }
}
