//! Whom an idle rank asks for work, and when.
//!
//! The other ranks in turn, one request at a time. After a full round without a gift what is left is
//! being solved already, so the next round waits, longer each time.

use std::time::{Duration, Instant};

/// Pause after the first round in vain (chosen: a few round trips of a wide-area path).
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Pause after many rounds in vain (chosen: a rank is idle this long at most when work appears).
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// The state of asking around.
#[derive(Debug)]
pub(crate) struct Asking {
    rank: u32,
    /// Whether each rank may be asked; false for this one and for those that said goodbye.
    present: Vec<bool>,
    last: u32,
    outstanding: Option<u32>,
    in_vain: usize,
    pause: Duration,
    not_before: Option<Instant>,
}

/// An answer came from a rank that was not asked.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("it gave work without being asked")]
pub(crate) struct NotAsked;

impl Asking {
    /// For `rank` of `ranks`.
    pub(crate) fn new(rank: u32, ranks: u32) -> Self {
        let mut present = vec![true; ranks as usize];
        if let Some(me) = present.get_mut(rank as usize) {
            *me = false;
        }
        Self {
            rank,
            present,
            last: rank,
            outstanding: None,
            in_vain: 0,
            pause: FIRST_PAUSE,
            not_before: None,
        }
    }

    /// The rank to ask now; `None` while an answer is out, during a pause, or with nobody left.
    pub(crate) fn next(&mut self, now: Instant) -> Option<u32> {
        if self.outstanding.is_some() || self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        let ranks = self.present.len() as u32;
        let next = (1..=ranks)
            .map(|step| (self.last + step) % ranks)
            .find(|&rank| self.present[rank as usize])?;
        debug_assert_ne!(next, self.rank);
        self.last = next;
        self.outstanding = Some(next);
        Some(next)
    }

    /// `rank` answered, with or without work.
    pub(crate) fn answered(
        &mut self,
        now: Instant,
        rank: u32,
        with_work: bool,
    ) -> Result<(), NotAsked> {
        if self.outstanding != Some(rank) {
            return Err(NotAsked);
        }
        self.outstanding = None;
        if with_work {
            self.in_vain = 0;
            self.pause = FIRST_PAUSE;
            self.not_before = None;
            return Ok(());
        }
        self.in_vain += 1;
        if self.in_vain >= self.present.iter().filter(|present| **present).count() {
            self.in_vain = 0;
            self.not_before = Some(now + self.pause);
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
        Ok(())
    }

    /// `rank` is gone, as it should; it is not asked again and owes no answer.
    pub(crate) fn forget(&mut self, rank: u32) {
        if let Some(present) = self.present.get_mut(rank as usize) {
            *present = false;
        }
        if self.outstanding == Some(rank) {
            self.outstanding = None;
        }
    }

    /// When a pause ends.
    pub(crate) fn wakeup(&self) -> Option<Instant> {
        self.not_before.filter(|_| self.outstanding.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_everybody_in_turn_then_pauses() {
        let mut now = Instant::now();
        let mut asking = Asking::new(1, 4);
        for round in 0..3 {
            for expected in [2, 3, 0] {
                assert_eq!(asking.next(now), Some(expected), "round {round}");
                assert_eq!(asking.next(now), None, "one request at a time");
                asking.answered(now, expected, false).unwrap();
            }
            assert_eq!(asking.next(now), None, "a round in vain");
            now = asking.wakeup().unwrap();
        }
    }

    #[test]
    fn a_gift_ends_the_pauses() {
        let now = Instant::now();
        let mut asking = Asking::new(0, 2);
        assert_eq!(asking.next(now), Some(1));
        asking.answered(now, 1, false).unwrap();
        let later = asking.wakeup().unwrap();
        assert_eq!(asking.next(later), Some(1));
        asking.answered(later, 1, true).unwrap();
        assert_eq!(asking.next(later), Some(1));
    }

    #[test]
    fn the_departed_are_not_asked_and_gifts_need_a_request() {
        let now = Instant::now();
        let mut asking = Asking::new(0, 3);
        assert_eq!(asking.answered(now, 2, true), Err(NotAsked));
        assert_eq!(asking.next(now), Some(1));
        asking.forget(1);
        assert_eq!(asking.next(now), Some(2));
        asking.forget(2);
        assert_eq!(asking.next(now), None);
        assert_eq!(Asking::new(0, 1).next(now), None, "alone");
    }
}
