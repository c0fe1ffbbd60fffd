//! Which resources are free, and when: the plan on its way.
//!
//! Time is cut into minutes, and every end is rounded up to one: OAR adds 60 s after each job as well. Of
//! what is far away not even the minute is planned with: so plans with tens of thousands of jobs have some
//! hundreds of different times, however long they last.

use crate::bits::Bits;
use crate::ids::UnixMillis;

/// A minute since the Unix epoch.
pub(crate) type Minute = u64;

/// The minute that a time lies in.
pub(crate) fn minute_of(time: UnixMillis) -> Minute {
    time.0 / 60_000
}

/// The first minute that begins when the time has passed.
pub(crate) fn minute_after(time: UnixMillis) -> Minute {
    time.0.div_ceil(60_000)
}

/// How many minutes a walltime takes.
pub(crate) fn minutes(walltime_s: u64) -> Minute {
    walltime_s.div_ceil(60)
}

/// Ends that are `2^PRECISION` minutes away and farther are rounded up, by one part in so many at most. Chosen:
/// a job of a day is planned with a quarter of an hour more.
const PRECISION: u32 = 6;

/// An end as it is planned with at `now`: on a grid that is the coarser the farther it is away. The grid itself
/// does not move with the time, so that plans that are made one after the other agree.
pub(crate) fn rounded(end: Minute, now: Minute) -> Minute {
    let away = end.saturating_sub(now).max(1);
    let step = 1 << away.ilog2().saturating_sub(PRECISION);
    end.checked_next_multiple_of(step).unwrap_or(end)
}

/// Free resources over time. The last slot has no end.
#[derive(Clone, Debug)]
pub(crate) struct Gantt {
    slots: Vec<Slot>,
    window: Window,
}

#[derive(Clone, Debug)]
struct Slot {
    start: Minute,
    free: Bits,
    count: usize,
}

impl Gantt {
    /// All these are free from `now` on.
    pub(crate) fn new(now: Minute, free: Bits) -> Self {
        let count = free.count();
        Self { slots: vec![Slot { start: now, free, count }], window: Window::default() }
    }

    /// What is free in the first slot.
    pub(crate) fn now(&self) -> &Bits {
        &self.slots[0].free
    }

    /// The resources are taken from `start` to `end`.
    pub(crate) fn take(&mut self, resources: &Bits, start: Minute, end: Minute) {
        let start = start.max(self.slots[0].start);
        if start >= end {
            return;
        }
        let (first, last) = (self.cut(start), self.cut(end));
        for slot in &mut self.slots[first..last] {
            slot.free.subtract(resources);
            slot.count = slot.free.count();
        }
    }

    /// Makes a slot begin at a time; answers its index.
    fn cut(&mut self, at: Minute) -> usize {
        let index = self.slots.partition_point(|slot| slot.start < at);
        if self.slots.get(index).is_none_or(|slot| slot.start != at) {
            // Not the first one: nothing is cut before it.
            let before = self.slots[index - 1].clone();
            self.slots.insert(index, Slot { start: at, ..before });
        }
        index
    }

    /// The earliest time, not before `from`, at which `choose` finds what it wants among the resources that
    /// are free for so many minutes. It needs at least `least`.
    pub(crate) fn earliest<T>(
        &mut self,
        from: Minute,
        length: Minute,
        least: usize,
        mut choose: impl FnMut(Minute, &Bits) -> Option<T>,
    ) -> Option<(Minute, T)> {
        let Self { slots, window } = self;
        let first = slots.partition_point(|slot| slot.start <= from).saturating_sub(1);
        window.begin(first);
        while let Some(slot) = slots.get(window.first) {
            let start = slot.start.max(from);
            let end = start.saturating_add(length);
            let poor = loop {
                match slots.get(window.end) {
                    Some(slot) if slot.start < end || window.end == window.first => {
                        if slot.count < least {
                            break Some(window.end);
                        }
                        window.push(slot);
                    }
                    Some(_) | None => break None,
                }
            };
            // No window that holds a slot with too little can do: go on behind it.
            if let Some(poor) = poor {
                window.begin(poor + 1);
                continue;
            }
            let common = window.common(slots);
            if common.count() >= least
                && let Some(chosen) = choose(start, common)
            {
                return Some((start, chosen));
            }
            window.pop();
        }
        None
    }
}

