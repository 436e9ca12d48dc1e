//! The SDKs, and mcp-remote behind one of them: a process a row, and a session a cell.

use std::fs;

use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use e2e::clients::{
    Transport,
    bridge::{self, Protocol},
    install::Sdk,
    sessions::{Call, Event, Library, Mode, Refusal, Sessions, Target},
    tap::Tap,
};
use futures_util::future::try_join_all;
use serde_json::json;
use tempfile::TempDir;

use crate::{
    checks::{Cell, Check, Mark, Note, PARALLEL},
    rows,
    scene::{self, Scene},
    servers::{Column, Example, digits},
};

/// The code of a tool that does not exist.
const INVALID_PARAMS: i64 = -32602;

/// A row of an SDK.
pub(crate) async fn row(
    scene: &Scene,
    number: usize,
    transport: Transport,
    library: Library,
    mode: Mode,
) -> Result<Vec<Cell>> {
    let base = scene.gateway.url();
    let columns = scene.servers.columns.iter();
    let targets =
        columns.map(|column| Target::Endpoint(scene::endpoint(transport, &base, number, column)));
    let sessions = Sessions::start(library, mode, &targets.collect::<Vec<_>>()).await?;
    let small = transport == Transport::Sse && library == Library::Python(Sdk::V2);
    let habits = Habits { refuses_large_events: small, ..Habits::default() };

    cells(scene, number, &sessions, habits).await
}

/// A row of mcp-remote.
pub(crate) async fn remote_row(
    scene: &Scene,
    number: usize,
    transport: Transport,
    protocol: Protocol,
) -> Result<Vec<Cell>> {
    let tap = Tap::start(&scene.gateway.url()).await?;
    let (mut targets, mut homes) = (Vec::new(), Vec::new());
    for column in &scene.servers.columns {
        let home = TempDir::new()?;
        let endpoint = scene::endpoint(transport, tap.url(), number, column);
        targets.push(bridge::target(&endpoint, protocol, &home).await?);
        homes.push(home);
    }
    let sessions = Sessions::start(Library::Python(Sdk::V1), Mode::Legacy, &targets).await?;

    let habits = Habits { cancels_by_message: protocol == Protocol::Auto, ..Habits::default() };
    let mut cells = cells(scene, number, &sessions, habits).await?;
    for cell in &mut cells {
        cell.revision = rows::revision(&tap);
    }
    Ok(cells)
}

async fn cells(
    scene: &Scene,
    row: usize,
    sessions: &Sessions,
    habits: Habits,
) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for (session, column) in scene.servers.columns.iter().enumerate() {
        let place = Place { scene, row, sessions, session, column, habits };
        cells.push(place.play().await);
    }
    Ok(cells)
}

/// What a client does in a way of its own.
#[derive(Clone, Copy, Default)]
struct Habits {
    /// It ends its session when an event is large.
    refuses_large_events: bool,
    /// It speaks 2026-07-28, and leaves the stream of a call open that it cancels.
    cancels_by_message: bool,
}

/// A session, and the server that its user may use.
struct Place<'a> {
    scene: &'a Scene,
    row: usize,
    sessions: &'a Sessions,
    session: usize,
    column: &'a Column,
    habits: Habits,
}

