// SPDX-License-Identifier: MIT OR GPL-2.0-only
//! What a number of rounds says: its median, and how far it spreads.

use serde::{Deserialize, Serialize};

/// Rounds below which nothing is said about spread.
pub const FEWEST_ROUNDS: usize = 5;
/// A ratio whose middle half is wider than this part of it means nothing.
pub const WIDEST_SPREAD: f64 = 0.25;

/// Median and middle half of a number of values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    pub median: f64,
    /// A quarter of the values is below.
    pub low: f64,
    /// A quarter of the values is above.
    pub high: f64,
    pub rounds: usize,
}

impl Summary {
    /// Panics without any value: a measurement has at least one round.
    pub fn of(values: &[f64]) -> Self {
        assert!(!values.is_empty(), "a measurement has rounds");
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        Summary {
            median: quantile(&sorted, 0.5),
            low: quantile(&sorted, 0.25),
            high: quantile(&sorted, 0.75),
            rounds: sorted.len(),
        }
    }

    /// Width of the middle half, as a part of the median.
    pub fn spread(&self) -> f64 {
        if self.high == self.low {
            return 0.0;
        }
        (self.high - self.low) / self.median.abs()
    }

    pub fn scaled(&self, factor: f64) -> Self {
        Summary {
            median: self.median * factor,
            low: self.low * factor,
            high: self.high * factor,
            rounds: self.rounds,
        }
    }
}

/// Linear interpolation between the sorted values.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = part * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = place.ceil() as usize;
    sorted[below] + (sorted[above] - sorted[below]) * (place - below as f64)
}

/// How one thing compares to another, round by round.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ratio {
    Known(Summary),
    /// Too few rounds, or they disagree too much: no number is given.
    Meaningless {
        spread: f64,
        rounds: usize,
    },
}

impl Ratio {
    /// Of values measured in the same rounds: `numerators[i] / denominators[i]`.
    pub fn of(numerators: &[f64], denominators: &[f64]) -> Self {
        let ratios: Vec<f64> = numerators
            .iter()
            .zip(denominators)
            .map(|(numerator, denominator)| numerator / denominator)
            .collect();
        let summary = Summary::of(&ratios);
        let spread = summary.spread();
        // A NaN is no number that is small enough.
        if summary.rounds >= FEWEST_ROUNDS && spread <= WIDEST_SPREAD {
            Ratio::Known(summary)
        } else {
            Ratio::Meaningless {
                spread,
                rounds: summary.rounds,
            }
        }
    }

    pub fn known(&self) -> Option<Summary> {
        match self {
            Ratio::Known(summary) => Some(*summary),
            Ratio::Meaningless { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_middle_half_do_not_see_an_outlier() {
        let summary = Summary::of(&[5.0, 1.0, 1000.0, 3.0, 4.0]);
        assert_eq!(summary.median, 4.0);
        assert_eq!((summary.low, summary.high), (3.0, 5.0));
        assert_eq!(summary.spread(), 0.5);
    }

    #[test]
    fn quantiles_of_an_even_count_lie_between_values() {
        let summary = Summary::of(&[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(summary.median, 2.5);
        assert_eq!((summary.low, summary.high), (1.75, 3.25));
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        // Both slow down together: the ratio stays.
        let work = [10.0, 20.0, 40.0, 80.0, 160.0];
        let base = [5.0, 10.0, 20.0, 40.0, 80.0];
        let ratio = Ratio::of(&work, &base).known().expect("they agree");
        assert_eq!(ratio.median, 2.0);
        assert_eq!(ratio.spread(), 0.0);
    }

    #[test]
    fn a_ratio_that_spreads_too_far_is_refused() {
        let work = [1.0, 2.0, 1.5, 3.0, 1.0];
        let ratio = Ratio::of(&work, &[1.0; 5]);
        assert_eq!(ratio.known(), None);
        assert!(matches!(ratio, Ratio::Meaningless { spread, .. } if spread > WIDEST_SPREAD));
    }

    #[test]
    fn a_ratio_of_too_few_rounds_or_of_nothing_is_refused() {
        assert_eq!(Ratio::of(&[1.0; 4], &[1.0; 4]).known(), None);
        assert_eq!(Ratio::of(&[0.0; 5], &[0.0; 5]).known(), None);
    }
}
