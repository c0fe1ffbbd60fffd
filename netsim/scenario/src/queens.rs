//! The published numbers of solutions of the n-queens problem.

/// The largest board whose number of solutions is known (found in 2016, Preußer and Engelhardt).
pub const LARGEST: u8 = 27;

/// OEIS A000170 from n = 1.
const SOLUTIONS: [u64; LARGEST as usize] = [
    1,
    0,
    0,
    2,
    10,
    4,
    40,
    92,
    352,
    724,
    2_680,
    14_200,
    73_712,
    365_596,
    2_279_184,
    14_772_512,
    95_815_104,
    666_090_624,
    4_968_057_848,
    39_029_188_884,
    314_666_222_712,
    2_691_008_701_644,
    24_233_937_684_440,
    227_514_171_973_736,
    2_207_893_435_808_352,
    22_317_699_616_364_044,
    234_907_967_154_122_528,
];

/// The number of ways to place `n` queens on a board of `n` by `n`, for n = 1 to [`LARGEST`].
pub fn solutions(n: u8) -> Option<u64> {
    SOLUTIONS.get(usize::from(n).checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::solutions;

    #[test]
    fn the_table_starts_at_one() {
        assert_eq!(solutions(0), None);
        assert_eq!(solutions(1), Some(1));
        assert_eq!(solutions(8), Some(92));
        assert_eq!(solutions(15), Some(2_279_184));
        assert_eq!(solutions(28), None);
    }
}
