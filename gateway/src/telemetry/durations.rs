//! How long calls take, counted without a lock and by each worker in memory of its own.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

use crate::worker::PerWorker;

/// Bounds: 0.5 ms, and twice as much each, to 9 min: from a local tool to the longest calls.
const BOUNDS: usize = 21;
const LEAST: Duration = Duration::from_micros(500);

/// A histogram of durations.
#[derive(Debug, Clone, Default)]
pub(crate) struct Durations(Arc<PerWorker<OnceLock<Box<Counts>>>>);

#[derive(Debug, Default)]
struct Counts {
    /// How many were up to each bound and over the one before; and over all.
    buckets: [AtomicU64; BOUNDS + 1],
    nanoseconds: AtomicU64,
}

impl Durations {
    pub(crate) fn observe(&self, duration: Duration) {
        let counts = self.0.here().get_or_init(Box::default);
        if let Some(bucket) = counts.buckets.get(bucket_of(duration)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        counts.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

/// The first whose bound is not less.
fn bucket_of(duration: Duration) -> usize {
    let least = duration.as_nanos().div_ceil(LEAST.as_nanos()).max(1);
    let bucket = least.next_power_of_two().trailing_zeros();
    BOUNDS.min(bucket as usize)
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Durations {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let bounds = (0..BOUNDS as u32).map(|n| (LEAST * 2_u32.pow(n)).as_secs_f64());
        let mut buckets: Vec<(f64, u64)> =
            bounds.chain([f64::INFINITY]).map(|bound| (bound, 0)).collect();
        let mut sum = Duration::ZERO;
        for counts in self.0.iter().filter_map(OnceLock::get) {
            for ((_, count), more) in buckets.iter_mut().zip(&counts.buckets) {
                *count += more.load(Ordering::Relaxed);
            }
            sum += Duration::from_nanos(counts.nanoseconds.load(Ordering::Relaxed));
        }
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum.as_secs_f64(), count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
    use prometheus_client::registry::Registry;

    use super::*;

    fn text(metric: impl prometheus_client::registry::Metric) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        registry.register("duration", "How long", metric);
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn they_are_counted_as_the_library_counts() {
        let (own, other) = (
            Durations::default(),
            Histogram::new(exponential_buckets(LEAST.as_secs_f64(), 2.0, BOUNDS as u16)),
        );
        for micros in [0, 1, 499, 500, 501, 999, 1000, 1001, 64_000, 64_001, 1 << 31, 1 << 40] {
            let duration = Duration::from_micros(micros);
            own.observe(duration);
            other.observe(duration.as_secs_f64());
        }

        let (own, other) = (text(own), text(other));
        // The library adds up floats, one after the other.
        assert!(own.contains("\nduration_sum 1101659.243926\n"), "{own}");
        let but_sums = |text: &str| text.replace("_sum 1101659.2439259999", "_sum 1101659.243926");
        assert_eq!(but_sums(&own), but_sums(&other));
    }
}
