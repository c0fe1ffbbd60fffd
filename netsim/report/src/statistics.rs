//! The few numbers that stand for many.

/// The `q`-quantile (0 to 1) by linear interpolation between the two nearest (Hyndman and Fan's type 7,
/// as R and NumPy do by default); none of none.
pub fn quantile(mut values: Vec<f64>, q: f64) -> Option<f64> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    let place = q.clamp(0.0, 1.0) * last as f64;
    let (below, part) = (place.floor() as usize, place.fract());
    let above = values.get(below + 1).or(values.get(below))?;
    let below = values.get(below)?;
    Some(below + (above - below) * part)
}

/// The middle one.
pub fn median(values: Vec<f64>) -> Option<f64> {
    quantile(values, 0.5)
}

/// The empirical distribution: each value with the part of `of` that is not above it. `of` counts those
/// that never got a value too.
pub fn ecdf(mut values: Vec<f64>, of: usize) -> Vec<(f64, f64)> {
    values.retain(|value| value.is_finite());
    values.sort_by(f64::total_cmp);
    let of = of.max(values.len()).max(1) as f64;
    (1..).zip(values).map(|(rank, value)| (value, f64::from(rank) / of)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_textbooks() {
        let values = vec![4.0, 1.0, 3.0, 2.0];
        assert_eq!(median(values.clone()), Some(2.5));
        assert_eq!(quantile(values.clone(), 0.0), Some(1.0));
        assert_eq!(quantile(values.clone(), 1.0), Some(4.0));
        assert_eq!(quantile(values, 0.25), Some(1.75));
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![f64::NAN, 7.0]), Some(7.0));
    }

    #[test]
    fn a_distribution_counts_those_that_never_got_there() {
        assert_eq!(ecdf(vec![2.0, 1.0], 4), [(1.0, 0.25), (2.0, 0.5)]);
    }
}
