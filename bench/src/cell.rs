//! One cell of a table: what was sent to whom, how often it was measured, and what came out.

use crate::latency::median;
use crate::load::Seen;

/// One measurement of a cell.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// What the load generator saw.
    pub seen: Seen,
    /// Processor time of what is measured, in microseconds for each request. Zero where it is the upstream itself.
    pub cpu_us: f64,
    /// The same of the upstream.
    pub upstream_us: f64,
    /// The same of the load generator.
    pub generator_us: f64,
    /// Which share of all cores went to programs that take no part, and to other machines of the host.
    pub others: f64,
}

/// All measurements of a cell at one number of connections.
#[derive(Debug, Clone, Default)]
pub struct Cell {
    /// In the order of the rounds.
    pub samples: Vec<Sample>,
    /// Why the cell has no figure: it was not answered as it should be.
    pub failed: Option<String>,
}

impl Cell {
    /// The median of something over all rounds.
    pub fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(&self.samples.iter().map(of).collect::<Vec<_>>())
    }

    /// The median and the quartiles of how much of `of` this cell has, beside `base` in the same round.
    pub fn ratio(&self, base: &Self, of: impl Fn(&Sample) -> f64) -> Option<[f64; 3]> {
        if self.failed.is_some() || base.failed.is_some() || self.samples.len() != base.samples.len() {
            return None;
        }
        let mut ratios: Vec<f64> =
            self.samples.iter().zip(&base.samples).map(|(mine, other)| of(mine) / of(other)).collect();
        ratios.sort_by(f64::total_cmp);
        let middle = median(&ratios);
        (!ratios.is_empty()).then(|| [ratios[ratios.len() / 4], middle, ratios[ratios.len() * 3 / 4]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(rates: &[u64]) -> Cell {
        let sample = |requests: &u64| Sample {
            seen: Seen {
                requests: *requests,
                took_us: 1_000_000,
                refused: 0,
                broken: 0,
                p50_us: 1.0,
                p99_us: 2.0,
            },
            cpu_us: 1.0,
            upstream_us: 1.0,
            generator_us: 1.0,
            others: 0.0,
        };
        Cell { samples: rates.iter().map(sample).collect(), failed: None }
    }

    #[test]
    fn a_ratio_compares_within_rounds_and_a_failed_cell_has_none() {
        let (mine, base) = (cell(&[50, 10, 300]), cell(&[100, 10, 200]));
        let ratio = mine.ratio(&base, |it| it.seen.rate()).unwrap();
        assert_eq!(ratio, [0.5, 1.0, 1.5]);
        let failed = Cell { failed: Some("no".into()), ..base };
        assert!(mine.ratio(&failed, |it| it.seen.rate()).is_none());
        assert!(mine.ratio(&cell(&[1]), |it| it.seen.rate()).is_none());
        assert!(cell(&[]).ratio(&cell(&[]), |it| it.seen.rate()).is_none());
    }
}
