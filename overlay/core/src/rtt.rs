//! The round trip times of a mesh, rank by rank, and the order that they suggest.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// The most members of a mesh whose table is passed on. Chosen: 256 make 32,640 pairs, some 200 kB of a
/// control message's 512.
pub const MAX_RTT_MEMBERS: usize = 256;

/// What the pairs of a mesh measured. Empty for a mesh of more than [`MAX_RTT_MEMBERS`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RttTable {
    /// Microseconds: row by row the pairs (0,1), (0,2), .. (1,2), .. of the lower rank with the higher.
    pairs_us: Vec<Option<u32>>,
}

impl RttTable {
    /// A table of `size` members. `measured` gives what the first measured to the second, microseconds;
    /// where both ends did, their mean counts.
    pub fn new(size: usize, measured: impl Fn(usize, usize) -> Option<u64>) -> Self {
        if size > MAX_RTT_MEMBERS {
            return Self::default();
        }
        let mean = |(low, high)| {
            let us = match (measured(low, high), measured(high, low)) {
                (Some(there), Some(back)) => there.midpoint(back),
                (Some(one), None) | (None, Some(one)) => one,
                (None, None) => return None,
            };
            Some(u32::try_from(us).unwrap_or(u32::MAX))
        };
        let pairs = (0..size).flat_map(|low| (low + 1..size).map(move |high| (low, high)));
        Self { pairs_us: pairs.map(mean).collect() }
    }

    /// What two ranks of a mesh of `size` members measured, microseconds.
    pub fn get(&self, size: usize, a: usize, b: usize) -> Option<u32> {
        let (low, high) = (a.min(b), a.max(b));
        if high >= size || self.pairs_us.len() != size * (size - 1) / 2 {
            return None;
        }
        if low == high {
            return Some(0);
        }
        let before = low * (2 * size - low - 1) / 2;
        *self.pairs_us.get(before + high - low - 1)?
    }

    /// A line for each rank, in it a number for each rank: milliseconds, 0 for itself, nothing where the
    /// pair has not been measured.
    pub fn csv(&self, size: usize) -> String {
        let mut text = String::new();
        for from in 0..size {
            for to in 0..size {
                if to > 0 {
                    text.push(',');
                }
                match self.get(size, from, to) {
                    _ if from == to => text.push('0'),
                    // Writing to a string does not fail.
                    Some(us) => drop(write!(text, "{}.{:03}", us / 1000, us % 1000)),
                    None => {}
                }
            }
            text.push('\n');
        }
        text
    }

    /// The ranks in an order in which near ones are neighbours: from rank 0 always on to the nearest
    /// that is left. Pairs that were not measured count as far; equals keep the order of their ranks.
    pub fn chain(&self, size: usize) -> Vec<usize> {
        let mut left: Vec<usize> = (1..size).collect();
        let mut chain: Vec<usize> = (0..size.min(1)).collect();
        while let Some(last) = chain.last().copied() {
            let far = |rank: usize| self.get(size, last, rank).unwrap_or(u32::MAX);
            let nearest = left.iter().enumerate().min_by_key(|(_, rank)| (far(**rank), **rank));
            let Some((place, _)) = nearest else { break };
            chain.push(left.remove(place));
        }
        chain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sites on a line: the distance is the round trip time in milliseconds.
    fn line(places: &[u64]) -> RttTable {
        RttTable::new(places.len(), |a, b| Some(1000 * places[a].abs_diff(places[b])))
    }

    #[test]
    fn near_ranks_become_neighbours_and_rank_0_stays_first() {
        let two_sites = [0, 100, 1, 101, 2];
        assert_eq!(line(&two_sites).chain(5), [0, 2, 4, 1, 3]);
        assert_eq!(RttTable::default().chain(4), [0, 1, 2, 3], "nothing known, nothing changed");
        assert_eq!(RttTable::default().chain(1), [0]);
        assert_eq!(RttTable::default().chain(0), [0; 0]);
    }

    #[test]
    fn both_ends_measure_and_the_table_is_symmetric() {
        let table = RttTable::new(3, |from, to| match (from, to) {
            (0, 1) => Some(10_000),
            (1, 0) => Some(11_000),
            (2, 1) => Some(1_234),
            _ => None,
        });
        assert_eq!(table.csv(3), "0,10.500,\n10.500,0,1.234\n,1.234,0\n");
        assert_eq!((table.get(3, 1, 0), table.get(3, 0, 2)), (Some(10_500), None));
        assert_eq!((table.get(3, 3, 0), table.get(4, 0, 1)), (None, None), "of no such mesh");
    }

    #[test]
    fn too_large_a_mesh_has_an_empty_table_and_the_largest_one_fits_a_message() {
        let table = RttTable::new(MAX_RTT_MEMBERS + 1, |_, _| Some(1));
        assert_eq!(table, RttTable::default());
        let most = RttTable::new(MAX_RTT_MEMBERS, |_, _| Some(4_000_000_000));
        let text = serde_json::to_string(&most).unwrap();
        assert!(text.len() < crate::control::MAX_MESSAGE, "{}", text.len());
        assert_eq!(serde_json::from_str::<RttTable>(&text).unwrap(), most);
    }
}
