//! Medians, means and the intervals in which they are.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Resamples of a bootstrap: enough that the ends of a 95 % interval stand still (Efron and Tibshirani, An
/// Introduction to the Bootstrap, 1993, chapter 13).
const RESAMPLES: usize = 2000;

/// A median, or mean, and its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Figure {
    pub middle: f64,
    pub lo: f64,
    pub hi: f64,
}

/// The middle one, or between the two in the middle.
pub fn median(values: &[f64]) -> f64 {
    part(values, 0.5)
}

/// The sum by the number.
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The value below which this part of all values is.
pub fn part(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let at = part * last as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    low + (high - low) * at.fract()
}

/// What `middle` says of them, and its interval by resampling; the same values give the same one.
pub fn figure(values: &[f64], middle: fn(&[f64]) -> f64) -> Figure {
    let mut random = StdRng::seed_from_u64(1);
    let middles: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let again: Vec<f64> = (0..values.len())
                .map(|_| values[random.random_range(0..values.len())])
                .collect();
            middle(&again)
        })
        .collect();
    Figure {
        middle: middle(values),
        lo: part(&middles, 0.025),
        hi: part(&middles, 0.975),
    }
}

/// Of each pair, the first by the second.
pub fn ratios(of: &[f64], by: &[f64]) -> Vec<f64> {
    of.iter().zip(by).map(|(of, by)| of / by).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_in_the_middle_of_its_interval() {
        let values: Vec<f64> = (0..31).map(f64::from).collect();
        let figure = figure(&values, median);
        assert_eq!(figure.middle, 15.0);
        assert!(figure.lo < 12.0 && figure.lo > 5.0, "{figure:?}");
        assert!(figure.hi > 18.0 && figure.hi < 25.0, "{figure:?}");
    }

    #[test]
    fn equal_values_have_no_spread() {
        let Figure { middle, lo, hi } = figure(&[2.0; 8], mean);
        assert_eq!([middle, lo, hi], [2.0; 3]);
        assert_eq!(part(&[1.0, 2.0, 3.0, 4.0], 0.5), 2.5);
        assert!(part(&[], 0.5).is_nan());
    }
}
