//! Why a call failed, told from its text and from what went wrong while it was under way. Performs no I/O.

use super::load::Step;

/// What explains a failed call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// A gateway was killed that had it: the answer broke off, the Ingress controller gave one of its own, or another
    /// gateway did that had passed it on.
    Killed,
    /// The server was being restarted, and the gateway said so.
    Server,
    /// Nothing of that.
    Other,
}

impl Cause {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::Killed, Self::Server, Self::Other];

    /// Of a call of this step that ended with this text; `killed` if a gateway was killed while it was under way.
    /// What begins later has no such excuse: the Ingress controller tries a gateway that is there.
    pub(super) fn of(step: Step, text: &str, killed: bool) -> Self {
        if step == Step::Restless && text.contains("MCP server \"restless\"") {
            Self::Server
        } else if killed && BROKEN.iter().any(|words| text.contains(words)) {
            Self::Killed
        } else {
            Self::Other
        }
    }

    /// The head of its column.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Killed => "under way at a kill",
            Self::Server => "its server restarted",
            Self::Other => "unexplained",
        }
    }
}

/// What SDKs say of a connection that broke or of the 502 in place of an answer (the second is how Python's 2.3 puts any
/// status that is an error), gateways of another one that broke off, and we of an answer that never came.
const BROKEN: [&str; 14] = [
    "502",
    "Server returned an error response",
    "Bad Gateway",
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
    "went away before it answered",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_explained_only_by_what_went_wrong_meanwhile() {
        let restless =
            "MCP server \"restless\" is not reachable (refused). Its tools do not work now";
        let bad = "Server error '502 Bad Gateway' for url";
        let any = "Server returned an error response";
        let away = "the gateway that had this session's connection to the server went away before \
                    it answered; it may have done what it was asked";
        for (step, text, killed, cause) in [
            (Step::Restless, restless, false, Cause::Server),
            (Step::Shared, restless, false, Cause::Other),
            (Step::Shared, bad, true, Cause::Killed),
            (Step::Shared, bad, false, Cause::Other),
            (Step::Shared, any, true, Cause::Killed),
            (Step::Shared, any, false, Cause::Other),
            (Step::PerClient, away, true, Cause::Killed),
            (Step::PerClient, "waited 30s for the answer", true, Cause::Killed),
            (Step::PerClient, "waited 30s for the answer", false, Cause::Other),
            (Step::List, "invalid API key", true, Cause::Other),
        ] {
            assert_eq!(Cause::of(step, text, killed), cause, "{step:?}, {text}, {killed}");
        }
    }
}
