//! The board cut into work units: placements of the first rows, the same list on every rank.
//!
//! Mirroring a solution left to right gives another one, so only half of the placements are kept
//! and each counts twice: the first queen stands left of the middle, or in the middle column of an
//! odd board with the second queen left of it.

use std::ops::Range;

use crate::solver::{BoardSize, Prefix, bits};

/// Units wanted at least, where the board has that many: some hundred for each of a dozen
/// threads, so that the last ones to finish hold little (chosen).
const ENOUGH: usize = 2048;

/// All the work of one board. A unit is named by its index.
#[derive(Debug)]
pub(crate) struct Units {
    size: BoardSize,
    prefixes: Vec<Prefix>,
    /// Solutions that each completed prefix stands for: 2, or 1 on the board of one square.
    weight: u64,
}

impl Units {
    /// Cuts the board. The result depends on `size` alone.
    pub(crate) fn split(size: BoardSize) -> Self {
        let empty = Prefix::default();
        if size.rows() == 1 {
            return Self { size, prefixes: vec![empty.with(1)], weight: 1 };
        }
        let mut prefixes = half_of_two_rows(size);
        while prefixes.len() < ENOUGH && prefixes.first().is_some_and(|p| p.rows < size.rows()) {
            prefixes = prefixes
                .into_iter()
                .flat_map(|prefix| bits(prefix.free(size)).map(move |queen| prefix.with(queen)))
                .collect();
        }
        Self { size, prefixes, weight: 2 }
    }

    /// How many units there are. Zero on the boards of 2 and 3, which have no solution.
    pub(crate) fn len(&self) -> u32 {
        // At most ENOUGH × LARGEST.
        self.prefixes.len() as u32
    }

    /// The solutions that `unit` stands for; `None` when there is no such unit.
    pub(crate) fn solutions(&self, unit: u32) -> Option<u64> {
        let prefix = self.prefixes.get(unit as usize)?;
        Some(self.weight * prefix.completions(self.size))
    }

    /// The units that `rank` of `ranks` begins with.
    pub(crate) fn share(&self, rank: u32, ranks: u32) -> Range<u32> {
        let cut = |rank: u32| {
            let at = u64::from(self.len()) * u64::from(rank) / u64::from(ranks.max(1));
            u32::try_from(at).unwrap_or(u32::MAX)
        };
        cut(rank)..cut(rank + 1)
    }
}

fn half_of_two_rows(size: BoardSize) -> Vec<Prefix> {
    let half = size.rows() / 2;
    let left_half = (1u32 << half) - 1;
    let mut prefixes = Vec::new();
    for queen in bits(left_half) {
        let first = Prefix::default().with(queen);
        prefixes.extend(bits(first.free(size)).map(|queen| first.with(queen)));
    }
    if size.rows() % 2 == 1 {
        let first = Prefix::default().with(1 << half);
        prefixes.extend(bits(first.free(size) & left_half).map(|queen| first.with(queen)));
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_add_up_to_the_published_counts() {
        // OEIS A000170.
        let published = [1, 0, 0, 2, 10, 4, 40, 92, 352, 724, 2680, 14200];
        for (n, count) in (1..).zip(published) {
            let units = Units::split(BoardSize::new(n).unwrap());
            let total: u64 = (0..units.len()).map(|unit| units.solutions(unit).unwrap()).sum();
            assert_eq!(total, count, "N = {n}");
        }
    }

    #[test]
    fn shares_cover_every_unit_once() {
        for n in [1, 2, 5, 12] {
            let units = Units::split(BoardSize::new(n).unwrap());
            for ranks in [1, 2, 3, 6, 7, 100, 5000] {
                let mut next = 0;
                for rank in 0..ranks {
                    let share = units.share(rank, ranks);
                    assert_eq!(share.start, next, "N = {n}, rank {rank} of {ranks}");
                    next = share.end;
                }
                assert_eq!(next, units.len());
            }
        }
    }

    #[test]
    fn large_boards_have_enough_units_and_no_more_than_memory_bears() {
        for n in [13, 15, 20, 27] {
            let len = Units::split(BoardSize::new(n).unwrap()).len() as usize;
            assert!((ENOUGH..ENOUGH * 27).contains(&len), "N = {n}: {len}");
        }
    }

    #[test]
    fn there_is_nothing_beyond_the_last_unit() {
        let units = Units::split(BoardSize::new(8).unwrap());
        assert_eq!(units.solutions(units.len()), None);
    }
}
