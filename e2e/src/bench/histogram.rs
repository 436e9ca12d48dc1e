//! A log-linear histogram of latencies: constant memory, relative error below 0.2 %.

use std::time::Duration;

/// Counts durations in buckets 1/256 of their power of two wide.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub(super) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let last = self.counts.len() - 1;
        self.counts[bucket(nanos).min(last)] += 1;
        self.total += 1;
    }

    /// Both together.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.total += other.total;
        self.counts.iter_mut().zip(other.counts).for_each(|(own, other)| *own += other);
        self
    }

    pub(super) fn count(&self) -> u64 {
        self.total
    }

    /// The latency that the fraction `quantile` of all calls did not exceed; zero when empty.
    pub(super) fn quantile(&self, quantile: f64) -> Duration {
        let rank = ((self.total as f64 * quantile).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(middle(index));
            }
        }
        Duration::ZERO
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; bucket(LONGEST_NANOS) + 1], total: 0 }
    }
}

/// Below [`STEPS`] a bucket is one nanosecond; above, each power of two has [`STEPS`] of them.
fn bucket(nanos: u64) -> usize {
    let shift = shift(nanos);
    // The mantissa is in STEPS..2*STEPS once shifted, and below STEPS only unshifted.
    (shift as usize) * STEPS + (nanos >> shift) as usize
}

fn middle(index: usize) -> u64 {
    let shift = (index / STEPS).saturating_sub(1);
    let mantissa = (index - shift * STEPS) as u64;
    (mantissa << shift) + ((1 << shift) >> 1)
}

fn shift(nanos: u64) -> u32 {
    nanos.checked_ilog2().map_or(0, |log| log.saturating_sub(STEPS.ilog2()))
}

const STEPS: usize = 256;

/// Longer ones are counted as this; a call that takes a minute is a failure anyway.
const LONGEST_NANOS: u64 = 60_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middles_are_within_a_fifth_of_a_percent() {
        let mut nanos = 1;
        while nanos < LONGEST_NANOS {
            let error = middle(bucket(nanos)).abs_diff(nanos) as f64 / nanos as f64;
            assert!(error <= 0.002, "{nanos} ns is off by {error}");
            nanos += nanos / 7 + 1;
        }
    }

    #[test]
    fn buckets_follow_each_other_without_gap() {
        for nanos in 1..10_000 {
            let step = bucket(nanos) - bucket(nanos - 1);
            assert!(step <= 1, "{step} buckets between {} and {nanos}", nanos - 1);
        }
    }

    #[test]
    fn quantiles_of_a_uniform_spread_are_its_ranks() {
        let mut histogram = Histogram::default();
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros));
        }

        assert_eq!(histogram.count(), 1000);
        for (quantile, expected) in [(0.0, 1.0), (0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.quantile(quantile).as_secs_f64() * 1e6;
            assert!((found / expected - 1.0).abs() < 0.002, "p{quantile}: {found}");
        }
    }

    #[test]
    fn hours_are_counted_and_no_calls_take_no_time() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), Duration::ZERO);

        histogram.record(Duration::from_secs(7200));

        assert_eq!(histogram.quantile(0.5).as_secs(), 60);
    }
}
