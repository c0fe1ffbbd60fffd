//! When each node wants to be woken.

use std::collections::BTreeSet;
use std::time::Duration;

/// One timer for each node, those due first at hand. Of several at one instant the node that was
/// made first comes first.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    order: BTreeSet<(Duration, usize)>,
    set: Vec<Option<Duration>>,
}

impl Timers {
    /// A node's timer from now on; none: it wants none.
    pub(crate) fn set(&mut self, node: usize, at: Option<Duration>) {
        if self.set.len() <= node {
            self.set.resize(node + 1, None);
        }
        let old = std::mem::replace(&mut self.set[node], at);
        if old == at {
            return;
        }
        if let Some(old) = old {
            self.order.remove(&(old, node));
        }
        if let Some(at) = at {
            self.order.insert((at, node));
        }
    }

    /// The timer that is due first, and whose it is.
    pub(crate) fn first(&self) -> Option<(Duration, usize)> {
        self.order.first().copied()
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
