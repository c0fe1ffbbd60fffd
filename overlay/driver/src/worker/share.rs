//! Which worker owns which peer, and with it the receiver indices of the peer's sessions.
//!
//! A peer belongs to one worker for ever, so that its packets keep their order and its keys need no lock. The
//! owner shows in the receiver index itself, which every WireGuard packet but the first carries in clear:
//! whoever receives a packet knows whose it is without a table, on whatever path it came.

use overlay_core::NodeId;

/// Receiver indices are below this: boringtun keeps the lower byte of 32 bits for itself.
const RECEIVERS: u32 = 1 << 24;

/// One worker's part of the peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    number: u32,
    of: u32,
}

impl Share {
    /// The part of worker `number`, the first being 0, of so many.
    pub(super) fn new(number: u32, of: u32) -> Self {
        debug_assert!(number < of);
        Self { number, of }
    }

    /// Everything, for the only worker.
    #[cfg(test)]
    pub(super) fn whole() -> Self {
        Self::new(0, 1)
    }

    /// The worker of that peer. Ids are hashes of keys, which spread well as they are.
    pub(super) fn owner(self, peer: NodeId) -> u32 {
        let [a, b, c, d, ..] = peer.0;
        u32::from_le_bytes([a, b, c, d]) % self.of
    }

    /// The worker that handed that receiver index out.
    pub(super) fn owner_of(self, receiver: u32) -> u32 {
        // A division that most nodes need not do.
        if self.of == 1 { 0 } else { receiver % self.of }
    }

    /// Whether that worker is this one.
    pub(super) fn is_own(self, owner: u32) -> bool {
        owner == self.number
    }

    /// A receiver index of this worker, from a random number.
    pub(super) fn receiver(self, random: u32) -> u32 {
        let drawn = random % RECEIVERS;
        let receiver = drawn - drawn % self.of + self.number;
        if receiver < RECEIVERS { receiver } else { receiver - self.of }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receiver_index_leads_to_the_worker_that_drew_it() {
        for of in [1, 2, 3, 4, 7, 64] {
            for number in 0..of {
                let share = Share::new(number, of);
                for random in [0, 1, 5, 1000, RECEIVERS - 1, RECEIVERS, u32::MAX - 1, u32::MAX] {
                    let receiver = share.receiver(random);
                    assert!(receiver < RECEIVERS);
                    assert!(share.is_own(share.owner_of(receiver)), "{receiver} of {share:?}");
                }
            }
        }
    }

    #[test]
    fn peers_spread_and_every_worker_says_the_same() {
        let mut counts = [0; 4];
        for first in 0..=255u8 {
            let peer = NodeId([first; 32]);
            let owner = Share::new(0, 4).owner(peer);
            assert_eq!(owner, Share::new(3, 4).owner(peer));
            assert_eq!(Share::whole().owner(peer), 0);
            counts[owner as usize] += 1;
        }
        assert_eq!(counts, [64; 4]);
    }
}
