//! When each node, and each of its sessions, wants to be woken.

use std::collections::BTreeSet;
use std::time::Duration;

use overlay_core::SessionKey;

/// Numbered timers, those due first at hand. Of several at one instant the lowest number comes first.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    order: BTreeSet<(Duration, usize)>,
    set: Vec<Option<Duration>>,
}

impl Timers {
    /// A timer's time from now on; none: it is off.
    pub(crate) fn set(&mut self, timer: usize, at: Option<Duration>) {
        if self.set.len() <= timer {
            self.set.resize(timer + 1, None);
        }
        let old = std::mem::replace(&mut self.set[timer], at);
        if old == at {
            return;
        }
        if let Some(old) = old {
            self.order.remove(&(old, timer));
        }
        if let Some(at) = at {
            self.order.insert((at, timer));
        }
    }

    /// A timer comes at that time, unless it comes earlier anyway.
    pub(crate) fn set_at_latest(&mut self, timer: usize, at: Duration) {
        if self.set.get(timer).copied().flatten().is_none_or(|set| at < set) {
            self.set(timer, Some(at));
        }
    }

    /// The timer that is due first, and whose it is.
    pub(crate) fn first(&self) -> Option<(Duration, usize)> {
        self.order.first().copied()
    }
}

/// The timers of all sessions of all nodes.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    pub(crate) timers: Timers,
    owners: Vec<(usize, SessionKey)>,
    free: Vec<usize>,
}

impl Slots {
    /// A timer for that session of that node.
    pub(crate) fn take(&mut self, node: usize, session: SessionKey) -> usize {
        if let Some(slot) = self.free.pop() {
            self.owners[slot] = (node, session);
            return slot;
        }
        self.owners.push((node, session));
        self.owners.len() - 1
    }

    /// The session is gone.
    pub(crate) fn give_back(&mut self, slot: usize) {
        self.timers.set(slot, None);
        self.free.push(slot);
    }

    /// The session whose timer is due first.
    pub(crate) fn first(&self) -> Option<(Duration, usize, SessionKey)> {
        let (at, slot) = self.timers.first()?;
        let (node, session) = self.owners[slot];
        Some((at, node, session))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_is_the_earliest_and_of_those_the_first_made() {
        let at = Duration::from_secs;
        let mut timers = Timers::default();
        for (node, second) in [(0, 9), (1, 4), (2, 4)] {
            timers.set(node, Some(at(second)));
        }
        assert_eq!(timers.first(), Some((at(4), 1)));
        timers.set(1, Some(at(20)));
        assert_eq!(timers.first(), Some((at(4), 2)));
        timers.set(2, None);
        assert_eq!(timers.first(), Some((at(9), 0)));
    }
}
