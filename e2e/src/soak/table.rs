//! The report, as `BENCHMARKS.md` has it.

use std::fmt;

use super::{Report, cause::Cause, gauge::Life};

pub(super) fn write(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let minutes = report.time.as_secs_f64() / 60.0;
    let troubles: Vec<String> =
        report.troubles.iter().map(|(name, count)| format!("{count} {name}")).collect();
    writeln!(f, "{}; {minutes:.0} minutes: {}.\n", report.machine, troubles.join(", "))?;
    calls(report, f)?;
    memory(report, f)?;
    for text in report.unexplained() {
        writeln!(f, "\nUnexplained: {text}")?;
    }
    Ok(())
}

fn calls(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let causes = Cause::ALL.map(Cause::name).join(" | ");
    writeln!(f, "| client | sessions begun | lost | calls answered | failed: {causes} |")?;
    writeln!(f, "|---|--:|--:|--:|{}", "--:|".repeat(Cause::ALL.len()))?;
    for (kind, tally) in &report.tallies {
        let lost = report.lost.iter().filter(|loss| loss.kind.name == kind.name).count();
        write!(f, "| {} | {} | {lost} | {} |", kind.name, tally.sessions, tally.answered)?;
        for cause in Cause::ALL {
            let of = |failure: &&super::Failure| {
                failure.kind.name == kind.name && failure.cause == cause
            };
            write!(f, " {} |", report.failed.iter().filter(of).count())?;
        }
        writeln!(f)?;
    }
    writeln!(f)
}

fn memory(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "| gateway | minutes | MiB, warm | MiB, end | KiB/min | files, warm | files, end | files/min |"
    )?;
    writeln!(f, "|---|--:|--:|--:|--:|--:|--:|--:|")?;
    row("left alone", &report.veteran, f)?;
    for life in &report.others {
        row("until it went", life, f)?;
    }
    Ok(())
}

fn row(name: &str, life: &Life, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let [warm, end] = life.ends();
    let (kib, files) = life.slopes();
    writeln!(
        f,
        "| {name} | {:.1} | {:.1} | {:.1} | {kib:+.0} | {:.0} | {:.0} | {files:+.1} |",
        life.age() / 60.0,
        warm.0 / 1024.0,
        end.0 / 1024.0,
        warm.1,
        end.1
    )
}
