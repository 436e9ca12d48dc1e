//! What the rounds found, and the ratios that the budgets are about.

use std::collections::BTreeMap;

use crate::bench::{ALONE, BUSY, Target, load, streams};

/// Reports by target and number of clients, one a round and in the order of the rounds.
#[derive(Debug, Default)]
pub(super) struct Results {
    cells: BTreeMap<(Target, usize), Vec<load::Report>>,
    streams: BTreeMap<Target, streams::Report>,
}

/// A median with its extremes over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Results {
    pub(super) fn add(&mut self, target: Target, clients: usize, report: load::Report) {
        self.cells.entry((target, clients)).or_default().push(report);
    }

    pub(super) fn add_streams(&mut self, target: Target, report: streams::Report) {
        self.streams.insert(target, report);
    }

    pub(super) fn streams(&self) -> impl Iterator<Item = (Target, &streams::Report)> {
        self.streams.iter().map(|(target, report)| (*target, report))
    }

    /// One figure of a cell over all rounds; `None` when it was not measured.
    pub(super) fn spread(
        &self,
        target: Target,
        clients: usize,
        figure: impl Fn(&load::Report) -> Option<f64>,
    ) -> Option<Spread> {
        Spread::of(self.cells.get(&(target, clients))?.iter().map(figure).collect::<Option<_>>()?)
    }

    /// CPU time a call under full load, as a multiple of nginx's.
    pub(super) fn cpu_by_nginx(&self, target: Target) -> Option<Spread> {
        self.pair(target, Target::Nginx, BUSY, |own, nginx| Some(own.cpu_us? / nginx.cpu_us?))
    }

    /// Calls a second under full load, as a multiple of nginx's.
    pub(super) fn rate_by_nginx(&self, target: Target) -> Option<Spread> {
        let ratio = |own: &load::Report, nginx: &load::Report| {
            Some(own.calls_per_second / nginx.calls_per_second)
        };
        self.pair(target, Target::Nginx, BUSY, ratio)
    }

    /// What the target adds to one client's median latency, as a multiple of what `other` adds.
    ///
    /// `None` also when `other` added nothing in some round: then noise was measured.
    pub(super) fn added_by(&self, target: Target, other: Target) -> Option<Spread> {
        let added = |target| {
            self.rounds(target, Target::Direct, ALONE, |own, direct| {
                Some(own.p50_us - direct.p50_us)
            })
        };
        let ratios = added(target)?
            .into_iter()
            .zip(added(other)?)
            .map(|(own, other)| (other > 0.0).then_some(own / other));
        Spread::of(ratios.collect::<Option<_>>()?)
    }

    /// KiB of memory an idle SSE stream.
    pub(super) fn stream_kib(&self, target: Target) -> Option<Spread> {
        let slope = self.streams.get(&target)?.slope()?;
        Spread::of(vec![slope])
    }

    fn pair(
        &self,
        target: Target,
        other: Target,
        clients: usize,
        combine: impl Fn(&load::Report, &load::Report) -> Option<f64>,
    ) -> Option<Spread> {
        Spread::of(self.rounds(target, other, clients, combine)?)
    }

    /// Combines the reports of two targets round by round, so that what slows the machine for a
    /// while cancels out.
    fn rounds(
        &self,
        target: Target,
        other: Target,
        clients: usize,
        combine: impl Fn(&load::Report, &load::Report) -> Option<f64>,
    ) -> Option<Vec<f64>> {
        let own = self.cells.get(&(target, clients))?;
        let other = self.cells.get(&(other, clients))?;
        own.iter().zip(other).map(|(own, other)| combine(own, other)).collect()
    }
}

impl Spread {
    /// `None` for no values.
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let upper = values.len() / 2;
        let lower = (values.len() - 1) / 2;
        Some(Self { median: f64::midpoint(values[lower], values[upper]), low, high })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_an_even_count_is_the_middle_of_two() {
        let spread = Spread::of(vec![4.0, 1.0, 2.0, 8.0]).unwrap();

        assert_eq!(spread, Spread { median: 3.0, low: 1.0, high: 8.0 });
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let mut results = Results::default();
        for (nginx, fairway) in [(10.0, 12.0), (20.0, 24.0), (30.0, 45.0)] {
            results.add(Target::Nginx, BUSY, report(1.0 / nginx, 0.0, nginx));
            results.add(Target::Fairway, BUSY, report(1.0 / fairway, 0.0, fairway));
        }

        let cpu = results.cpu_by_nginx(Target::Fairway).unwrap();
        let rate = results.rate_by_nginx(Target::Fairway).unwrap();

        assert_eq!(cpu, Spread { median: 1.2, low: 1.2, high: 1.5 });
        assert!((rate.median - 1.0 / 1.2).abs() < 1e-9);
        assert_eq!(results.cpu_by_nginx(Target::Floor), None);
    }

    #[test]
    fn added_latency_is_over_direct_and_by_the_other_target() {
        let mut results = Results::default();
        for (target, p50) in
            [(Target::Direct, 50.0), (Target::Floor, 110.0), (Target::Fairway, 125.0)]
        {
            results.add(target, ALONE, report(1.0, p50, 1.0));
        }

        assert_eq!(results.added_by(Target::Fairway, Target::Floor).unwrap().median, 1.25);
        assert_eq!(results.added_by(Target::Fairway, Target::Nginx), None);
    }

    #[test]
    fn nothing_added_is_no_measure() {
        let mut results = Results::default();
        for (target, p50) in
            [(Target::Direct, 50.0), (Target::Floor, 50.0), (Target::Fairway, 60.0)]
        {
            results.add(target, ALONE, report(1.0, p50, 1.0));
        }

        assert_eq!(results.added_by(Target::Fairway, Target::Floor), None);
    }

    fn report(calls_per_second: f64, p50_us: f64, cpu_us: f64) -> load::Report {
        load::Report { calls_per_second, p50_us, cpu_us: Some(cpu_us), ..load::Report::default() }
    }
}
