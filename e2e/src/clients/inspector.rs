//! The MCP Inspector's command line: one method a run, each in a session of its own.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::{Endpoint, install, process::Process};

/// The packaged program, below the directory of the clients in JavaScript.
const PROGRAM: &str =
    "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js";

/// How it ends when the tool says that it failed.
const TOOL_FAILED: i32 = 5;

/// Which revisions it asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// Those that start with `initialize`.
    Legacy,
    /// 2026-07-28 only.
    Modern,
}

/// An installed Inspector with an empty home.
#[derive(Debug)]
pub struct Inspector {
    node: PathBuf,
    program: PathBuf,
    home: TempDir,
    endpoint: Endpoint,
    era: Era,
}

/// What a run printed.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The result of the method.
    pub result: Value,
    /// Whether it was a tool's failure.
    pub is_error: bool,
}

impl Inspector {
    /// Installs it if it is not.
    pub async fn new(endpoint: Endpoint, era: Era) -> Result<Self> {
        let program = install::javascript().await?.join(PROGRAM);
        Ok(Self { node: install::node().await?, program, home: TempDir::new()?, endpoint, era })
    }

    /// Calls a method; `options` are those of the command line.
    pub async fn run(&self, method: &str, options: &[&str]) -> Result<Answer> {
        let (process, status) = self.end(method, options).await?;
        let log = process.log();
        // A tool's failure is also an error on the other output, and which is read first is chance.
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let printed = lines.find(|line| line.get("result").is_some());
        match (printed, status) {
            (Some(mut printed), Some(0 | TOOL_FAILED)) => {
                Ok(Answer { result: printed["result"].take(), is_error: status != Some(0) })
            }
            _ => Err(process.blame(format!("{method} ended with {status:?}"))),
        }
    }

    /// Calls a tool and tells the text of its answer.
    pub async fn text(&self, tool: &str, arguments: &Value) -> Result<String> {
        let file = self.home.path().join("answer");
        let path = file.to_str().context("the home has no name in UTF-8")?;
        let arguments = arguments.to_string();
        let call = ["--tool-name", tool, "--tool-args-json", &arguments];
        let options = [&call[..], &["--output", path, "--output-format", "raw"]].concat();
        let (process, status) = self.end("tools/call", &options).await?;
        if status != Some(0) {
            return Err(process.blame(format!("{tool} ended with {status:?}")));
        }

        Ok(fs::read_to_string(file)?)
    }

    async fn end(&self, method: &str, options: &[&str]) -> Result<(Process, Option<i32>)> {
        let mut command = Command::new(&self.node);
        command.arg(&self.program).env_clear();
        command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.env("HOME", self.home.path()).env("TMPDIR", self.home.path());
        command.args(["--cli", "--stored-auth-only", "--format", "json"]);
        command.args(["--server-url", &self.endpoint.url]);
        command.args(["--transport", self.endpoint.transport.name()]);
        command.args(["--protocol-era", self.era.name()]);
        for (name, value) in &self.endpoint.headers {
            command.args(["--header", &format!("{name}: {value}")]);
        }
        command.args(["--method", method]).args(options);
        let mut process = Process::spawn("the Inspector", command)?;
        drop(process.take_input());
        let status = process.wait().await?;

        Ok((process, status.code()))
    }
}

impl Era {
    fn name(self) -> &'static str {
        match self {
            Self::Legacy => "legacy",
            Self::Modern => "modern",
        }
    }
}
