//! What can go wrong with a server, told so that a model knows what to do.

use std::fmt;

use http::StatusCode;

/// Why a request to a server came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Fault {
    /// No connection.
    #[error("is not reachable ({0})")]
    Unreachable(String),
    /// It does not know its own session any more.
    #[error("lost the session")]
    SessionLost,
    /// A status other than success.
    #[error("answered HTTP {0}")]
    Status(StatusCode),
    /// An error of the protocol, by its code.
    #[error("answered with error {0}")]
    Refused(i64),
    /// The connection ended before the answer.
    #[error("closed the connection before it answered ({0})")]
    Closed(String),
    /// Bytes that are no message.
    #[error("sent something that is not MCP ({0})")]
    Garbage(String),
    /// More than is taken.
    #[error("sent more than the limit of {0} MiB")]
    TooLarge(usize),
    /// Nothing for too long.
    #[error("sent nothing for {0} s")]
    Silent(u64),
    /// Not ready after all the time a call may take.
    #[error("did not finish within {0} s")]
    TooSlow(u64),
    /// Bounds on our side.
    #[error("has too many sessions of this key open")]
    Crowded,
    /// Its breaker is open, or one call is under way that decides.
    #[error("is not called for now, because {why}")]
    Suspended {
        /// What tripped it.
        why: String,
        /// Until a call is let through; 0 while one is.
        seconds: u64,
    },
    /// As many calls as it takes are under way, and as many as may wait.
    #[error("has as many calls under way as it takes, which is {0}")]
    Busy(u32),
    /// No memory to hold what it asks for.
    #[error("asks for more than there is room for now")]
    NoRoom,
    /// What the protocol revision of the client has no words for.
    #[error("wants {0}")]
    Unknowable(&'static str),
}

impl Fault {
    /// JSON of another shape. Where it differs, not in what: that is the server's text, which may
    /// repeat the credential it was shown, and goes into no log and to no client.
    pub(crate) fn misshapen(error: &serde_json::Error) -> Self {
        let (line, column) = (error.line(), error.column());
        Self::Garbage(format!("JSON of another shape at line {line} column {column}"))
    }

    /// Value of a metric's label.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::SessionLost => "session_lost",
            Self::Status(_) => "status",
            Self::Refused(_) => "refused",
            Self::Closed(_) => "closed",
            Self::Garbage(_) => "garbage",
            Self::TooLarge(_) => "too_large",
            Self::Silent(_) | Self::TooSlow(_) => "timeout",
            Self::Crowded => "crowded",
            Self::Suspended { .. } => "suspended",
            Self::Busy(_) => "busy",
            Self::NoRoom => "no_room",
            Self::Unknowable(_) => "unknowable",
        }
    }

    /// Whether the server itself, not one call, is in trouble.
    pub(crate) const fn is_outage(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Closed(_) | Self::SessionLost)
    }

    /// Whether it counts for the breaker. What a server answers to one call says nothing of others.
    pub(crate) fn is_sick(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Closed(_) => true,
            Self::Status(status) => status.is_server_error(),
            _ => self.is_timeout(),
        }
    }

    /// Whether the server took too long.
    pub(crate) const fn is_timeout(&self) -> bool {
        matches!(self, Self::Silent(_) | Self::TooSlow(_))
    }

    /// Whether another attempt may find it over. A timeout is not: the client has waited enough.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Closed(_) => true,
            Self::Status(status) => matches!(
                *status,
                StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
            _ => false,
        }
    }
}

/// A fault with the name of the server, for the model to read.
pub(crate) struct Told<'a>(pub(crate) &'a str, pub(crate) &'a Fault);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(server, fault) = self;
        write!(f, "MCP server \"{server}\" {fault}. ")?;
        if let Fault::Suspended { seconds: seconds @ 1.., .. } = fault {
            return write!(f, "Try again in {seconds} s, or go on without its tools.");
        }
        f.write_str(match fault {
            Fault::TooLarge(_) => "Ask for less at a time.",
            Fault::Silent(_) | Fault::TooSlow(_) => {
                "The call may still have had an effect; check before repeating it."
            }
            Fault::Closed(_) => {
                "The call may have had an effect; check before repeating it. Other servers work."
            }
            Fault::Crowded => "Close other sessions or try again later.",
            Fault::Suspended { .. } => {
                "One call finds out now whether it works again; try again in a moment."
            }
            Fault::Busy(_) | Fault::NoRoom => "Try again in some seconds; other servers work.",
            Fault::Unknowable(_) => "This cannot be done from here; go on without it.",
            Fault::Unreachable(_)
            | Fault::SessionLost
            | Fault::Status(_)
            | Fault::Refused(_)
            | Fault::Garbage(_) => {
                "Its tools do not work now; try again later or go on without them."
            }
        })
    }
}
