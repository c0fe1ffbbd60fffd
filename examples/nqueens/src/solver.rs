//! Bitmask search: every row is a set of free columns, both diagonals shift as the rows go by.

use std::{fmt, str::FromStr};

/// The largest board whose number of solutions is published (OEIS A000170, N = 27).
pub(crate) const LARGEST: u8 = 27;

/// A board's side, 1 to [`LARGEST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BoardSize(u8);

/// Why a number is no board.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("N must be a whole number from 1 to {LARGEST}")]
pub(crate) struct BoardSizeError;

impl BoardSize {
    /// A board of `n` rows and columns.
    pub(crate) fn new(n: u8) -> Result<Self, BoardSizeError> {
        if (1..=LARGEST).contains(&n) { Ok(Self(n)) } else { Err(BoardSizeError) }
    }

    /// Rows, and columns.
    pub(crate) fn rows(self) -> u8 {
        self.0
    }

    /// One bit for each column.
    pub(crate) fn all_columns(self) -> u32 {
        (1 << self.0) - 1
    }
}

impl FromStr for BoardSize {
    type Err = BoardSizeError;

    fn from_str(text: &str) -> Result<Self, BoardSizeError> {
        Self::new(text.parse().map_err(|_| BoardSizeError)?)
    }
}

impl fmt::Display for BoardSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Queens in the first rows, none attacking another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// Columns taken.
    columns: u32,
    /// Columns of the next row that diagonals running to higher columns attack.
    rising: u32,
    /// Columns of the next row that diagonals running to lower columns attack.
    falling: u32,
    /// Rows filled.
    pub(crate) rows: u8,
}

impl Prefix {
    /// Columns of the next row where a queen can stand, one bit each.
    pub(crate) fn free(&self, size: BoardSize) -> u32 {
        size.all_columns() & !(self.columns | self.rising | self.falling)
    }

    /// With one more queen, in the next row, at the column that `queen` has its one bit at.
    pub(crate) fn with(self, queen: u32) -> Self {
        Self {
            columns: self.columns | queen,
            rising: (self.rising | queen) << 1,
            falling: (self.falling | queen) >> 1,
            rows: self.rows + 1,
        }
    }

    /// In how many ways the remaining rows can be filled.
    pub(crate) fn completions(&self, size: BoardSize) -> u64 {
        fill(size.all_columns(), self.columns, self.rising, self.falling)
    }
}

/// The single bits of `set`, lowest first.
pub(crate) fn bits(mut set: u32) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = set & set.wrapping_neg();
        set ^= bit;
        (bit != 0).then_some(bit)
    })
}

fn fill(all: u32, columns: u32, rising: u32, falling: u32) -> u64 {
    if columns == all {
        return 1;
    }
    let mut free = all & !(columns | rising | falling);
    let mut found = 0;
    while free != 0 {
        let queen = free & free.wrapping_neg();
        free ^= queen;
        found += fill(all, columns | queen, (rising | queen) << 1, (falling | queen) >> 1);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_small_boards() {
        // OEIS A000170.
        let published = [1, 0, 0, 2, 10, 4, 40, 92, 352, 724];
        for (n, count) in (1..).zip(published) {
            let size = BoardSize::new(n).unwrap();
            assert_eq!(Prefix::default().completions(size), count, "N = {n}");
        }
    }

    #[test]
    fn refuses_boards_out_of_range() {
        for text in ["0", "28", "255", "256", "-1", "eight", ""] {
            assert_eq!(text.parse::<BoardSize>(), Err(BoardSizeError), "{text}");
        }
        assert_eq!("27".parse::<BoardSize>().map(BoardSize::rows), Ok(27));
    }

    #[test]
    fn bits_are_single_and_complete() {
        assert_eq!(bits(0b1011).collect::<Vec<_>>(), [0b1, 0b10, 0b1000]);
        assert_eq!(bits(0).count(), 0);
    }
}