/// What is free in all of some neighbouring slots. It moves over the plan at a cost per slot that does not
/// depend on how many it holds: a queue made of two stacks, each with the intersection of what is below.
#[derive(Clone, Debug, Default)]
struct Window {
    /// The first slot.
    first: usize,
    /// The slot behind the last one.
    end: usize,
    /// The intersections of the slots from `first`, from the next one and so on, to where `newer` begins; the
    /// first one is on top. Behind `left` there is only memory for reuse.
    older: Vec<Bits>,
    left: usize,
    /// The intersection of the slots that came since.
    newer: Bits,
    has_newer: bool,
    common: Bits,
}

impl Window {
    /// No slot; the next one is `first`.
    fn begin(&mut self, first: usize) {
        (self.first, self.end, self.left, self.has_newer) = (first, first, 0, false);
    }

    /// Takes the slot at the end in.
    fn push(&mut self, slot: &Slot) {
        if self.has_newer {
            self.newer.intersect(&slot.free);
        } else {
            self.newer.copy_from(&slot.free);
            self.has_newer = true;
        }
        self.end += 1;
    }

    /// Leaves the first slot out.
    fn pop(&mut self) {
        self.first += 1;
        self.left = self.left.saturating_sub(1);
        if self.first >= self.end {
            self.begin(self.first);
        }
    }

    /// What is free in all of them.
    fn common(&mut self, slots: &[Slot]) -> &Bits {
        if self.left == 0 {
            for slot in slots[self.first..self.end].iter().rev() {
                if self.older.len() == self.left {
                    self.older.push(Bits::default());
                }
                let (below, rest) = self.older.split_at_mut(self.left);
                rest[0].copy_from(&slot.free);
                if let Some(below) = below.last() {
                    rest[0].intersect(below);
                }
                self.left += 1;
            }
            self.has_newer = false;
        }
        let older = &self.older[self.left - 1];
        if !self.has_newer {
            return older;
        }
        self.common.copy_from(older);
        self.common.intersect(&self.newer);
        &self.common
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(numbers: &[usize]) -> Bits {
        let mut bits = Bits::empty(8);
        numbers.iter().for_each(|&number| bits.insert(number));
        bits
    }

    #[test]
    fn a_hole_is_used_only_by_what_fits_into_it() {
        let mut gantt = Gantt::new(100, set(&[0, 1]));
        gantt.take(&set(&[0, 1]), 110, 120);
        let two = |_, free: &Bits| (free.count() >= 2).then_some(());
        assert_eq!(gantt.earliest(100, 10, 2, two), Some((100, ())));
        assert_eq!(gantt.earliest(100, 11, 2, two), Some((120, ())));
        assert_eq!(gantt.earliest(105, 10, 2, two), Some((120, ())));
        assert_eq!(gantt.earliest(100, 1, 3, two), None);
    }

    #[test]
    fn ends_that_are_far_away_are_rounded_up_a_little() {
        for away in [1, 63, 64, 127] {
            assert_eq!(rounded(1_000_003 + away, 1_000_003), 1_000_003 + away);
        }
        for away in [128, 1_000, 43_200, 1 << 40] {
            let end = 1_000_003 + away;
            let late = rounded(end, 1_000_003) - end;
            assert!(late * 64 <= away, "{late} minutes later");
        }
        assert_eq!(rounded(Minute::MAX, 0), Minute::MAX);
        assert_eq!(rounded(5, 9), 5);
    }

    proptest! {
        /// Against a table with a row for each minute.
        #[test]
        fn it_agrees_with_a_table(
            taken in proptest::collection::vec((0..8_usize, 0..30_u64, 1..20_u64), 0..20),
            from in 0..40_u64, length in 1..20_u64, least in 1..5_usize,
        ) {
            let mut gantt = Gantt::new(0, set(&[0, 1, 2, 3, 4, 5, 6, 7]));
            let mut table = vec![[true; 8]; 200];
            for (resource, start, length) in taken {
                gantt.take(&set(&[resource]), start, start + length);
                (start..start + length).for_each(|minute| table[minute as usize][resource] = false);
            }
            let free = |start: u64| (0..8).filter(|&resource| {
                (start..start + length).all(|minute| table[minute as usize][resource])
            }).count();
            let expected = (from..).find(|&start| free(start) >= least).unwrap();
            let found = gantt.earliest(from, length, least, |_, free| {
                (free.count() >= least).then(|| free.count())
            });
            prop_assert_eq!(found, Some((expected, free(expected))));
        }
    }
}
