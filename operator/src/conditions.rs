//! Conditions as Kubernetes has them. Performs no I/O.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The resource is valid and what it refers to is there.
pub(crate) const ACCEPTED: &str = "Accepted";
/// Its pods run.
pub(crate) const AVAILABLE: &str = "Available";
/// Every ready gateway knows it.
pub(crate) const PROGRAMMED: &str = "Programmed";
/// Every ready gateway listed the same tools.
pub(crate) const VERIFIED: &str = "Verified";
/// All of them.
pub(crate) const READY: &str = "Ready";

/// What becomes of an invalid version.
pub(crate) const LAST_GOOD: &str = "the last good version stays in force";
/// Why a server is not ready with which all else is well: the one reason that no other condition has.
pub(crate) const CIRCUIT_OPEN: &str = "CircuitOpen";

/// Whether something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holds {
    Yes,
    No,
    Unknown,
}

impl Holds {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "True",
            Self::No => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// One condition without its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) holds: Holds,
    /// CamelCase, for machines.
    pub(crate) reason: &'static str,
    /// For people: what is so, and what to do.
    pub(crate) message: String,
}

impl Verdict {
    pub(crate) fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: Holds::Yes, reason, message: message.into() }
    }

    pub(crate) fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: Holds::No, reason, message: message.into() }
    }

    /// Not as it was asked for: `text` says why, and what gateways go by instead.
    pub(crate) fn refused(reason: &'static str, text: &str, in_force: bool) -> Self {
        let rest = if in_force { format!("; {LAST_GOOD}") } else { String::new() };
        Self::no(reason, format!("{text}{rest}"))
    }

    pub(crate) fn unknown(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: Holds::Unknown, reason, message: message.into() }
    }
}

/// `Ready` follows from the others: as they are, or as the first of them that does not hold.
pub(crate) fn ready(others: &[(&'static str, Verdict)], message: &str) -> Verdict {
    others
        .iter()
        .find(|(_, verdict)| verdict.holds != Holds::Yes)
        .map_or_else(|| Verdict::yes(READY, message), |(_, verdict)| verdict.clone())
}

/// Conditions in order. The time of one is that of its last flip.
pub(crate) fn conditions(
    verdicts: Vec<(&'static str, Verdict)>,
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Condition> {
    let condition = |(type_, verdict): (&str, Verdict)| {
        let status = verdict.holds.as_str();
        let same = before.iter().find(|before| before.type_ == type_ && before.status == status);
        Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: verdict.reason.to_owned(),
            message: cut(verdict.message),
            observed_generation: generation,
            last_transition_time: same.map_or(Time(now), |same| same.last_transition_time.clone()),
        }
    };
    verdicts.into_iter().map(condition).collect()
}

/// Longest message of a condition that an apiserver takes.
const MAX_MESSAGE: usize = 32 * 1024;

fn cut(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE).rev().find(|at| message.is_char_boundary(*at));
        message.truncate(end.unwrap_or_default());
    }
    message
}

/// Which conditions flipped, or have another reason.
pub(crate) fn transitions<'a>(
    before: &'a [Condition],
    now: &'a [Condition],
) -> impl Iterator<Item = &'a Condition> {
    now.iter().filter(move |condition| {
        before.iter().find(|before| before.type_ == condition.type_).is_none_or(|before| {
            (&before.status, &before.reason) != (&condition.status, &condition.reason)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn ready_is_the_first_that_does_not_hold() {
        let yes = || (ACCEPTED, Verdict::yes("Accepted", ""));
        let late = (PROGRAMMED, Verdict::unknown("NoGateway", "wait"));

        assert_eq!(ready(&[yes(), yes()], "done"), Verdict::yes("Ready", "done"));
        assert_eq!(ready(&[yes(), late.clone()], "done"), late.1);
    }

    #[test]
    fn a_time_changes_with_the_status_only() {
        let first = conditions(vec![(READY, Verdict::no("Pending", "a"))], &[], Some(1), at(1));
        let same = conditions(vec![(READY, Verdict::no("Invalid", "b"))], &first, Some(2), at(2));
        let flip = conditions(vec![(READY, Verdict::yes("Ready", ""))], &same, Some(2), at(3));

        assert_eq!(same[0].last_transition_time.0, at(1));
        assert_eq!(same[0].observed_generation, Some(2));
        assert_eq!(flip[0].last_transition_time.0, at(3));
        assert_eq!(transitions(&first, &same).count(), 1);
        assert_eq!(transitions(&same, &same).count(), 0);
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let verdict = Verdict::no("Invalid", "ö".repeat(20_000));

        let conditions = conditions(vec![(READY, verdict)], &[], None, at(0));

        assert_eq!(conditions[0].message.len(), MAX_MESSAGE);
    }
}
