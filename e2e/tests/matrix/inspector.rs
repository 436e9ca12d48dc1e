//! The Inspector's command line: every check is a run.

use anyhow::{Result, ensure};
use e2e::clients::{
    Transport,
    inspector::{Era, Inspector},
};

use crate::{
    checks::{Cell, Check, Mark, Note, PARALLEL},
    scene::{self, Scene},
    servers::{Column, Example, digits},
};

pub(crate) async fn row(
    scene: &Scene,
    row: usize,
    transport: Transport,
    era: Era,
) -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for column in &scene.servers.columns {
        let endpoint = scene::endpoint(transport, &scene.gateway.url(), row, column);
        let place = Place { inspector: Inspector::new(endpoint, era).await?, column };
        cells.push(place.play().await);
    }
    Ok(cells)
}

struct Place<'a> {
    inspector: Inspector,
    column: &'a Column,
}

impl Place<'_> {
    async fn play(&self) -> Cell {
        let mut cell = Cell::new();
        match self.inspector.run("initialize", &[]).await {
            Ok(answer) => {
                let revision = answer.result["protocolVersion"].as_str();
                cell.revision = revision.unwrap_or("unknown").to_owned();
            }
            Err(error) => return Cell::unconnected(&error),
        }
        cell.mark(Check::Connect, Mark::Works);
        cell.mark(Check::List, Mark::of(self.list()).await);
        cell.mark(Check::Call, Mark::of(self.call(&self.column.kind.call(0), false)).await);
        if cell.is_hopeless() {
            return cell;
        }
        cell.mark(Check::Error, Mark::of(self.call(&self.column.kind.failure(), true)).await);
        cell.mark(Check::Progress, Mark::Explained(Note::ProgressUnasked));
        cell.mark(Check::Cancel, Mark::Explained(Note::CancelledByNobody));
        cell.mark(Check::ListChanged, Mark::Explained(Note::ShortSession));
        cell.mark(Check::Big, self.big().await);
        cell.mark(Check::Parallel, Mark::of(self.parallel()).await);
        cell
    }

    async fn list(&self) -> Result<()> {
        let listed = self.inspector.run("tools/list", &[]).await?;
        let tools: Vec<&str> = listed.result["tools"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|tool| tool["name"].as_str())
            .collect();
        for tool in self.column.kind.tools() {
            let tool = self.column.tool(tool);
            ensure!(tools.contains(&tool.as_str()), "{tool} is not in {tools:?}");
        }
        Ok(())
    }

    async fn call(&self, example: &Example, is_error: bool) -> Result<()> {
        let (tool, arguments) = (self.column.tool(example.tool), example.arguments.to_string());
        let options = ["--tool-name", &tool, "--tool-args-json", &arguments];
        let answer = self.inspector.run("tools/call", &options).await?;

        ensure!(answer.is_error == is_error, "{tool} answered {answer:?}");
        let text = answer.result["content"].to_string();
        ensure!(text.contains(&example.answer), "{tool} answered {text}");
        Ok(())
    }

    async fn big(&self) -> Mark {
        let size = 5_000_000;
        let Some(big) = self.column.kind.big(size) else {
            return Mark::Explained(Note::NoBigResult);
        };
        Mark::of(async {
            let text = self.inspector.text(&self.column.tool(big.tool), &big.arguments).await?;

            ensure!(text == digits(size), "it answered with {} other bytes", text.len());
            Ok(())
        })
        .await
    }

    async fn parallel(&self) -> Result<()> {
        let example = self.column.kind.call(0);
        let (tool, arguments) = (self.column.tool(example.tool), example.arguments.to_string());
        let calls = PARALLEL.to_string();
        let call = ["--tool-name", &tool, "--tool-args-json", &arguments];
        let load = ["--load", "--load-requests", &calls, "--load-concurrency", &calls];
        let answer = self.inspector.run("tools/call", &[&call[..], &load].concat()).await?;

        ensure!(answer.result["ok"] == PARALLEL, "it tells {}", answer.result);
        Ok(())
    }
}
