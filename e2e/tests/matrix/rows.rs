//! The clients, the rows of the table.

use anyhow::Result;
use e2e::clients::{
    Transport,
    bridge::Protocol,
    inspector::Era,
    install::Sdk,
    sessions::{Library, Mode},
    tap::{Exchange, Tap},
};
use tokio::time::Instant;

use crate::{checks::Cell, claude, inspector, scene::Scene, sessions};

/// A client as it is configured.
pub(crate) struct Row {
    pub(crate) title: &'static str,
    client: Client,
    transport: Transport,
}

enum Client {
    ClaudeCode,
    Inspector(Era),
    Sdk(Library, Mode),
    /// mcp-remote, behind the Python SDK 1.30.
    Remote(Protocol),
}

const fn row(title: &'static str, transport: Transport, client: Client) -> Row {
    Row { title, client, transport }
}

const fn python(sdk: Sdk, mode: Mode) -> Client {
    Client::Sdk(Library::Python(sdk), mode)
}

const fn typescript(sdk: Sdk, mode: Mode) -> Client {
    Client::Sdk(Library::TypeScript(sdk), mode)
}

use Client::{ClaudeCode, Inspector, Remote};
use Transport::{Http, Sse};

pub(crate) const ROWS: [Row; 19] = [
    row("Claude Code 2.1.328, SSE", Sse, ClaudeCode),
    row("Claude Code 2.1.328, HTTP", Http, ClaudeCode),
    row("Inspector 2.12.0, SSE", Sse, Inspector(Era::Legacy)),
    row("Inspector 2.12.0, HTTP, `legacy`", Http, Inspector(Era::Legacy)),
    row("Inspector 2.12.0, HTTP, `modern`", Http, Inspector(Era::Modern)),
    row("Python SDK 1.30.0, SSE", Sse, python(Sdk::V1, Mode::Legacy)),
    row("Python SDK 1.30.0, HTTP", Http, python(Sdk::V1, Mode::Legacy)),
    row("Python SDK 2.3.0, SSE, `auto`", Sse, python(Sdk::V2, Mode::Auto)),
    row("Python SDK 2.3.0, HTTP, `legacy`", Http, python(Sdk::V2, Mode::Legacy)),
    row("Python SDK 2.3.0, HTTP, `auto`", Http, python(Sdk::V2, Mode::Auto)),
    row("TypeScript SDK 1.32.2, SSE", Sse, typescript(Sdk::V1, Mode::Legacy)),
    row("TypeScript SDK 1.32.2, HTTP", Http, typescript(Sdk::V1, Mode::Legacy)),
    row("TypeScript SDK 2.4.0, SSE", Sse, typescript(Sdk::V2, Mode::Legacy)),
    row("TypeScript SDK 2.4.0, HTTP, `legacy`", Http, typescript(Sdk::V2, Mode::Legacy)),
    row("TypeScript SDK 2.4.0, HTTP, `auto`", Http, typescript(Sdk::V2, Mode::Auto)),
    row("TypeScript SDK 2.4.0, HTTP, pinned", Http, typescript(Sdk::V2, Mode::Pinned)),
    row("mcp-remote 0.15.1, SSE", Sse, Remote(Protocol::Legacy)),
    row("mcp-remote 0.15.1, HTTP, `legacy`", Http, Remote(Protocol::Legacy)),
    row("mcp-remote 0.15.1, HTTP, `auto`", Http, Remote(Protocol::Auto)),
];

impl Row {
    /// One cell for each server.
    pub(crate) async fn play(&self, scene: &Scene, number: usize) -> Result<Vec<Cell>> {
        let begun = Instant::now();
        let transport = self.transport;
        let cells = match &self.client {
            ClaudeCode => claude::row(scene, number, transport).await?,
            Inspector(era) => inspector::row(scene, number, transport, *era).await?,
            Client::Sdk(library, mode) => {
                sessions::row(scene, number, transport, *library, *mode).await?
            }
            Remote(protocol) => sessions::remote_row(scene, number, transport, *protocol).await?,
        };
        println!("{} took {} s", self.title, begun.elapsed().as_secs());
        Ok(cells)
    }
}

/// The revision that a client spoke last through a tap, where the client does not tell.
pub(crate) fn revision(tap: &Tap) -> String {
    let exchanges = tap.exchanges();
    let headed = |exchange: &&Exchange| exchange.is("tools/list");
    let header = exchanges.iter().rev().find(headed).and_then(|list| list.revision.clone());
    // HTTP+SSE has no such header, and the gateway takes what is asked for.
    let asked = || {
        let hello = exchanges.iter().rev().find(|exchange| exchange.is("initialize"))?;
        hello.message["params"]["protocolVersion"].as_str().map(str::to_owned)
    };
    header.or_else(asked).unwrap_or_else(|| "unknown".to_owned())
}
