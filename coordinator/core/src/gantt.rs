//! Which resources are free, and when: the plan on its way.
//!
//! Time is cut into minutes, and every end is rounded up to one: OAR adds 60 s after each job as well, and
//! plans with thousands of jobs have few different times.

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

/// Free resources over time. The last slot has no end.
#[derive(Clone, Debug)]
pub(crate) struct Gantt {
    slots: Vec<Slot>,
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
        Self { slots: vec![Slot { start: now, free, count }] }
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
        &self,
        from: Minute,
        length: Minute,
        least: usize,
        mut choose: impl FnMut(Minute, &Bits) -> Option<T>,
    ) -> Option<(Minute, T)> {
        let first = self.slots.partition_point(|slot| slot.start <= from).saturating_sub(1);
        let mut common = Bits::default();
        let mut index = first;
        while let Some(slot) = self.slots.get(index) {
            let start = slot.start.max(from);
            let during = self.slots[index..].iter().take_while(|it| it.start < start + length);
            // No window that holds a slot with too little can do: go on behind the last such one.
            let during = during.count().max(1);
            let window = &self.slots[index..index + during];
            if let Some(poor) = window.iter().rposition(|slot| slot.count < least) {
                index += poor + 1;
                continue;
            }
            common.copy_from(&slot.free);
            let mut fits = true;
            for later in &window[1..] {
                common.intersect(&later.free);
                if common.count() < least {
                    fits = false;
                    break;
                }
            }
            if let Some(chosen) = fits.then(|| choose(start, &common)).flatten() {
                return Some((start, chosen));
            }
            index += 1;
        }
        None
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
