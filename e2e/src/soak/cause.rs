//! Why a call failed, told from its text and from what went wrong while it was under way. Performs no I/O.

use super::load::Step;

/// What explains a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A gateway was killed: until the Ingress controller knows, it sends requests to where none is, and answers with a
    /// 502 of its own.
    Ingress,
    /// A gateway was killed while it answered: the answer broke off, or what it had waits for nobody.
    Cut,
    /// The server was being restarted, and the gateway said so.
    Server,
    /// Nothing of that.
    Other,
}

impl Cause {
    /// All of them.
    pub(super) const ALL: [Self; 4] = [Self::Ingress, Self::Cut, Self::Server, Self::Other];

    /// Of a call of this step that ended with this text; `by_kill` if a gateway was killed while it was under way, or
    /// just before.
    pub(super) fn of(step: Step, text: &str, by_kill: bool) -> Self {
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if step == Step::Restless && text.contains("MCP server \"restless\"") {
            Self::Server
        } else if by_kill && says(&BY_INGRESS) {
            Self::Ingress
        } else if by_kill && says(&BROKEN) {
            Self::Cut
        } else {
            Self::Other
        }
    }

    /// The head of its column.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress's 502 at a kill",
            Self::Cut => "cut at a kill",
            Self::Server => "its server restarted",
            Self::Other => "unexplained",
        }
    }
}

/// What SDKs say of a status of the Ingress controller; the last is how Python's 2.3 puts any that is an error.
const BY_INGRESS: [&str; 5] =
    ["502", "503", "504", "Bad Gateway", "Server returned an error response"];

/// What they say of a connection that broke, and we of an answer that never came.
const BROKEN: [&str; 10] = [
    "Connection closed",
    "Server disconnected",
    "ended",
    "fetch failed",
    "incomplete",
    "peer closed",
    "socket",
    "stream",
    "terminated",
    "waited",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_explained_only_by_what_went_wrong_meanwhile() {
        let restless =
            "MCP server \"restless\" is not reachable (refused). Its tools do not work now";
        let bad = "Server error '502 Bad Gateway' for url";
        for (step, text, by_kill, cause) in [
            (Step::Restless, restless, false, Cause::Server),
            (Step::Shared, restless, false, Cause::Other),
            (Step::Shared, bad, true, Cause::Ingress),
            (Step::Shared, bad, false, Cause::Other),
            (Step::PerClient, "waited 30s for the answer", true, Cause::Cut),
            (Step::PerClient, "waited 30s for the answer", false, Cause::Other),
            (Step::List, "invalid API key", true, Cause::Other),
        ] {
            assert_eq!(Cause::of(step, text, by_kill), cause, "{step:?}, {text}, {by_kill}");
        }
    }
}
