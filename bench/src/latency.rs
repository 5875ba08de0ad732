//! Latencies, kept whole: a run is short enough to keep every sample.

use std::time::Duration;

/// Samples in microseconds.
#[derive(Debug, Default, Clone)]
pub struct Latencies {
    micros: Vec<u32>,
    sorted: bool,
}

impl Latencies {
    /// Keeps one sample; an hour and more counts as about an hour.
    pub fn add(&mut self, took: Duration) {
        self.micros.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
        self.sorted = false;
    }

    /// Takes over all samples of another.
    pub fn merge(&mut self, other: &Self) {
        self.micros.extend_from_slice(&other.micros);
        self.sorted = false;
    }

    /// How many samples there are.
    pub fn count(&self) -> usize {
        self.micros.len()
    }

    /// The share of the whole time that went to samples above `limit`; zero without samples.
    pub fn share_above(&self, limit: Duration) -> f64 {
        let sum = |above: Duration| -> Duration {
            let samples = self.micros.iter().map(|it| Duration::from_micros(u64::from(*it)));
            samples.filter(|it| *it > above).sum()
        };
        let whole = sum(Duration::ZERO);
        if whole.is_zero() { 0.0 } else { sum(limit).div_duration_f64(whole) }
    }

    /// The smallest sample that at least `share` (0 to 1) of all samples do not exceed; zero without samples.
    pub fn quantile(&mut self, share: f64) -> Duration {
        if !self.sorted {
            self.micros.sort_unstable();
            self.sorted = true;
        }
        let rank = (1..=self.micros.len()).find(|it| *it as f64 >= share * self.micros.len() as f64);
        Duration::from_micros(rank.map_or(0, |it| u64::from(self.micros[it - 1])))
    }
}

/// The middle of a list, or the mean of the two in the middle; NaN of an empty list.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => sorted[len / 2],
        len => f64::midpoint(sorted[len / 2 - 1], sorted[len / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_a_sample_that_so_many_do_not_exceed() {
        let mut it = Latencies::default();
        assert_eq!(it.quantile(0.99), Duration::ZERO);
        (1..=100).rev().for_each(|ms| it.add(Duration::from_millis(ms)));
        let got = [0.0, 0.5, 0.99, 1.0].map(|share| it.quantile(share).as_millis());
        assert_eq!(got, [1, 50, 99, 100]);
    }

    #[test]
    fn the_share_above_a_limit_is_one_of_time_and_not_of_samples() {
        let mut it = Latencies::default();
        assert_eq!(it.share_above(Duration::ZERO), 0.0);
        [5, 1, 1, 1, 2, 30].into_iter().for_each(|ms| it.add(Duration::from_millis(ms)));
        assert_eq!(it.share_above(Duration::from_millis(5)), 0.75);
        assert_eq!(format!("{:.1}", it.share_above(Duration::from_millis(30))), "0.0", "and not -0.0");
    }

    #[test]
    fn the_median_of_an_even_list_is_the_mean_of_its_middle() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0])), (2.0, 2.5));
    }
}
