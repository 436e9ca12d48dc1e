//! Many sessions of an official SDK, in Python or TypeScript and of either line, in one process.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use futures_util::future;
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    process::{ChildStdin, Command},
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use super::{
    Endpoint,
    install::{self, Sdk},
    model::ToolResult,
    process::Process,
};

/// An SDK that holds the sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    /// `mcp` of PyPI.
    Python(Sdk),
    /// `@modelcontextprotocol/sdk`, and `@modelcontextprotocol/client` after it.
    TypeScript(Sdk),
}

/// What a session is held with.
#[derive(Clone, Debug)]
pub enum Target {
    /// A server or gateway.
    Endpoint(Endpoint),
    /// A process that is spoken to over its standard input and output: only Python does.
    Command {
        /// The program and its arguments.
        command: Vec<String>,
        /// The variables that it gets.
        environment: Vec<(String, String)>,
    },
}

/// How line 2 finds the revision; line 1 knows only `initialize`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Asks for 2026-07-28 first.
    #[default]
    Auto,
    /// Starts with `initialize`.
    Legacy,
    /// Speaks 2026-07-28 and nothing else.
    Pinned,
}

/// A tool call.
#[derive(Clone, Debug)]
pub struct Call {
    tool: String,
    arguments: Value,
    progress: bool,
    digest: bool,
    cancel: bool,
    patience: Duration,
}

impl Call {
    /// A call of this tool.
    pub fn new(tool: &str, arguments: Value) -> Self {
        let tool = tool.to_owned();
        let patience = super::DEADLINE;
        Self { tool, arguments, progress: false, digest: false, cancel: false, patience }
    }

    /// Asks for its progress, which arrives as events.
    #[must_use]
    pub fn with_progress(self) -> Self {
        Self { progress: true, ..self }
    }

    /// Its text is told as its length and the hexadecimal SHA-256, with a space between them.
    #[must_use]
    pub fn as_digest(self) -> Self {
        Self { digest: true, ..self }
    }

    /// Is cancelled at its first progress, and its text tells how it ended.
    #[must_use]
    pub fn cancelled(self) -> Self {
        Self { cancel: true, ..self }
    }

    /// May take longer than most, but no longer than this.
    #[must_use]
    pub fn within(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    fn command(&self) -> Value {
        json!({
            "do": "call",
            "name": self.tool,
            "arguments": self.arguments,
            "progress": self.progress,
            "digest": self.digest,
            "cancel": self.cancel,
        })
    }
}

/// Something that a session reports by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The session is open and speaks this revision.
    Open(String),
    /// The list of tools changed.
    ListChanged,
    /// A call made progress.
    Progress(f64),
    /// A server asks its user something, who has not answered yet.
    Asked,
    /// A resource changed that the session subscribed to.
    Updated(String),
    /// The transport says that something is wrong.
    Fault(String),
    /// The session ended though nobody closed it.
    Lost(String),
}

/// A JSON-RPC error or a failure of the transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The text of the error.
    pub message: String,
    /// The code, if it came as JSON-RPC.
    pub code: Option<i64>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (code {:?})", self.message, self.code)
    }
}

impl std::error::Error for Refusal {}

/// Open sessions, numbered from 0.
pub struct Sessions {
    count: usize,
    process: Process,
    input: tokio::sync::Mutex<ChildStdin>,
    next: AtomicU64,
    board: Arc<Board>,
    _router: JoinSet<()>,
}

#[derive(Default)]
struct Board {
    waiting: Mutex<HashMap<u64, oneshot::Sender<Result<Value, Refusal>>>>,
    events: watch::Sender<Vec<(usize, Event)>>,
}

impl Sessions {
    /// Opens `count` sessions of the Python SDK with the same endpoint, all of which have to open.
    pub async fn open(sdk: Sdk, mode: Mode, endpoint: &Endpoint, count: usize) -> Result<Self> {
        let targets = vec![Target::Endpoint(endpoint.clone()); count];
        let sessions = Self::start(Library::Python(sdk), mode, &targets).await?;

        let mut lost = None;
        sessions
            .wait_events("all sessions to open", |events| {
                lost = events.iter().find(|(_, event)| matches!(event, Event::Lost(_))).cloned();
                let open = events.iter().filter(|(_, event)| matches!(event, Event::Open(_)));
                lost.is_some() || open.count() == count
            })
            .await?;
        match lost {
            Some(lost) => Err(sessions.process.blame(format!("{lost:?}"))),
            None => Ok(sessions),
        }
    }

    /// Installs the SDK if it is not, and begins to open a session with each target.
    pub async fn start(library: Library, mode: Mode, targets: &[Target]) -> Result<Self> {
        Self::start_as(library, mode, targets, false).await
    }

    /// The same for clients that say they have a user to ask.
    pub async fn start_with_user(library: Library, mode: Mode, targets: &[Target]) -> Result<Self> {
        Self::start_as(library, mode, targets, true).await
    }

