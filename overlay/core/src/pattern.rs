//! Who of a mesh is expected to talk to whom: the declared communication pattern of a job.
//!
//! ```text
//!   all      ring        star       tree          grid
//!   0─1      0─1         1   2        0           0─1─2
//!   │╳│      │ │          ╲ ╱        ╱ ╲          │ │ │
//!   3─2      3─2      3 ─ 0 ─ 4     1   2         3─4─5
//!                                  ╱ ╲ ╱          │ │
//!                                 3  4 5          6─7
//! ```
//!
//! Members are counted by their place in the netmap (rank), not by their index: members that left
//! leave no hole.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which pairs of a mesh are connected before the job asks for it. Every pair may talk all the same:
/// the others are connected with their first packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// Each with the next one, and the last with the first.
    Ring,
    /// The first with everybody.
    Star,
    /// Each with its two children: rank r with 2r + 1 and 2r + 2.
    Tree,
    /// Rows of ⌈√n⌉: each with its neighbours to the right and below.
    Grid,
    /// Everybody with everybody; also what a later version calls by a name that this one does not know.
    #[default]
    #[serde(other)]
    All,
}

/// The name is none of those of [`Pattern`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown mesh pattern: use all, ring, star, tree or grid")]
pub struct ParsePatternError;

impl FromStr for Pattern {
    type Err = ParsePatternError;

    fn from_str(text: &str) -> Result<Self, ParsePatternError> {
        Ok(match text {
            "all" => Self::All,
            "ring" => Self::Ring,
            "star" => Self::Star,
            "tree" => Self::Tree,
            "grid" => Self::Grid,
            _ => return Err(ParsePatternError),
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Ring => "ring",
            Self::Star => "star",
            Self::Tree => "tree",
            Self::Grid => "grid",
        })
    }
}

impl Pattern {
    /// Whether two ranks of a mesh of `size` members belong together. Nobody does with itself.
    pub fn joins(self, a: usize, b: usize, size: usize) -> bool {
        let (low, high) = (a.min(b), a.max(b));
        if low == high || high >= size {
            return false;
        }
        match self {
            Self::All => true,
            Self::Ring => high - low == 1 || (low == 0 && high == size - 1),
            Self::Star => low == 0,
            Self::Tree => low == (high - 1) / 2,
            Self::Grid => {
                let width = grid_width(size);
                high - low == width || (high - low == 1 && !high.is_multiple_of(width))
            }
        }
    }

    /// All pairs of a mesh of `size` members, the lower rank first.
    pub fn pairs(self, size: usize) -> BTreeSet<(usize, usize)> {
        let all = (0..size).flat_map(|low| (low + 1..size).map(move |high| (low, high)));
        all.filter(|(low, high)| self.joins(*low, *high, size)).collect()
    }
}

fn grid_width(size: usize) -> usize {
    let root = size.isqrt();
    if root * root == size { root.max(1) } else { root + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Pattern; 5] =
        [Pattern::All, Pattern::Ring, Pattern::Star, Pattern::Tree, Pattern::Grid];

    fn pairs(pattern: Pattern, size: usize) -> Vec<(usize, usize)> {
        pattern.pairs(size).into_iter().collect()
    }

    #[test]
    fn small_meshes_have_these_pairs() {
        assert_eq!(pairs(Pattern::All, 3), [(0, 1), (0, 2), (1, 2)]);
        assert_eq!(pairs(Pattern::Ring, 4), [(0, 1), (0, 3), (1, 2), (2, 3)]);
        assert_eq!(pairs(Pattern::Star, 4), [(0, 1), (0, 2), (0, 3)]);
        assert_eq!(pairs(Pattern::Tree, 6), [(0, 1), (0, 2), (1, 3), (1, 4), (2, 5)]);
        let grid = [(0, 1), (0, 3), (1, 2), (1, 4), (2, 5), (3, 4), (3, 6), (4, 5), (4, 7), (6, 7)];
        assert_eq!(pairs(Pattern::Grid, 8), grid);
    }

    #[test]
    fn every_pattern_connects_every_mesh_and_names_no_stranger() {
        for pattern in ALL {
            for size in 0..40 {
                let pairs = pattern.pairs(size);
                assert!(pairs.iter().all(|(low, high)| low < high && *high < size));
                let mut reached = BTreeSet::from([0]);
                for _ in 0..size {
                    for (low, high) in &pairs {
                        if reached.contains(low) || reached.contains(high) {
                            reached.extend([*low, *high]);
                        }
                    }
                }
                assert_eq!(reached.len(), size.max(1), "{pattern:?} of {size}");
            }
        }
    }

    #[test]
    fn all_but_all_need_few_pairs() {
        assert_eq!(Pattern::All.pairs(64).len(), 2016);
        assert_eq!(Pattern::Ring.pairs(64).len(), 64);
        assert_eq!(Pattern::Star.pairs(64).len(), 63);
        assert_eq!(Pattern::Tree.pairs(64).len(), 63);
        assert_eq!(Pattern::Grid.pairs(64).len(), 112);
    }

    #[test]
    fn names_read_back_and_an_unknown_one_in_a_netmap_means_all() {
        for pattern in ALL {
            let text = serde_json::to_string(&pattern).unwrap();
            assert_eq!(text.trim_matches('"').parse(), Ok(pattern));
            assert_eq!(text.trim_matches('"'), pattern.to_string());
            assert_eq!(serde_json::from_str::<Pattern>(&text).unwrap(), pattern);
        }
        assert_eq!(serde_json::from_str::<Pattern>("\"torus\"").unwrap(), Pattern::All);
        assert_eq!("torus".parse::<Pattern>(), Err(ParsePatternError));
    }
}
