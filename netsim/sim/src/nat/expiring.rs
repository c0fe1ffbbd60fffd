//! A bounded set whose members expire, without a look at all of them for each packet.
//!
//! Each member stands in a queue by a time at which it *may* expire. Keeping a member alive leaves
//! the queue alone; the member is queued again when its turn comes and it is still alive. So a
//! packet costs a look-up, and every member is handled once a lifetime.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A bounded set whose members expire.
#[derive(Debug)]
pub(super) struct Expiring<K> {
    until: BTreeMap<K, Duration>,
    /// Holds each member exactly once, by a time not after its end.
    queue: BTreeSet<(Duration, K)>,
}

impl<K: Copy + Ord> Expiring<K> {
    pub(super) fn new() -> Self {
        Self { until: BTreeMap::new(), queue: BTreeSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.until.len()
    }

    pub(super) fn clear(&mut self) {
        self.until.clear();
        self.queue.clear();
    }

    /// Whether it is there; call [`Expiring::pop_expired`] first.
    pub(super) fn contains(&self, member: &K) -> bool {
        self.until.contains_key(member)
    }

    /// Adds a member, or lets it live until then if that is later.
    pub(super) fn keep(&mut self, member: K, until: Duration) {
        match self.until.get_mut(&member) {
            Some(end) => *end = until.max(*end),
            None => {
                self.until.insert(member, until);
                self.queue.insert((until, member));
            }
        }
    }

    /// Takes one member that has expired. To be called until there is none.
    pub(super) fn pop_expired(&mut self, now: Duration) -> Option<K> {
        self.settle_first().filter(|(end, _)| *end <= now)?;
        self.pop_first()
    }

    /// Takes the member that expires first, be it alive.
    pub(super) fn pop_first(&mut self) -> Option<K> {
        let (_, member) = self.settle_first()?;
        self.queue.pop_first();
        self.until.remove(&member);
        Some(member)
    }

    /// Brings the true first to the head of the queue.
    fn settle_first(&mut self) -> Option<(Duration, K)> {
        loop {
            let (queued, member) = *self.queue.first()?;
            match self.until.get(&member) {
                Some(end) if *end == queued => return Some((queued, member)),
                Some(end) => {
                    self.queue.pop_first();
                    self.queue.insert((*end, member));
                }
                None => {
                    self.queue.pop_first();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_expire_in_the_order_of_their_true_ends() {
        let at = Duration::from_secs;
        let mut set = Expiring::new();
        for member in 0..4 {
            set.keep(member, at(member));
        }
        set.keep(1, at(9));
        set.keep(2, at(1));
        let expired = |set: &mut Expiring<u64>, now| {
            std::iter::from_fn(|| set.pop_expired(at(now))).collect::<Vec<_>>()
        };
        assert_eq!(expired(&mut set, 2), [0, 2]);
        assert!(set.contains(&1) && set.contains(&3) && set.len() == 2);
        assert_eq!(set.pop_first(), Some(3));
        assert_eq!(expired(&mut set, 9), [1]);
        assert_eq!((set.pop_first(), set.queue.len()), (None, 0));
    }
}
