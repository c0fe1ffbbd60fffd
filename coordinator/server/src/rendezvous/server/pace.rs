//! How fast a node may talk. One that is faster is not read for a while, so QUIC slows it down.

use std::time::{Duration, Instant};

use overlay_core::control::ToCoordinator;

/// Messages a second that can be kept up. Chosen: 20 networks that report every 200 ms, twice over.
const MESSAGES_PER_SECOND: u32 = 200;

/// Bytes a second that can be kept up. Chosen: two networks of 1,024 members that report so often.
const BYTES_PER_SECOND: u32 = 4 << 20;

/// What a candidates message counts for: each makes all peers of the node try its endpoints, wherever those
/// are. Chosen: ten at once, then two a second; a node that moves says so once.
const CANDIDATES_WEIGHT: u32 = 100;

/// What a request to join counts for: each is answered by a ticket and candidates for every member. Chosen:
/// fifty at once (a node that comes back asks once for each of its jobs), then ten a second.
const JOIN_WEIGHT: u32 = 20;

/// How far a node may be ahead of that.
const BURST: Duration = Duration::from_secs(5);

/// The pace of one connection.
#[derive(Debug)]
pub(super) struct Pace {
    /// When what was said so far would be due at the sustained rate.
    due: Instant,
}

/// How many plain messages this one counts for.
pub(super) fn weight(message: &ToCoordinator) -> u32 {
    match message {
        // Each may make channels for all pairs of the node.
        ToCoordinator::Candidates(_) | ToCoordinator::Relays { .. } => CANDIDATES_WEIGHT,
        ToCoordinator::JoinMesh { .. } => JOIN_WEIGHT,
        ToCoordinator::Hello { .. }
        | ToCoordinator::Pairs { .. }
        | ToCoordinator::LeaveMesh { .. } => 1,
    }
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { due: now }
    }

    /// Counts what was just read, messages by their [`weight`]; returns how long not to read more.
    pub(super) fn count(&mut self, now: Instant, messages: u32, bytes: usize) -> Duration {
        let by_messages = Duration::from_secs(1) / MESSAGES_PER_SECOND * messages;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let by_bytes = Duration::from_secs_f64(f64::from(bytes) / f64::from(BYTES_PER_SECOND));
        self.due = self.due.max(now) + by_messages.max(by_bytes);
        self.due.saturating_duration_since(now + BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_costs_others_much_is_said_seldom() {
        use overlay_core::netmap::ObservedMapping;
        use overlay_core::{NodeCandidates, NodeId};
        let candidates = NodeCandidates {
            node: NodeId([1; 32]),
            sequence: 1,
            mapping: ObservedMapping::Unknown,
            nat: Default::default(),
            activity: Default::default(),
            candidates: Vec::new(),
        };
        let message = ToCoordinator::Candidates(candidates);
        let now = Instant::now();
        let mut pace = Pace::new(now);
        let pauses: Vec<_> = (0..12).map(|_| pace.count(now, weight(&message), 100)).collect();
        assert_eq!(pauses[..10], [Duration::ZERO; 10]);
        assert_eq!(pauses[11], Duration::from_secs(1));
    }

    #[test]
    fn a_burst_passes_and_what_exceeds_it_waits_its_time() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(pace.count(now, 1000, 0), Duration::ZERO);
        assert_eq!(pace.count(now, 200, 0), Duration::from_secs(1));
        assert_eq!(pace.count(now + Duration::from_secs(60), 0, 20 << 20), Duration::ZERO);
        assert_eq!(pace.count(now + Duration::from_secs(60), 1, 4 << 20), Duration::from_secs(1));
    }
}
