//! How much memory and how many files each gateway has, all the time.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use kube::ResourceExt as _;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::scene::Scene;
use crate::cluster::release::HOME;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);
/// Of a process's life in which it only grows warm: buffers, pools, connections to everybody.
const WARM: f64 = 60.0;
/// Of a process's warm life, at least, for a slope to mean anything.
const WHILE: f64 = 60.0;

/// All that was seen, by the pod and the id of its process.
#[derive(Debug, Default)]
pub(super) struct Gauge(Mutex<BTreeMap<(String, i32), Life>>);

/// What one process of a gateway had.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    samples: Vec<Sample>,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Seconds since it was first seen.
    age: f64,
    kib: f64,
    files: f64,
}

impl Gauge {
    pub(super) async fn watch(&self, scene: &Scene<'_>) -> Result<Infallible> {
        let fault = scene.release.cluster().fault()?;
        let mut seen = BTreeMap::new();
        let mut pace = interval(LOOK);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            for pod in scene.gateways().await? {
                let name = pod.name_any();
                // One that was just killed has none.
                let Ok(processes) = fault.pod(HOME, &name).await else { continue };
                for process in processes {
                    let (Some(kib), Some(files)) = (process.resident_kib(), process.open_files())
                    else {
                        continue;
                    };
                    let key = (name.clone(), process.pid());
                    let first = *seen.entry(key.clone()).or_insert_with(Instant::now);
                    let age = first.elapsed().as_secs_f64();
                    let mut lives = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                    let sample = Sample { age, kib: kib as f64, files: files as f64 };
                    lives.entry(key).or_default().samples.push(sample);
                }
            }
        }
    }

    /// The life of the gateway that was left alone, and of those others that were long enough.
    pub(super) fn lives(&self, veteran: &str) -> Result<(Life, Vec<Life>)> {
        let lives = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |ours: bool| {
            lives.iter().filter(move |((pod, _), _)| (pod == veteran) == ours).map(|(_, life)| life)
        };
        let longest = of(true).max_by_key(|life| life.samples.len());
        let others = of(false).filter(|life| life.age() >= WARM + WHILE);
        Ok((longest.context("the gateway was never seen")?.clone(), others.cloned().collect()))
    }
}

impl Life {
    /// How long it was watched, in seconds.
    pub(super) fn age(&self) -> f64 {
        self.samples.last().map_or(0.0, |sample| sample.age)
    }

    /// KiB and files when it was warm, and at the end.
    pub(super) fn ends(&self) -> [(f64, f64); 2] {
        let first = self.warm().next();
        [first, self.samples.last().copied()]
            .map(|sample| sample.map_or((0.0, 0.0), |it| (it.kib, it.files)))
    }

    /// KiB and files that it gained a minute.
    pub(super) fn slopes(&self) -> (f64, f64) {
        let of = |value: fn(&Sample) -> f64| {
            let points: Vec<_> =
                self.warm().map(|sample| (sample.age / 60.0, value(&sample))).collect();
            slope(&points)
        };
        (of(|sample| sample.kib), of(|sample| sample.files))
    }

    fn warm(&self) -> impl Iterator<Item = Sample> + '_ {
        self.samples.iter().copied().filter(|sample| sample.age >= WARM)
    }
}

/// Of the line that is nearest to these points by least squares; none rises if there are fewer than two.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x, y) = (x / count, y / count);
    let rise: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let run: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    if run > 0.0 { rise / run } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slope_is_that_of_the_nearest_line() {
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]), 2.0);
        assert_eq!(slope(&[(0.0, 1.0), (1.0, 5.0), (2.0, 1.0)]), 0.0);
        assert_eq!(slope(&[(1.0, 7.0)]), 0.0);
        assert_eq!(slope(&[]), 0.0);
    }

    #[test]
    fn what_a_gateway_takes_to_grow_warm_is_no_growth() {
        let sample = |age, kib| Sample { age, kib, files: 30.0 };
        let life = Life {
            samples: vec![sample(0.0, 10_000.0), sample(60.0, 20_000.0), sample(120.0, 20_600.0)],
        };

        assert_eq!(life.slopes(), (600.0, 0.0));
        assert_eq!(life.ends(), [(20_000.0, 30.0), (20_600.0, 30.0)]);
    }
}