    async fn start_as(
        library: Library,
        mode: Mode,
        targets: &[Target],
        has_user: bool,
    ) -> Result<Self> {
        let options = json!({
            "mode": mode.name(),
            "user": has_user,
            "targets": targets.iter().map(Target::to_json).collect::<Vec<_>>(),
        });
        let mut command = library.command().await?;
        command.arg(options.to_string()).env_clear();
        let (mut process, lines) = Process::spawn_with_lines(&format!("{library:?}"), command)?;
        let input = process.take_input().context("the driver has no standard input")?;
        let board = Arc::new(Board::default());
        let mut router = JoinSet::new();
        router.spawn(route(lines, Arc::clone(&board)));

        Ok(Self {
            count: targets.len(),
            process,
            input: tokio::sync::Mutex::new(input),
            next: AtomicU64::new(0),
            board,
            _router: router,
        })
    }

    /// Waits until a session is open, and tells the revision that it speaks.
    pub async fn opened(&self, session: usize) -> Result<String> {
        let of = |event: &(usize, Event)| {
            event.0 == session && matches!(event.1, Event::Open(_) | Event::Lost(_))
        };
        self.wait_events("a session to open", |events| events.iter().any(of)).await?;
        let first = self.board.events.borrow().iter().find(|event| of(event)).cloned();
        match first {
            Some((_, Event::Open(revision))) => Ok(revision),
            other => bail!("the session did not open: {other:?}"),
        }
    }

    /// How many sessions there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The names of the tools, sorted.
    pub async fn list(&self, session: usize) -> Result<Vec<String>> {
        let tools = self.command(session, json!({"do": "list"})).await?;
        Ok(serde_json::from_value(tools)?)
    }

    /// The same of all sessions at once.
    pub async fn list_all(&self) -> Result<Vec<Vec<String>>> {
        future::try_join_all((0..self.count).map(|session| self.list(session))).await
    }

    /// Calls a tool; a [`Refusal`] is an error.
    pub async fn call(&self, session: usize, tool: &str, arguments: Value) -> Result<ToolResult> {
        self.perform(session, &Call::new(tool, arguments)).await
    }

    /// The same call in all sessions at once.
    pub async fn call_all(&self, tool: &str, arguments: &Value) -> Result<Vec<ToolResult>> {
        let calls = (0..self.count).map(|session| self.call(session, tool, arguments.clone()));
        future::try_join_all(calls).await
    }

    /// Calls a tool and asks for its progress, which arrives as events.
    pub async fn call_with_progress(
        &self,
        session: usize,
        tool: &str,
        arguments: Value,
    ) -> Result<ToolResult> {
        self.perform(session, &Call::new(tool, arguments).with_progress()).await
    }

    /// Makes a call as it says.
    pub async fn perform(&self, session: usize, call: &Call) -> Result<ToolResult> {
        let result = self.command_for(session, call.command(), call.patience).await?;
        let text = result["text"].as_str().unwrap_or_default().to_owned();

        Ok(ToolResult { text, is_error: result["is_error"] == true })
    }

    /// Calls a tool that has to be refused.
    pub async fn refusal(&self, session: usize, tool: &str, arguments: Value) -> Result<Refusal> {
        match self.call(session, tool, arguments).await {
            Ok(result) => bail!("{tool} was not refused but answered {result:?}"),
            Err(error) => error.downcast(),
        }
    }

    /// Asks to be told when a resource changes, which arrives as events.
    pub async fn subscribe(&self, session: usize, uri: &str) -> Result<()> {
        self.command(session, json!({"do": "subscribe", "uri": uri})).await.map(drop)
    }

    /// The user answers what the session was asked, each field with the same text.
    pub async fn answer(&self, session: usize, text: &str) -> Result<()> {
        self.command(session, json!({"do": "answer", "text": text})).await.map(drop)
    }

    /// Waits until a session has reported this.
    pub async fn reported(&self, session: usize, what: &Event) -> Result<()> {
        let said = |events: &[(usize, Event)]| {
            events.iter().any(|(of, event)| *of == session && event == what)
        };
        self.wait_events(&format!("{what:?}"), said).await
    }

    /// Ends one session in the SDK's own way.
    pub async fn close(&self, session: usize) -> Result<()> {
        self.command(session, json!({"do": "close"})).await.map(drop)
    }

    /// What one session reported so far, the oldest first.
    pub fn events(&self, session: usize) -> Vec<Event> {
        let events = self.board.events.borrow();
        events.iter().filter(|(of, _)| *of == session).map(|(_, event)| event.clone()).collect()
    }

    /// Why a session ended that nobody closed; `None` while it lives.
    pub fn lost(&self, session: usize) -> Option<String> {
        self.board.events.borrow().iter().find_map(|(of, event)| match event {
            Event::Lost(reason) if *of == session => Some(reason.clone()),
            _ => None,
        })
    }

