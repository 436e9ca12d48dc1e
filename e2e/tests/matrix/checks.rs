//! What is looked at in a cell of the table, and what came of it.

use std::{future::Future, time::Duration};

use anyhow::Result;
use tokio::time::timeout;

/// How long a check may take. The slowest, a hundred calls at once through mcp-remote, takes 2 s.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How many calls are made at once.
pub(crate) const PARALLEL: u32 = 100;

/// What is looked at, in the order of the marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    Connect,
    List,
    Call,
    Progress,
    Cancel,
    Error,
    ListChanged,
    Big,
    Parallel,
}

impl Check {
    pub(crate) const ALL: [Self; 9] = [
        Self::Connect,
        Self::List,
        Self::Call,
        Self::Progress,
        Self::Cancel,
        Self::Error,
        Self::ListChanged,
        Self::Big,
        Self::Parallel,
    ];
}

/// Why a check was not made, or not as elsewhere: what the protocol leaves to the client or the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Note {
    NoProgress,
    NothingToCancel,
    NoBigResult,
    ProgressUnasked,
    CancelledByNobody,
    ShortSession,
    ResultKept,
    OneCallAtATime,
    SmallerEvents,
    StreamLeftOpen,
}

impl Note {
    pub(crate) const ALL: [Self; 10] = [
        Self::NoProgress,
        Self::NothingToCancel,
        Self::NoBigResult,
        Self::ProgressUnasked,
        Self::CancelledByNobody,
        Self::ShortSession,
        Self::ResultKept,
        Self::OneCallAtATime,
        Self::SmallerEvents,
        Self::StreamLeftOpen,
    ];

    pub(crate) fn letter(self) -> char {
        match self {
            Self::NoProgress => 'a',
            Self::NothingToCancel => 'b',
            Self::NoBigResult => 'c',
            Self::ProgressUnasked => 'd',
            Self::CancelledByNobody => 'e',
            Self::ShortSession => 'f',
            Self::ResultKept => 'g',
            Self::OneCallAtATime => 'h',
            Self::SmallerEvents => 'i',
            Self::StreamLeftOpen => 'j',
        }
    }

    /// What is so, and the clause.
    pub(crate) fn text(self) -> (&'static str, &'static str) {
        match self {
            Self::NoProgress => (
                "The server reports no progress.",
                "2025-11-25, Progress, Behavior Requirements 2: receivers MAY choose \"not to send any progress \
                 notifications\".",
            ),
            Self::NothingToCancel => (
                "The server answers at once, so there is no call under way to cancel.",
                "2025-11-25, Cancellation, Behavior Requirements 1: a cancellation MUST only reference requests that are \
                 \"believed to still be in-progress\".",
            ),
            Self::NoBigResult => (
                "The server has no tool with a large result.",
                "2025-11-25, Tools, Tool Result: what a result contains is the tool's, and no size is asked of it.",
            ),
            Self::ProgressUnasked => (
                "The client shows a call's progress to nobody when it runs unattended.",
                "2025-11-25, Progress, Progress Flow: only \"when a party wants to receive progress updates for a request, it \
                 includes a `progressToken`\".",
            ),
            Self::CancelledByNobody => (
                "The client cancels when a person at its terminal says so, and here it runs unattended.",
                "2025-11-25, Cancellation, Cancellation Flow: \"when a party wants to cancel an in-progress request, it sends\" \
                 the notification.",
            ),
            Self::ShortSession => (
                "A run of the client is a session for one request, over before a list changes.",
                "2025-11-25, Lifecycle, Shutdown: \"one side (usually the client) cleanly terminates the protocol \
                 connection\", whenever it likes.",
            ),
            Self::ResultKept => (
                "The client keeps a result from its model that is larger than the model can read.",
                "2025-11-25, Tools, User Interaction Model: the protocol \"does not mandate any specific user interaction \
                 model\".",
            ),
            Self::OneCallAtATime => (
                "The client makes the calls that its model asks for, and the model of this test asks for one at a time.",
                "2025-11-25, Tools, User Interaction Model: tools are \"model-controlled\".",
            ),
            Self::SmallerEvents => (
                "Works with 1 MB: the client ends its session when an event is larger than 1 MiB, whoever sends it.",
                "2024-11-05, Transports, HTTP with SSE: server messages are sent as SSE `message` events, so nobody between \
                 may divide one.",
            ),
            Self::StreamLeftOpen => (
                "The call ends for the user and the session goes on, but the client does not close the call's stream, so \
                 the server works on.",
                "2026-07-28, Streamable HTTP, Sending Messages: `notifications/cancelled` \"is used only on the stdio \
                 transport; on Streamable HTTP, closing the SSE response stream is itself the cancellation signal\". \
                 Without a session an id names no call: two clients of one key may use the same.",
            ),
        }
    }
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Works,
    Explained(Note),
    Failed(String),
    /// It was not looked at: a check before it says why.
    Unreached,
}

impl Mark {
    /// Makes a check.
    pub(crate) async fn of(check: impl Future<Output = Result<()>>) -> Self {
        match timeout(PATIENCE, check).await {
            Ok(Ok(())) => Self::Works,
            Ok(Err(error)) => Self::failed(&error),
            Err(_) => Self::Failed(format!("not within {PATIENCE:?}")),
        }
    }

    /// The same, but for this if it works.
    pub(crate) fn unless(self, note: Option<Note>) -> Self {
        match (self, note) {
            (Self::Works, Some(note)) => Self::Explained(note),
            (mark, _) => mark,
        }
    }

    pub(crate) fn failed(error: &anyhow::Error) -> Self {
        // What the processes wrote follows; the beginning says what is wrong.
        let text = format!("{error:#}").lines().take(4).collect::<Vec<_>>().join(" / ");
        Self::Failed(text.chars().take(600).collect())
    }

    pub(crate) fn letter(&self) -> char {
        match self {
            Self::Works => '✔',
            Self::Explained(note) => note.letter(),
            Self::Failed(_) => '✘',
            Self::Unreached => '·',
        }
    }
}

/// One client with one server.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    /// The revision that the client speaks to the gateway.
    pub(crate) revision: String,
    marks: Vec<(Check, Mark)>,
}

impl Cell {
    /// Nothing is known yet.
    pub(crate) fn new() -> Self {
        Self { revision: "none".to_owned(), marks: Vec::new() }
    }

    /// No session came about.
    pub(crate) fn unconnected(error: &anyhow::Error) -> Self {
        let mut cell = Self::new();
        cell.mark(Check::Connect, Mark::failed(error));
        cell
    }

    pub(crate) fn mark(&mut self, check: Check, mark: Mark) {
        self.marks.push((check, mark));
    }

    /// Whether a check failed without which the others only wait for their deadlines.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.marks.iter().any(|(_, mark)| matches!(mark, Mark::Failed(_)))
    }

    /// What came of a check.
    pub(crate) fn of(&self, check: Check) -> Mark {
        let mark = self.marks.iter().find(|(of, _)| *of == check);
        mark.map_or(Mark::Unreached, |(_, mark)| mark.clone())
    }
}
