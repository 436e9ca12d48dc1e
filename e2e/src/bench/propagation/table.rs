//! The tables of the propagation benchmark. Performs no I/O.

use std::{fmt::Write as _, time::Duration};

use super::{Extras, Round};
use crate::bench::histogram::Histogram;

pub(super) fn render(rounds: &[Round], extras: &Extras, changes: u32, machine: &str) -> String {
    let mut text = format!(
        "{machine}. {changes} changes of each kind, one at a time; the bare chain was measured \
         before and after them.\n\n\
         | change | servers and keys | p50 ms | p99 ms | p99 by the bare chain's | budget | verdict |\n\
         |---|--:|--:|--:|--:|--:|---|\n"
    );
    for round in rounds {
        let bare = p99(&round.bare);
        for (name, times, budget) in [
            ("bare chain: apply → watch → apply → watch", &round.bare, None),
            ("McpServer applied → its tool can be called", &round.callable, Some(5.0)),
            ("McpApiKey deleted → its calls are refused", &round.denied, Some(2.0)),
            ("… of that, after its entry was seen to go", &round.denied_share, None),
            ("McpPolicy applied → in force", &round.in_force, Some(2.0)),
        ] {
            let ratio = p99(times) / bare;
            let (budget, verdict) = match budget {
                None => ("–".to_owned(), "–"),
                Some(budget) => (format!("≤ {budget}"), verdict(ratio <= budget)),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "| {name} | {} | {:.1} | {:.1} | {ratio:.2} | {budget} | {verdict} |",
                round.present,
                millis(times.quantile(0.5)),
                p99(times),
            );
        }
    }
    if let (Some(few), Some(many)) = (rounds.first(), rounds.last())
        && few.present < many.present
    {
        text.push_str(
            "\n| p99 with many by p99 with few | ratio | budget | verdict |\n|---|--:|--:|---|\n",
        );
        for (name, few, many) in [
            ("McpServer applied → its tool can be called", &few.callable, &many.callable),
            ("McpApiKey deleted → its calls are refused", &few.denied, &many.denied),
            ("McpPolicy applied → in force", &few.in_force, &many.in_force),
        ] {
            let ratio = p99(many) / p99(few);
            let _ = writeln!(text, "| {name} | {ratio:.2} | ≤ 1.5 | {} |", verdict(ratio <= 1.5));
        }
    }
    text.push_str("\n| what | measured | budget | verdict |\n|---|--:|--:|---|\n");
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    let mut row = |what: &str, time: Duration, budget: f64| {
        let (time, met) = (seconds(time), time.as_secs_f64() <= budget);
        let _ = writeln!(text, "| {what} | {time} | ≤ {budget} s | {} |", verdict(met));
    };
    if let Some(worst) = extras.kills.iter().max() {
        let count = extras.kills.len();
        row(&format!("revocation while the operator is killed, worst of {count}"), *worst, 7.0);
    }
    if let Some(worst) = extras.cold.iter().max() {
        let count = extras.cold.len();
        row(&format!("cold start of a gateway to its first answer, worst of {count}"), *worst, 1.0);
    }
    if let Some(flood) = &extras.flood {
        let servers = flood.servers;
        row(&format!("{servers} servers at once: entries written"), flood.entries, 15.0);
        row(&format!("{servers} servers at once: all can be called"), flood.callable, 30.0);
        row(&format!("{servers} servers at once: all say Ready"), flood.statuses, 90.0);
        let applied = seconds(flood.applied);
        let _ = writeln!(text, "\nApplying the {servers} servers itself took {applied}.");
    }
    text
}

fn verdict(met: bool) -> &'static str {
    if met { "pass" } else { "fail" }
}

fn p99(times: &Histogram) -> f64 {
    millis(times.quantile(0.99))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
