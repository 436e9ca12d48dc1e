//! Claude Code, whose model plays a script: one conversation a cell.

use anyhow::{Context as _, Result, ensure};
use e2e::clients::{
    Transport,
    claude::{self, Claude, Outcome},
    model::{Model, Script},
    tap::Tap,
};
use serde_json::json;

use crate::{
    checks::{Cell, Check, Mark, Note},
    rows,
    scene::{self, Scene},
    servers::{Column, Example},
};

pub(crate) async fn row(scene: &Scene, row: usize, transport: Transport) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for column in &scene.servers.columns {
        let tap = Tap::start(&scene.gateway.url()).await?;
        let endpoint = scene::endpoint(transport, tap.url(), row, column);
        let outcome = play(scene, row, column, &endpoint).await;
        let mut cell = match outcome {
            Ok((outcome, added)) => judge(&outcome, column, &added),
            Err(error) => Cell::unconnected(&error),
        };
        cell.revision = rows::revision(&tap);
        cells.push(cell);
    }
    Ok(cells)
}

/// The conversation, and the tool that was added in it.
async fn play(
    scene: &Scene,
    row: usize,
    column: &Column,
    endpoint: &e2e::clients::Endpoint,
) -> Result<(Outcome, Example)> {
    let tool = |name: &str| claude::tool(&column.tool(name));
    let (call, failure) = (column.kind.call(0), column.kind.failure());
    let script = Script::new()
        .call(&tool(call.tool), call.arguments.clone())
        .call(&tool(failure.tool), failure.arguments);
    let meanwhile = (tool(call.tool), call.arguments.clone());
    let meanwhile = (meanwhile.0.as_str(), meanwhile.1);
    let claude = Claude::new().await?;

    if let Some(withheld) = column.kind.withheld() {
        let (script, gate) = script.gated_call(&tool(call.tool), call.arguments);
        let name = tool(withheld.tool);
        let script = script.call_once_offered(&name, withheld.arguments.clone(), meanwhile);
        let model = Model::start(script).await?;
        let run = claude.run(endpoint, &model)?;
        gate.reached().await?;
        scene.grant(row, column)?;
        gate.open();
        return Ok((run.finish().await?, withheld));
    }

    let name = format!("grown_{}_{row}", column.name.replace('-', "_"));
    let script = script.call(&tool("grow"), json!({"name": name}));
    let script = script.call_once_offered(&tool(&name), json!({}), meanwhile);
    let script = script.call(&tool("shrink"), json!({"name": name}));
    let model = Model::start(script).await?;
    let outcome = claude.run(endpoint, &model)?.finish().await?;
    let grown = Example { tool: "", arguments: json!({}), answer: "grown".to_owned() };
    Ok((outcome, grown))
}

fn judge(outcome: &Outcome, column: &Column, added: &Example) -> Cell {
    let mut cell = Cell::new();
    let mark =
        |check: Result<()>| check.map_or_else(|error| Mark::failed(&error), |()| Mark::Works);
    cell.mark(Check::Connect, mark(connected(outcome)));
    cell.mark(Check::List, mark(listed(outcome, column)));
    let answer = |number: usize, wanted: &Example, is_error: bool| {
        let result = outcome.results.get(number).context("there was no such answer")?;
        ensure!(result.is_error == is_error, "it answered {result:?}");
        ensure!(result.text.contains(&wanted.answer), "it answered {result:?}");
        Ok(())
    };
    cell.mark(Check::Call, mark(answer(0, &column.kind.call(0), false)));
    cell.mark(Check::Error, mark(answer(1, &column.kind.failure(), true)));
    // After the tool that was added comes, in `reference.py`, its removal.
    let after = usize::from(column.kind.withheld().is_none());
    let added = match outcome.results.len().checked_sub(1 + after) {
        Some(last) => answer(last, added, false),
        None => Err(anyhow::anyhow!("the conversation ended early")),
    };
    cell.mark(Check::ListChanged, mark(added));
    cell.mark(Check::Progress, Mark::Explained(Note::ProgressUnasked));
    cell.mark(Check::Cancel, Mark::Explained(Note::CancelledByNobody));
    cell.mark(Check::Big, Mark::Explained(Note::ResultKept));
    cell.mark(Check::Parallel, Mark::Explained(Note::OneCallAtATime));
    cell
}

fn connected(outcome: &Outcome) -> Result<()> {
    let init = outcome.init.as_ref().context("it never started")?;

    ensure!(init.servers == [("gw".to_owned(), "connected".to_owned())], "{:?}", init.servers);
    Ok(())
}

fn listed(outcome: &Outcome, column: &Column) -> Result<()> {
    let init = outcome.init.as_ref().context("it never started")?;
    for tool in column.kind.tools() {
        let tool = claude::tool(&column.tool(tool));
        ensure!(init.tools.contains(&tool), "{tool} is not in {:?}", init.tools);
    }
    Ok(())
}