    /// Waits until a session has reported more changes of the list than `before`, and tells how many.
    pub async fn list_changed(&self, session: usize, before: usize) -> Result<usize> {
        let mut changes = 0;
        self.wait_events("list_changed", |events| {
            let of = |event: &&(usize, Event)| event.0 == session && event.1 == Event::ListChanged;
            changes = events.iter().filter(of).count();
            changes > before
        })
        .await?;
        Ok(changes)
    }

    /// How many changes of the list each session has reported.
    pub fn list_changes(&self) -> Vec<usize> {
        count_list_changes(&self.board.events.borrow(), self.count)
    }

    /// Waits until every session has reported more changes than it had `before`.
    pub async fn wait_list_changed(&self, before: &[usize]) -> Result<()> {
        self.wait_events("list_changed in every session", |events| {
            let now = count_list_changes(events, self.count);
            now.iter().zip(before).all(|(now, before)| now > before)
        })
        .await
    }

    /// Waits until what all sessions reported satisfies `condition`.
    pub async fn wait_events(
        &self,
        what: &str,
        mut condition: impl FnMut(&[(usize, Event)]) -> bool,
    ) -> Result<()> {
        let mut events = self.board.events.subscribe();
        let waited = super::within(what, events.wait_for(|events| condition(events))).await;

        waited.map_err(|error| self.process.blame(error))??;
        Ok(())
    }

    async fn command(&self, session: usize, command: Value) -> Result<Value> {
        self.command_for(session, command, super::DEADLINE).await
    }

    async fn command_for(
        &self,
        session: usize,
        mut command: Value,
        patience: Duration,
    ) -> Result<Value> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.board.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        let what = format!("the answer of session {session} to {command}");
        command["id"] = json!(id);
        command["session"] = json!(session);
        let line = format!("{command}\n");
        self.input.lock().await.write_all(line.as_bytes()).await?;

        let answer = tokio::time::timeout(patience, receiver)
            .await
            .with_context(|| format!("waited {patience:?} for {what}"))
            .and_then(|answer| answer.with_context(|| format!("the sessions ended before {what}")));
        Ok(answer.map_err(|error| self.process.blame(error))??)
    }
}

impl Library {
    async fn command(self) -> Result<Command> {
        const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/sessions.py");
        const JAVASCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/sessions.mjs");

        match self {
            Self::Python(sdk) => {
                let mut command = Command::new(install::python(sdk).await?);
                command.arg(PYTHON);
                Ok(command)
            }
            Self::TypeScript(sdk) => {
                let mut command = Command::new(install::node().await?);
                let line = match sdk {
                    Sdk::V1 => "1",
                    Sdk::V2 => "2",
                };
                command.arg(JAVASCRIPT).arg(install::javascript().await?).arg(line);
                Ok(command)
            }
        }
    }
}

impl Target {
    fn to_json(&self) -> Value {
        match self {
            Self::Endpoint(endpoint) => json!({
                "url": endpoint.url,
                "transport": endpoint.transport.name(),
                "headers": endpoint.headers_json(),
            }),
            Self::Command { command, environment } => {
                let environment: HashMap<_, _> = environment.iter().cloned().collect();
                json!({"command": command, "env": environment})
            }
        }
    }
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Legacy => "legacy",
            Self::Pinned => "2026-07-28",
        }
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sessions").field("process", &self.process).finish_non_exhaustive()
    }
}

/// Brings each line of the driver to the command that waits for it, or to the events.
async fn route(mut lines: mpsc::Receiver<String>, board: Arc<Board>) {
    while let Some(line) = lines.recv().await {
        let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
        if let Some(event) = Event::parse(&line) {
            board.events.send_modify(|events| events.push(event));
        } else if let Some(id) = line["id"].as_u64() {
            let mut waiting = board.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            // A command whose deadline passed waits no more.
            if let Some(waiting) = waiting.remove(&id) {
                let _ = waiting.send(answer(&line));
            }
        }
    }
    // Nobody answers the rest.
    board.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

fn count_list_changes(events: &[(usize, Event)], sessions: usize) -> Vec<usize> {
    let mut changes = vec![0; sessions];
    for (session, _) in events.iter().filter(|(_, event)| *event == Event::ListChanged) {
        changes[*session] += 1;
    }
    changes
}

fn answer(line: &Value) -> Result<Value, Refusal> {
    match line.get("error") {
        Some(error) => Err(Refusal {
            message: error["message"].as_str().unwrap_or_default().to_owned(),
            code: error["code"].as_i64(),
        }),
        None => Ok(line["ok"].clone()),
    }
}

impl Event {
    fn parse(line: &Value) -> Option<(usize, Self)> {
        let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        let event = match line["event"].as_str()? {
            "open" => Self::Open(text("protocol")),
            "list_changed" => Self::ListChanged,
            "asked" => Self::Asked,
            "updated" => Self::Updated(text("uri")),
            "progress" => Self::Progress(line["progress"].as_f64()?),
            "fault" => Self::Fault(text("message")),
            "lost" => Self::Lost(text("message")),
            _ => return None,
        };
        Some((usize::try_from(line["session"].as_u64()?).ok()?, event))
    }
}
