//! Bookkeeping that makes a wrong count impossible to miss.
//!
//! Every rank keeps a [`Tally`] of the units it has finished and reports it, cumulated, whenever it
//! has nothing left to do. A unit is in exactly one place (a queue, a grant on its way, a thread, a
//! tally), so the work is done when the units of all tallies add up to the whole. Rank 0's [`Ledger`]
//! finds that, and compares a sum over the units' names too: one unit twice and another never would
//! have the right number.

/// What one rank has finished so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Units finished.
    pub(crate) units: u64,
    /// Sum (modulo 2^64) of [`name`] over the units finished.
    pub(crate) names: u64,
    /// Solutions found in them.
    pub(crate) solutions: u64,
}

impl Tally {
    /// Counts one finished unit.
    pub(crate) fn count(&mut self, unit: u32, solutions: u64) {
        self.units += 1;
        self.names = self.names.wrapping_add(name(unit));
        self.solutions += solutions;
    }
}

/// A number for the unit such that sums of different sets of units differ (SplitMix64's finalizer).
fn name(unit: u32) -> u64 {
    let mut z = (u64::from(unit) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Why reports do not make a sound count.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum LedgerError {
    #[error("rank {rank} took back units: it reported {before}, then {now}")]
    WentBack { rank: u32, before: u64, now: u64 },
    #[error("{counted} units were counted, but the board has {expected}")]
    TooMany { counted: u64, expected: u64 },
    #[error("a unit was counted twice and another not at all")]
    NotOnce,
    #[error("the reported solutions do not fit a 64-bit number")]
    Overflow,
    #[error("there is no rank {rank}")]
    UnknownRank { rank: u32 },
}

/// Rank 0's view of what all ranks have finished.
#[derive(Debug)]
pub(crate) struct Ledger {
    expected: Tally,
    reports: Vec<Option<Tally>>,
}

impl Ledger {
    /// For a board of `units` units and `ranks` ranks.
    pub(crate) fn new(units: u32, ranks: u32) -> Self {
        let mut expected = Tally::default();
        (0..units).for_each(|unit| expected.count(unit, 0));
        Self { expected, reports: vec![None; ranks as usize] }
    }

    /// Replaces what `rank` reported before.
    pub(crate) fn report(&mut self, rank: u32, tally: Tally) -> Result<(), LedgerError> {
        let slot = self.reports.get_mut(rank as usize).ok_or(LedgerError::UnknownRank { rank })?;
        if let Some(before) = slot.filter(|before| before.units > tally.units) {
            let (before, now) = (before.units, tally.units);
            return Err(LedgerError::WentBack { rank, before, now });
        }
        *slot = Some(tally);
        Ok(())
    }

    /// The number of solutions, once every rank has reported and every unit is counted.
    pub(crate) fn solutions(&self) -> Result<Option<u64>, LedgerError> {
        let mut sum = Tally::default();
        for tally in self.reports.iter().flatten() {
            sum.units = sum.units.checked_add(tally.units).ok_or(LedgerError::Overflow)?;
            sum.names = sum.names.wrapping_add(tally.names);
            sum.solutions =
                sum.solutions.checked_add(tally.solutions).ok_or(LedgerError::Overflow)?;
        }
        if sum.units > self.expected.units {
            let (counted, expected) = (sum.units, self.expected.units);
            return Err(LedgerError::TooMany { counted, expected });
        }
        if sum.units < self.expected.units || self.reports.contains(&None) {
            return Ok(None);
        }
        if sum.names != self.expected.names {
            return Err(LedgerError::NotOnce);
        }
        Ok(Some(sum.solutions))
    }

    /// Units finished by each rank, in the order of the ranks.
    pub(crate) fn units_per_rank(&self) -> Vec<u64> {
        self.reports.iter().map(|report| report.map_or(0, |tally| tally.units)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(units: &[u32]) -> Tally {
        let mut tally = Tally::default();
        units.iter().for_each(|&unit| tally.count(unit, 1));
        tally
    }

    #[test]
    fn any_split_of_the_units_counts_each_once() {
        // Units dealt to three ranks in 200 different ways, by a small generator.
        let mut state = 7u64;
        for _ in 0..200 {
            let mut hands = [Tally::default(); 3];
            for unit in 0..50 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                hands[(state >> 33) as usize % 3].count(unit, u64::from(unit));
            }
            let mut ledger = Ledger::new(50, 3);
            for (rank, hand) in (0..).zip(hands) {
                assert_eq!(ledger.solutions(), Ok(None));
                ledger.report(rank, hand).unwrap();
            }
            assert_eq!(ledger.solutions(), Ok(Some((0..50).sum())));
        }
    }

    #[test]
    fn a_unit_twice_and_another_never_is_found() {
        for twice in 0..10 {
            for never in (0..10).filter(|&never| never != twice) {
                let mut units: Vec<u32> = (0..10).filter(|&unit| unit != never).collect();
                units.push(twice);
                let mut ledger = Ledger::new(10, 2);
                ledger.report(0, tally(&units[..4])).unwrap();
                ledger.report(1, tally(&units[4..])).unwrap();
                assert_eq!(ledger.solutions(), Err(LedgerError::NotOnce));
            }
        }
    }

    #[test]
    fn more_units_than_the_board_has_are_found() {
        let mut ledger = Ledger::new(3, 2);
        ledger.report(0, tally(&[0, 1])).unwrap();
        ledger.report(1, tally(&[1, 2])).unwrap();
        let too_many = LedgerError::TooMany { counted: 4, expected: 3 };
        assert_eq!(ledger.solutions(), Err(too_many));
    }

    #[test]
    fn later_reports_replace_earlier_ones_and_never_shrink() {
        let mut ledger = Ledger::new(3, 2);
        ledger.report(0, tally(&[0])).unwrap();
        ledger.report(1, tally(&[2])).unwrap();
        assert_eq!(ledger.solutions(), Ok(None));
        ledger.report(0, tally(&[0, 1])).unwrap();
        assert_eq!(ledger.solutions(), Ok(Some(3)));
        let back = LedgerError::WentBack { rank: 0, before: 2, now: 1 };
        assert_eq!(ledger.report(0, tally(&[0])), Err(back));
    }

    #[test]
    fn waits_for_a_rank_without_units() {
        let mut ledger = Ledger::new(1, 2);
        ledger.report(0, tally(&[0])).unwrap();
        assert_eq!(ledger.solutions(), Ok(None), "rank 1 may still be exchanging bytes");
        ledger.report(1, Tally::default()).unwrap();
        assert_eq!(ledger.solutions(), Ok(Some(1)));
    }

    #[test]
    fn absurd_reports_are_errors_not_panics() {
        let mut ledger = Ledger::new(1, 2);
        let absurd = Tally { units: u64::MAX, names: 0, solutions: u64::MAX };
        ledger.report(0, absurd).unwrap();
        ledger.report(1, absurd).unwrap();
        assert_eq!(ledger.solutions(), Err(LedgerError::Overflow));
        assert_eq!(ledger.report(2, absurd), Err(LedgerError::UnknownRank { rank: 2 }));
    }
}
