//! Claude Code with a home of its own, as a user who just installed it.

mod events;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use tempfile::TempDir;
use tokio::{process::Command, sync::mpsc};

pub use events::{Event, Init, Outcome};

use super::{
    Endpoint, install,
    model::{Model, PROMPT, ToolResult},
    process::Process,
};

/// The name of the server in every configuration.
const SERVER: &str = "gw";

/// A base URL where connections are refused at once: nothing listens on the discard port.
const NOWHERE: &str = "http://127.0.0.1:9";

/// What the model calls a tool of the server.
pub fn tool(name: &str) -> String {
    format!("mcp__{SERVER}__{name}")
}

/// An installed Claude Code.
#[derive(Debug)]
pub struct Claude {
    binary: PathBuf,
    home: TempDir,
    begins_with_initialize: bool,
}

impl Claude {
    /// Installs it if it is not, and gives it an empty home.
    pub async fn new() -> Result<Self> {
        let (binary, home) = (install::claude().await?, TempDir::new()?);
        Ok(Self { binary, home, begins_with_initialize: false })
    }

    /// The same, told to begin with `initialize`, as versions before it did, where it would ask for 2026-07-28.
    #[must_use]
    pub fn beginning_with_initialize(self) -> Self {
        Self { begins_with_initialize: true, ..self }
    }

    /// `claude mcp add --scope user`.
    pub async fn add(&self, endpoint: &Endpoint) -> Result<String> {
        let mut command = self.command();
        command.args(["mcp", "add", "--scope", "user"]);
        command.args(["--transport", endpoint.transport.name(), SERVER, &endpoint.url]);
        for (name, value) in &endpoint.headers {
            command.args(["--header", &format!("{name}: {value}")]);
        }
        output(command).await
    }

    /// `claude mcp get`, which connects to the server that was added.
    pub async fn get(&self) -> Result<String> {
        let mut command = self.command();
        command.args(["mcp", "get", SERVER]);
        output(command).await
    }

    /// `claude mcp list`, which connects to every server.
    pub async fn list(&self) -> Result<String> {
        let mut command = self.command();
        command.args(["mcp", "list"]);
        output(command).await
    }

    /// Starts a conversation with `model` in which the server's tools are allowed.
    pub fn run(&self, endpoint: &Endpoint, model: &Model) -> Result<Run> {
        let server = json!({
            "type": endpoint.transport.name(),
            "url": endpoint.url,
            "headers": endpoint.headers_json(),
        });
        self.run_with(&json!({"mcpServers": {SERVER: server}}).to_string(), SERVER, model)
    }

    /// The same with a configuration that somebody else made, in which this server is to be used.
    pub fn run_with(&self, configuration: &str, server: &str, model: &Model) -> Result<Run> {
        let file = self.home.path().join("mcp.json");
        fs::write(&file, configuration)?;
        let mut command = self.command();
        command.env("ANTHROPIC_BASE_URL", model.url());
        command.args(["-p", PROMPT, "--output-format", "stream-json", "--verbose"]);
        command.arg("--mcp-config").arg(file).arg("--strict-mcp-config");
        command.args(["--allowedTools", &format!("mcp__{server}")]);
        let (mut process, lines) = Process::spawn_with_lines("Claude Code", command)?;
        // It reads a piped standard input to its end before it starts.
        drop(process.take_input());

        Ok(Run { process, lines, outcome: Outcome::default() })
    }

    /// A command that knows nothing of this machine but the path.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(self.home.path()).env_clear();
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("HOME", self.home.path()).env("TMPDIR", self.home.path());
        command.env("CLAUDE_CONFIG_DIR", self.home.path().join("config"));
        command.env("ANTHROPIC_API_KEY", "any");
        // `mcp get` asks the API for something too, and would retry for 20 s where there is no network.
        command.env("ANTHROPIC_BASE_URL", NOWHERE);
        command.env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1");
        command.env("DISABLE_AUTOUPDATER", "1");
        command.env("DISABLE_ERROR_REPORTING", "1");
        command.env("DISABLE_TELEMETRY", "1");
        if self.begins_with_initialize {
            command.env("MCP_PROTOCOL_NEGOTIATION", "legacy");
        }
        // Tools whose definitions are deferred could not be used at once.
        command.env("ENABLE_TOOL_SEARCH", "false");
        command
    }
}

async fn output(command: Command) -> Result<String> {
    let mut process = Process::spawn("Claude Code", command)?;
    drop(process.take_input());
    let status = process.wait().await?;

    ensure!(status.success(), process.blame(status));
    Ok(process.log())
}

/// A conversation under way.
#[derive(Debug)]
pub struct Run {
    process: Process,
    lines: mpsc::Receiver<String>,
    outcome: Outcome,
}

impl Run {
    /// Waits until Claude Code has said what it starts with.
    pub async fn init(&mut self) -> Result<Init> {
        loop {
            if let Some(init) = &self.outcome.init {
                return Ok(init.clone());
            }
            self.advance("its first event").await?;
        }
    }

    /// Waits for the next answer of a tool.
    pub async fn next_result(&mut self) -> Result<ToolResult> {
        let known = self.outcome.results.len();
        loop {
            if let Some(result) = self.outcome.results.get(known) {
                return Ok(result.clone());
            }
            self.advance("the answer of a tool").await?;
        }
    }

    /// Waits for the end of the conversation.
    pub async fn finish(mut self) -> Result<Outcome> {
        while self.outcome.text.is_none() {
            self.advance("the end of the conversation").await?;
        }
        self.lines.close();
        let status = self.process.wait().await?;

        ensure!(status.success(), self.process.blame(status));
        Ok(self.outcome)
    }

    async fn advance(&mut self, what: &str) -> Result<()> {
        let line = super::within(what, self.lines.recv())
            .await
            .and_then(|line| line.with_context(|| format!("Claude Code ended before {what}")));
        let line = line.map_err(|error| self.process.blame(error))?;
        for event in Event::parse(&line) {
            self.outcome.take(event);
        }
        Ok(())
    }
}
