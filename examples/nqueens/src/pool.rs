//! This rank's units and the threads that solve them.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::{ledger::Tally, units::Units};

/// Units waiting here, shared by this rank's threads and by those who ask for some.
#[derive(Debug)]
pub(crate) struct Pool {
    units: Units,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Range<u32>>,
    /// Units that a thread works on now.
    running: usize,
    tally: Tally,
    closed: bool,
}

impl Pool {
    /// Without work yet.
    pub(crate) fn new(units: Units) -> Self {
        Self { units, state: Mutex::default(), wake: Condvar::new() }
    }

    /// The board's units.
    pub(crate) fn units(&self) -> &Units {
        &self.units
    }

    /// Takes units in.
    pub(crate) fn add(&self, range: Range<u32>) {
        if !range.is_empty() {
            self.state().waiting.push_back(range);
            self.wake.notify_all();
        }
    }

    /// Gives away half of the last waiting range (rounded up); empty when nothing waits.
    pub(crate) fn give(&self) -> Range<u32> {
        let mut state = self.state();
        let Some(last) = state.waiting.pop_back() else { return 0..0 };
        let middle = last.start + (last.end - last.start) / 2;
        if middle > last.start {
            state.waiting.push_back(last.start..middle);
        }
        middle..last.end
    }

    /// Whether nothing waits (threads may still be at work).
    pub(crate) fn is_hungry(&self) -> bool {
        self.state().waiting.is_empty()
    }

    /// What is finished, once nothing waits and nothing runs.
    pub(crate) fn idle_tally(&self) -> Option<Tally> {
        let state = self.state();
        (state.waiting.is_empty() && state.running == 0).then_some(state.tally)
    }

    /// Sends the threads home after the unit that they work on.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.wake.notify_all();
    }

    /// Solves units until the pool is closed; calls `hungry` whenever nothing waits.
    pub(crate) fn work(&self, hungry: impl Fn()) {
        let mut state = self.state();
        while !state.closed {
            let Some(unit) = take_first(&mut state.waiting) else {
                drop(state);
                hungry();
                state = self.state();
                while state.waiting.is_empty() && !state.closed {
                    state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                continue;
            };
            state.running += 1;
            drop(state);
            let solutions = self.units.solutions(unit);
            state = self.state();
            state.running -= 1;
            if let Some(solutions) = solutions {
                state.tally.count(unit, solutions);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take_first(waiting: &mut VecDeque<Range<u32>>) -> Option<u32> {
    let first = waiting.front_mut()?;
    let unit = first.start;
    first.start += 1;
    if first.start >= first.end {
        waiting.pop_front();
    }
    Some(unit)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::{ledger::Ledger, solver::BoardSize};

    fn pool(n: u8) -> Pool {
        Pool::new(Units::split(BoardSize::new(n).unwrap()))
    }

    #[test]
    fn threads_finish_every_unit_once() {
        let pool = pool(8);
        let all = 0..pool.units().len();
        let mut ledger = Ledger::new(all.end, 1);
        pool.add(all);
        let (hungry, when_hungry) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                let (pool, hungry) = (&pool, hungry.clone());
                scope.spawn(move || pool.work(|| hungry.send(()).unwrap()));
            }
            let tally = loop {
                when_hungry.recv().unwrap();
                if let Some(tally) = pool.idle_tally() {
                    break tally;
                }
            };
            pool.close();
            ledger.report(0, tally).unwrap();
        });
        assert_eq!(ledger.solutions(), Ok(Some(92)));
    }

    #[test]
    fn gives_half_and_keeps_the_rest() {
        let pool = pool(12);
        pool.add(10..20);
        assert_eq!(pool.give(), 15..20);
        assert_eq!(pool.give(), 12..15);
        assert_eq!(pool.give(), 11..12);
        assert_eq!(pool.give(), 10..11);
        assert!(pool.give().is_empty());
        assert!(pool.is_hungry());
    }

    #[test]
    fn giving_and_taking_lose_no_unit() {
        let (here, there) = (pool(12), pool(12));
        here.add(0..100);
        let mut seen = vec![false; 100];
        while !(here.is_hungry() && there.is_hungry()) {
            there.add(here.give());
            for pool in [&here, &there] {
                if let Some(unit) = take_first(&mut pool.state().waiting) {
                    assert!(!std::mem::replace(&mut seen[unit as usize], true), "unit {unit}");
                }
            }
        }
        assert!(seen.into_iter().all(|seen| seen));
    }
}
