//! A set of small numbers, for the sets of resources that the scheduler compares all the time.

/// A set of numbers below a length that is the same for all sets of one pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
}

impl Bits {
    pub(crate) fn empty(length: usize) -> Self {
        Self { words: vec![0; length.div_ceil(64)] }
    }

    pub(crate) fn insert(&mut self, number: usize) {
        self.words[number / 64] |= 1 << (number % 64);
    }

    pub(crate) fn remove(&mut self, number: usize) {
        self.words[number / 64] &= !(1 << (number % 64));
    }

    pub(crate) fn contains(&self, number: usize) -> bool {
        self.words[number / 64] >> (number % 64) & 1 == 1
    }

    pub(crate) fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// How many of these consecutive numbers are in it.
    pub(crate) fn count_in(&self, range: std::ops::Range<usize>) -> usize {
        if range.is_empty() {
            return 0;
        }
        let (first, last) = (range.start / 64, (range.end - 1) / 64);
        let from = u64::MAX << (range.start % 64);
        let to = u64::MAX >> (63 - (range.end - 1) % 64);
        if first == last {
            return (self.words[first] & from & to).count_ones() as usize;
        }
        let between = self.words[first + 1..last].iter().map(|word| word.count_ones());
        let ends = (self.words[first] & from).count_ones() + (self.words[last] & to).count_ones();
        (ends + between.sum::<u32>()) as usize
    }

    /// The first number in it that is not below this one.
    pub(crate) fn next_from(&self, number: usize) -> Option<usize> {
        let word = self.words.get(number / 64)? & (u64::MAX << (number % 64));
        if word != 0 {
            return Some(number / 64 * 64 + word.trailing_zeros() as usize);
        }
        let behind = number / 64 + 1;
        let found = self.words[behind..].iter().position(|word| *word != 0)? + behind;
        Some(found * 64 + self.words[found].trailing_zeros() as usize)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Keeps what is in both.
    pub(crate) fn intersect(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(own, other)| *own &= other);
    }

    pub(crate) fn unite(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(own, other)| *own |= other);
    }

    pub(crate) fn subtract(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(own, other)| *own &= !other);
    }

    /// Takes over the content of another set.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        self.words.clone_from(&other.words);
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        let mut both = self.clone();
        both.intersect(other);
        both
    }

    /// All numbers, in rising order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest.wrapping_sub(1);
                (bit < 64).then_some(index * 64 + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn bits(numbers: &BTreeSet<usize>) -> Bits {
        let mut bits = Bits::empty(200);
        numbers.iter().for_each(|&number| bits.insert(number));
        bits
    }

    proptest! {
        #[test]
        fn it_is_a_set(
            left in proptest::collection::btree_set(0..200_usize, 0..50),
            right in proptest::collection::btree_set(0..200_usize, 0..50),
            (from, to) in (0..200_usize, 0..=200_usize),
        ) {
            let (mut own, other) = (bits(&left), bits(&right));
            prop_assert_eq!(own.iter().collect::<BTreeSet<_>>(), left.clone());
            prop_assert_eq!(own.count(), left.len());
            prop_assert_eq!(own.is_empty(), left.is_empty());
            prop_assert_eq!(own.next_from(from), left.range(from..).next().copied());
            let within = left.iter().filter(|number| (from..to).contains(*number)).count();
            prop_assert_eq!(own.count_in(from..to), within);
            prop_assert_eq!(own.intersection(&other), bits(&(&left & &right)));
            own.unite(&other);
            prop_assert_eq!(&own, &bits(&(&left | &right)));
            own.subtract(&other);
            prop_assert_eq!(&own, &bits(&(&left - &right)));
            prop_assert!(right.iter().all(|&number| !own.contains(number)));
        }
    }
}
