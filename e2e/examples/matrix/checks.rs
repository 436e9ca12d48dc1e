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

/// Why a check was not made, or not as elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Note {
    ServerIsInstant,
    ServerHasNoBigResult,
    ClaudeCode,
    Inspector,
    SmallerEvents,
}

impl Note {
    pub(crate) const ALL: [Self; 5] = [
        Self::ServerIsInstant,
        Self::ServerHasNoBigResult,
        Self::ClaudeCode,
        Self::Inspector,
        Self::SmallerEvents,
    ];

    pub(crate) fn letter(self) -> char {
        match self {
            Self::ServerIsInstant => 'a',
            Self::ServerHasNoBigResult => 'b',
            Self::ClaudeCode => 'c',
            Self::Inspector => 'd',
            Self::SmallerEvents => 'e',
        }
    }

    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::ServerIsInstant => {
                "The server answers at once: it reports no progress and leaves nothing to cancel."
            }
            Self::ServerHasNoBigResult => "The server has no tool with a large result.",
            Self::ClaudeCode => {
                "Claude Code shows a call's progress to nobody, cancels only when a person presses Escape, keeps a large \
                 result from its model, and its model here calls one tool after the other."
            }
            Self::Inspector => {
                "A run of the Inspector's command line is a session for one request: it prints no progress, has no way \
                 to cancel, and is over before a list changes."
            }
            Self::SmallerEvents => {
                "Works with 1 MB. The Python SDK 2.3 ends its session when an event is larger than 1 MiB, whoever sends \
                 it, and over HTTP+SSE every answer is one event."
            }
        }
    }
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    Works,
    Explained(Note),
    Failed(String),
    /// There was no session to look at it with.
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

    /// What came of a check.
    pub(crate) fn of(&self, check: Check) -> Mark {
        let mark = self.marks.iter().find(|(of, _)| *of == check);
        mark.map_or(Mark::Unreached, |(_, mark)| mark.clone())
    }
}
