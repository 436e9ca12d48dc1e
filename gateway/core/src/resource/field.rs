//! Checks that several kinds share. Performs no I/O.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::{Invalid, SUBDOMAIN};
use crate::glob::Globs;
use crate::rights::{Access, ServerGlobs};

/// Names of users, groups and keys, as the CRDs bound them.
pub(super) const NAME: RangeInclusive<usize> = 1..=SUBDOMAIN;
/// Names of tools, and patterns on them.
pub(super) const TOOL: RangeInclusive<usize> = 1..=128;
/// Names of servers with or without a namespace, and patterns on them.
const SERVER: RangeInclusive<usize> = 1..=127;
/// Longest URL and longest path.
pub(super) const MAX_URL: usize = 2048;
/// Most items of a list of patterns.
pub(super) const MANY: usize = 256;

/// Counts characters, as an apiserver does.
pub(super) fn length(
    field: impl Display,
    text: &str,
    bounds: RangeInclusive<usize>,
) -> Result<(), Invalid> {
    let length = text.chars().count();
    if bounds.contains(&length) {
        return Ok(());
    }
    let problem = if length == 0 {
        "must not be empty".to_owned()
    } else {
        format!("must have at most {} characters", bounds.end())
    };
    Err(Invalid::field(field, problem))
}

/// What the resource is for, in words for people.
pub(super) fn description(text: Option<&String>) -> Result<(), Invalid> {
    text.map_or(Ok(()), |text| length("spec.description", text, 0..=1024))
}

pub(super) fn count(field: impl Display, count: usize, most: usize) -> Result<(), Invalid> {
    if count > most {
        return Err(Invalid::field(field, format!("must have at most {most} entries")));
    }
    Ok(())
}

pub(super) fn range<T: Copy + PartialOrd + Display>(
    field: impl Display,
    number: T,
    bounds: RangeInclusive<T>,
) -> Result<(), Invalid> {
    if !bounds.contains(&number) {
        let problem = format!("must be from {} to {}", bounds.start(), bounds.end());
        return Err(Invalid::field(field, problem));
    }
    Ok(())
}

/// A path as in a URL, such as `example`.
pub(super) fn path(field: &str, text: &str, example: &str) -> Result<(), Invalid> {
    length(field, text, 0..=MAX_URL)?;
    if !text.starts_with('/') {
        return Err(Invalid::field(field, format!("must begin with '/', such as {example}")));
    }
    if text.contains(|c: char| c.is_whitespace() || matches!(c, '\\' | '#')) {
        let problem = "must not have spaces, backslashes or a '#'; write a space as %20";
        return Err(Invalid::field(field, problem));
    }
    Ok(())
}

/// Items of a list, each within bounds.
pub(super) fn items(
    field: &str,
    items: &[String],
    most: usize,
    bounds: RangeInclusive<usize>,
) -> Result<(), Invalid> {
    count(field, items.len(), most)?;
    items
        .iter()
        .enumerate()
        .try_for_each(|(at, item)| length(format_args!("{field}[{at}]"), item, bounds.clone()))
}

/// Servers and tools of a rule at `field`.
pub(super) fn access(
    field: &str,
    servers: &[String],
    tools: &[String],
) -> Result<Arc<Access>, Invalid> {
    let check = |list: &str, patterns: &[String], bounds| {
        let field = format!("{field}.{list}");
        if patterns.is_empty() {
            let problem = "must not be an empty list; leave it out to mean all, or name at least \
                           one";
            return Err(Invalid::field(field, problem));
        }
        items(&field, patterns, MANY, bounds)
    };
    check("servers", servers, SERVER)?;
    check("tools", tools, TOOL)?;
    Ok(Arc::new(Access { servers: ServerGlobs::new(servers), tools: Globs::new(tools) }))
}

/// A text of characters that are all allowed, and at least one.
pub(super) fn consists(text: &str, allowed: impl Fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(allowed)
}

/// How long something may take.
pub(super) fn duration(field: &str, text: &str) -> Result<Duration, Invalid> {
    const BOUNDS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(24);
    parse_duration(text).filter(|given| BOUNDS.contains(given)).ok_or_else(|| {
        let problem =
            "must be a duration from 1ms to 24h in whole units, such as 500ms, 2s, 15m or 1h30m";
        Invalid::field(field, problem)
    })
}

/// How long something lasts: without milliseconds, and up to ten years.
pub(super) fn long_duration(field: &str, text: &str) -> Result<Duration, Invalid> {
    const BOUNDS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(87_600);
    let given = parse_duration(text).filter(|_| !text.ends_with("ms"));
    given.filter(|given| BOUNDS.contains(given)).ok_or_else(|| {
        let problem =
            "must be a duration from 1s to 87600h in whole units, such as 90s, 12h or 720h";
        Invalid::field(field, problem)
    })
}

/// Whole units, largest first, as in the CRD: Go and the gateway read them alike.
fn parse_duration(text: &str) -> Option<Duration> {
    // Six digits, so that nothing overflows.
    const DIGITS: RangeInclusive<usize> = 1..=6;
    let (mut rest, mut millis) = (text, 0);
    for (unit, size) in [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)] {
        let unsigned = rest.trim_start_matches(|c: char| c.is_ascii_digit());
        let Some(after) = unsigned.strip_prefix(unit) else { continue };
        if unit == "m" && after.starts_with('s') {
            continue;
        }
        let digits = rest.strip_suffix(unsigned)?;
        if !DIGITS.contains(&digits.len()) {
            return None;
        }
        millis += digits.parse::<u64>().ok()? * size;
        rest = after;
    }
    rest.is_empty().then_some(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_units_largest_first() {
        for (text, milliseconds) in [
            ("500ms", Some(500)),
            ("2s", Some(2000)),
            ("15m", Some(900_000)),
            ("1h30m", Some(5_400_000)),
            ("1h2m3s4ms", Some(3_723_004)),
            ("1m1ms", Some(60_001)),
            ("000001s", Some(1000)),
            ("24h", Some(86_400_000)),
            ("1440m", Some(86_400_000)),
            ("24h0ms", Some(86_400_000)),
            ("24h1ms", None),
            ("999999h999999m999999s999999ms", None),
            ("0s", None),
            ("", None),
            ("5", None),
            ("ms", None),
            ("s5", None),
            ("0000001s", None),
            ("1.5s", None),
            ("-5s", None),
            ("+5s", None),
            ("5 s", None),
            ("5s ", None),
            ("30m1h", None),
            ("5s5s", None),
            ("1ms1s", None),
            ("1d", None),
            ("5us", None),
            ("PT5S", None),
            ("٥s", None),
        ] {
            let expected = milliseconds.map(Duration::from_millis);
            assert_eq!(duration("spec.x", text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn long_durations_have_no_milliseconds() {
        for (text, seconds) in [
            ("1s", Some(1)),
            ("720h", Some(2_592_000)),
            ("1h30m20s", Some(5420)),
            ("87600h", Some(315_360_000)),
            ("87600h1s", None),
            ("0s", None),
            ("", None),
            ("1500ms", None),
            ("1s0ms", None),
            ("30d", None),
        ] {
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(long_duration("spec.x", text).ok(), expected, "{text}");
        }
    }
}
