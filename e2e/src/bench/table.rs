//! The results as Markdown: what was measured, and what it means for the budgets.

use std::fmt::Write;

use crate::bench::{
    ALONE, BUSY, Plan, Target,
    load::Report,
    results::{Results, Spread},
};

/// Renders everything a reader needs, the conditions first; `others` is the percentage of CPU time
/// that the benchmark did not have.
pub(super) fn render(results: &Results, machine: &str, others: f64, plan: &Plan) -> String {
    let Plan { rounds, seconds, warmup, .. } = plan;
    let alone = if plan.spread { "spread over the cores" } else { "on one core" };
    let mut text = format!(
        "{machine}; others took {others:.0} % of the CPU time. {rounds} interleaved rounds of {seconds} s a cell after {warmup} s of warm-up; \
         one client {alone}, {BUSY} on all; median (lowest–highest).\n\n"
    );
    cells(&mut text, results, &plan.targets);
    text.push('\n');
    ratios(&mut text, results);
    streams(&mut text, results);
    text
}

fn cells(text: &mut String, results: &Results, targets: &[Target]) {
    text.push_str("| target | clients | calls/s | p50 µs | p99 µs | CPU µs/call | RSS MiB |\n");
    text.push_str("|---|--:|--:|--:|--:|--:|--:|\n");
    for clients in [ALONE, BUSY] {
        for &target in targets {
            let figure = |decimals, of: fn(&Report) -> Option<f64>| {
                shown(results.spread(target, clients, of), decimals)
            };
            line(
                text,
                &[
                    target.to_string(),
                    clients.to_string(),
                    figure(0, |report| Some(report.calls_per_second)),
                    figure(0, |report| Some(report.p50_us)),
                    figure(0, |report| Some(report.p99_us)),
                    figure(1, |report| report.cpu_us),
                    figure(1, |report| Some(report.resident_kib? as f64 / 1024.0)),
                ],
            );
        }
    }
}

/// A ratio that Fairway must keep.
struct Budget {
    what: &'static str,
    bound: Bound,
    measure: fn(&Results, Target) -> Option<Spread>,
}

enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

fn ratios(text: &mut String, results: &Results) {
    text.push_str("| budget | bound | Fairway | verdict | floor, for comparison |\n");
    text.push_str("|---|--:|--:|---|--:|\n");
    for budget in &BUDGETS {
        let fairway = (budget.measure)(results, Target::Fairway);
        let floor = (budget.measure)(results, Target::Floor);
        line(
            text,
            &[
                budget.what.to_owned(),
                budget.bound.to_string(),
                shown(fairway, 2),
                budget.bound.verdict(fairway).to_owned(),
                shown(floor, 2),
            ],
        );
    }
}

fn streams(text: &mut String, results: &Results) {
    for (target, report) in results.streams() {
        let steps = report.steps.iter().map(|step| {
            format!("{:.1} MiB with {}", step.resident_kib as f64 / 1024.0, step.streams)
        });
        let steps = steps.collect::<Vec<_>>().join(", ");
        let _ = write!(text, "\nIdle SSE streams, {target}: {steps}.\n");
    }
}

fn line(text: &mut String, columns: &[String]) {
    let _ = writeln!(text, "| {} |", columns.join(" | "));
}

fn shown(spread: Option<Spread>, decimals: usize) -> String {
    match spread {
        None => "–".to_owned(),
        Some(Spread { median, low, high }) if low == high => format!("{median:.decimals$}"),
        Some(Spread { median, low, high }) => {
            format!("{median:.decimals$} ({low:.decimals$}–{high:.decimals$})")
        }
    }
}

impl Bound {
    fn verdict(&self, spread: Option<Spread>) -> &'static str {
        let Some(Spread { median, .. }) = spread else { return "not measured" };
        let kept = match *self {
            Self::AtMost(limit) => median <= limit,
            Self::AtLeast(limit) => median >= limit,
        };
        if kept { "pass" } else { "fail" }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(limit) => write!(f, "≤ {limit}"),
            Self::AtLeast(limit) => write!(f, "≥ {limit}"),
        }
    }
}

/// The design's budgets for keys and policy switched on.
const BUDGETS: [Budget; 4] = [
    Budget {
        what: "CPU per call, 32 clients, by nginx's",
        bound: Bound::AtMost(1.3),
        measure: Results::cpu_by_nginx,
    },
    Budget {
        what: "calls/s, 32 clients, by nginx's",
        bound: Bound::AtLeast(0.9),
        measure: Results::rate_by_nginx,
    },
    Budget {
        what: "added p50, 1 client, by the floor's",
        bound: Bound::AtMost(1.25),
        measure: |results, target| results.added_by(target, Target::Floor),
    },
    Budget {
        what: "KiB per idle SSE stream, 1,000 to 10,000",
        bound: Bound::AtMost(24.0),
        measure: Results::stream_kib,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdict_is_on_the_median_and_includes_the_bound() {
        let spread = |median| Some(Spread { median, low: 0.1, high: 9.0 });
        for (bound, median, verdict) in [
            (Bound::AtMost(1.3), 1.3, "pass"),
            (Bound::AtMost(1.3), 1.31, "fail"),
            (Bound::AtLeast(0.9), 0.9, "pass"),
            (Bound::AtLeast(0.9), 0.89, "fail"),
        ] {
            assert_eq!(bound.verdict(spread(median)), verdict, "{bound} and {median}");
        }
        assert_eq!(Bound::AtMost(1.0).verdict(None), "not measured");
    }

    #[test]
    fn tables_say_what_was_not_measured() {
        let mut results = Results::default();
        results.add(Target::Direct, 32, Report { calls_per_second: 34_000.4, ..Report::default() });

        let mut text = String::new();
        cells(&mut text, &results, &[Target::Direct]);
        ratios(&mut text, &results);

        assert!(text.contains("| direct | 32 | 34000 | 0 | 0 | – | – |"), "{text}");
        assert!(text.contains("| ≤ 24 | – | not measured | – |"), "{text}");
    }
}