impl Place<'_> {
    async fn play(&self) -> Cell {
        let mut cell = Cell::new();
        match self.sessions.opened(self.session).await {
            Ok(revision) => cell.revision = revision,
            Err(error) => return Cell::unconnected(&error),
        }
        let kind = self.column.kind;
        let file = self.scene.files.path().join(format!("{}-{}", self.column.name, self.row));
        cell.mark(Check::Connect, Mark::Works);
        cell.mark(Check::List, Mark::of(self.list()).await);
        cell.mark(Check::Call, Mark::of(self.call(&kind.call(0))).await);
        if cell.is_hopeless() {
            return cell;
        }
        cell.mark(Check::Error, Mark::of(self.error()).await);
        match (kind.progress(&file), kind.endless(self.row)) {
            (Some(call), Some(endless)) => {
                cell.mark(Check::Progress, Mark::of(self.progress(&call, &file)).await);
                let cancel = Mark::of(self.cancel(&endless)).await;
                let unheard = self.habits.cancels_by_message.then_some(Note::StreamLeftOpen);
                cell.mark(Check::Cancel, cancel.unless(unheard));
            }
            _ => {
                cell.mark(Check::Progress, Mark::Explained(Note::NoProgress));
                cell.mark(Check::Cancel, Mark::Explained(Note::NothingToCancel));
            }
        }
        cell.mark(Check::ListChanged, Mark::of(self.list_changed()).await);
        cell.mark(Check::Big, self.big().await);
        cell.mark(Check::Parallel, Mark::of(self.parallel()).await);
        cell
    }

    fn request(&self, example: &Example) -> Call {
        Call::new(&self.column.tool(example.tool), example.arguments.clone())
    }

    async fn list(&self) -> Result<()> {
        let tools = self.sessions.list(self.session).await?;
        let prefix = self.column.tool("");
        let foreign: Vec<_> = tools.iter().filter(|tool| !tool.starts_with(&prefix)).collect();
        ensure!(foreign.is_empty(), "tools of other servers: {foreign:?}");
        for tool in self.column.kind.tools() {
            ensure!(tools.contains(&self.column.tool(tool)), "{tool} is not in {tools:?}");
        }
        if let Some(withheld) = self.column.kind.withheld() {
            let withheld = self.column.tool(withheld.tool);
            ensure!(!tools.contains(&withheld), "{withheld} is listed, and nobody may use it");
        }
        Ok(())
    }

    async fn call(&self, example: &Example) -> Result<()> {
        let result = self.sessions.perform(self.session, &self.request(example)).await?;

        ensure!(!result.is_error, "{} failed: {}", example.tool, result.text);
        ensure!(
            result.text.contains(&example.answer),
            "{} answered {:?}, not {:?}",
            example.tool,
            result.text,
            example.answer
        );
        Ok(())
    }

    async fn error(&self) -> Result<()> {
        let failure = self.column.kind.failure();
        // A server may fail a call in the one way or the other.
        let text = match self.sessions.perform(self.session, &self.request(&failure)).await {
            Ok(result) if !result.is_error => bail!("it did not fail: {}", result.text),
            Ok(result) => result.text,
            Err(error) => error.downcast::<Refusal>()?.message,
        };
        ensure!(text.contains(&failure.answer), "it failed with {text:?}");

        let unknown = self.sessions.refusal(self.session, "nothing", json!({})).await?;
        ensure!(unknown.code == Some(INVALID_PARAMS), "an unknown tool is told as {unknown}");
        Ok(())
    }

    async fn progress(&self, example: &Example, file: &std::path::Path) -> Result<()> {
        let call = self.request(example).with_progress();
        let call = self.sessions.perform(self.session, &call);
        let heard = async {
            let progressed = |event: &(usize, Event)| {
                event.0 == self.session && matches!(event.1, Event::Progress(_))
            };
            self.sessions.wait_events("progress", |events| events.iter().any(progressed)).await?;
            Ok(fs::write(file, "")?)
        };
        let (result, ()) = futures_util::try_join!(call, heard)?;

        ensure!(result.text.contains(&example.answer), "it answered {:?}", result.text);
        Ok(())
    }

    async fn cancel(&self, endless: &Example) -> Result<()> {
        let call = self.request(endless).cancelled();
        let ended = self.sessions.perform(self.session, &call).await?;
        ensure!(ended.text == "cancelled", "{}", ended.text);
        if !self.habits.cancels_by_message {
            self.column.wait_cancelled(&endless.arguments).await?;
        }

        self.call(&self.column.kind.call(1)).await.context("after a call was cancelled")
    }

    async fn list_changed(&self) -> Result<()> {
        let before = self.sessions.list_changes()[self.session];
        let Some(withheld) = self.column.kind.withheld() else {
            return self.grow(before).await;
        };
        self.scene.grant(self.row, self.column)?;
        self.wait_tool(before, &self.column.tool(withheld.tool)).await
    }

    /// Lets the server add a tool, uses it and removes it again.
    async fn grow(&self, before: usize) -> Result<()> {
        let name = format!("grown_{}_{}", self.column.name.replace('-', "_"), self.row);
        let grown = self.column.tool(&name);
        let change = |tool: &str| Call::new(&self.column.tool(tool), json!({"name": name}));
        self.sessions.perform(self.session, &change("grow")).await?;
        self.wait_tool(before, &grown).await?;
        let result = self.sessions.call(self.session, &grown, json!({})).await?;
        ensure!(result.text == "grown", "the new tool answered {result:?}");

        self.sessions.perform(self.session, &change("shrink")).await?;
        Ok(())
    }

    /// Lists whenever the client is told of a change, until the tool is there.
    async fn wait_tool(&self, mut before: usize, tool: &str) -> Result<()> {
        loop {
            before = self.sessions.list_changed(self.session, before).await?;
            let tools = self.sessions.list(self.session).await?;
            if tools.iter().any(|listed| listed == tool) {
                return Ok(());
            }
        }
    }

    async fn big(&self) -> Mark {
        let small = self.habits.refuses_large_events;
        let size = if small { 1_000_000 } else { 5_000_000 };
        let Some(big) = self.column.kind.big(size) else {
            return Mark::Explained(Note::NoBigResult);
        };
        let check = async {
            let call = self.request(&big).as_digest();
            let result = self.sessions.perform(self.session, &call).await?;
            let hash = digest(&SHA256, digits(size).as_bytes());
            let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();

            ensure!(result.text == format!("{size} {hash}"), "it answered {}", result.text);
            Ok(())
        };
        Mark::of(check).await.unless(small.then_some(Note::SmallerEvents))
    }

    async fn parallel(&self) -> Result<()> {
        let calls: Vec<Example> =
            (0..PARALLEL).map(|number| self.column.kind.call(number)).collect();
        try_join_all(calls.iter().map(|call| self.call(call))).await?;
        Ok(())
    }
}
