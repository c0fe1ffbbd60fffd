//! The pings of one peer that wait for an answer.

use std::collections::VecDeque;
use std::time::Instant;

use crate::io::Path;

/// The most pings that wait at once; the oldest is forgotten first. Chosen: all trials of a peer with
/// four pings each.
pub(crate) const MAX_PINGS: usize = 64;

/// One ping that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ping {
    pub(crate) transaction: [u8; 8],
    pub(crate) path: Path,
    /// Of the whole inner packet.
    pub(crate) size: usize,
    pub(crate) sent_at: Instant,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct PingLedger(VecDeque<Ping>);

impl PingLedger {
    pub(crate) fn note(&mut self, ping: Ping) {
        if self.0.len() >= MAX_PINGS {
            self.0.pop_front();
        }
        self.0.push_back(ping);
    }

    /// The ping that a pong answers; each is answered once.
    ///
    /// The pong must come the same way, directly or through the relay. Its source may differ from where
    /// the ping was sent: a NAT whose mapping depends on the destination answers from another port.
    pub(crate) fn settle(&mut self, transaction: [u8; 8], via: Path) -> Option<Ping> {
        let is_direct = |path| matches!(path, Path::Direct(_));
        let index = self.0.iter().position(|ping| {
            ping.transaction == transaction && is_direct(ping.path) == is_direct(via)
        })?;
        self.0.remove(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settles_once_the_same_way_and_stays_bounded() {
        let direct = Path::Direct("203.0.113.1:4000".parse().unwrap());
        let relayed = Path::Relayed { relay: "203.0.113.9:6444".parse().unwrap(), channel: 1 };
        let mut ledger = PingLedger::default();
        let now = Instant::now();
        let ping = |number: u64| Ping {
            transaction: number.to_be_bytes(),
            path: direct,
            size: 56,
            sent_at: now,
        };
        for number in 0..1000 {
            ledger.note(ping(number));
        }
        assert_eq!(ledger.0.len(), MAX_PINGS);
        assert_eq!(ledger.settle(999u64.to_be_bytes(), relayed), None);
        assert_eq!(ledger.settle(999u64.to_be_bytes(), direct), Some(ping(999)));
        assert_eq!(ledger.settle(999u64.to_be_bytes(), direct), None);
        assert_eq!(ledger.settle(0u64.to_be_bytes(), direct), None);
    }
}
