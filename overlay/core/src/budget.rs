//! How many new mappings this node asks of the NATs in front of it.
//!
//! A packet to an endpoint that was not sent to of late costs the router an entry. Cheap routers have
//! few and die of too many, so that a node makes at most [`MAX_NEW`] in [`WINDOW`], whatever the number
//! of its peers; the rest waits its turn. What has an entry already is free.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// New destinations in each [`WINDOW`] (reference: overlay §7, "≤ 50 new mappings/10 s").
pub(crate) const MAX_NEW: usize = 50;

/// See [`MAX_NEW`].
pub(crate) const WINDOW: Duration = Duration::from_secs(10);

/// For how long a destination costs nothing after its last packet. Chosen: the shortest life of a
/// mapping that is common in the field; a NAT that keeps it longer only saves us a little.
const FRESH: Duration = Duration::from_secs(30);

/// Destinations that are remembered. Chosen: more than can be made in [`FRESH`], and those of relays.
const MAX_KNOWN: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct PunchBudget {
    /// The last packet to each destination.
    known: BTreeMap<SocketAddr, Instant>,
    /// When each new one was made, of the last window.
    made: VecDeque<Instant>,
}

impl PunchBudget {
    /// Allows a packet to that endpoint, or says when to ask again.
    pub(crate) fn admit(&mut self, now: Instant, to: SocketAddr) -> Result<(), Instant> {
        if self.known.get(&to).is_none_or(|last| now >= *last + FRESH) {
            while self.made.front().is_some_and(|made| now >= *made + WINDOW) {
                self.made.pop_front();
            }
            if self.made.len() >= MAX_NEW
                && let Some(oldest) = self.made.front()
            {
                return Err(*oldest + WINDOW);
            }
            self.made.push_back(now);
            if self.known.len() >= MAX_KNOWN {
                self.known.retain(|_, last| now < *last + FRESH);
            }
        }
        if self.known.len() < MAX_KNOWN {
            self.known.insert(to, now);
        }
        Ok(())
    }

    /// New mappings of the last window.
    pub(crate) fn spent(&self, now: Instant) -> usize {
        self.made.iter().filter(|made| now < **made + WINDOW).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(port: u16) -> SocketAddr {
        SocketAddr::from(([203, 0, 113, 1], port))
    }

    #[test]
    fn the_fifty_first_mapping_waits_for_the_window_and_known_ones_pass() {
        let start = Instant::now();
        let mut budget = PunchBudget::default();
        for port in 0..50 {
            assert_eq!(budget.admit(start, endpoint(2000 + port)), Ok(()));
        }
        let later = start + Duration::from_secs(3);
        assert_eq!(budget.admit(later, endpoint(3000)), Err(start + WINDOW));
        assert_eq!(budget.admit(later, endpoint(2000)), Ok(()));
        assert_eq!(budget.spent(later), 50);
        assert_eq!(budget.admit(start + WINDOW, endpoint(3000)), Ok(()));
    }

    #[test]
    fn destination_that_was_silent_for_long_is_new_again_and_memory_is_bounded() {
        let mut now = Instant::now();
        let mut budget = PunchBudget::default();
        budget.admit(now, endpoint(2000)).unwrap();
        for port in 0..10_000 {
            now += Duration::from_millis(250);
            budget.admit(now, endpoint(3000 + port)).unwrap();
            assert!(budget.known.len() <= MAX_KNOWN && budget.made.len() <= MAX_NEW);
        }
        let before = budget.spent(now);
        budget.admit(now, endpoint(2000)).unwrap();
        assert_eq!(budget.spent(now), before + 1);
    }
}
