//! Servers that others wrote, and ours, each in a process of its own.

use anyhow::{Context as _, Result};
use tokio::process::Command;

use super::free_port;
use crate::clients::{
    Transport,
    install::{self, Sdk},
    process::Process,
    program,
};

/// The packaged programs, below the directory of the servers in JavaScript.
const EVERYTHING: &str = "node_modules/@modelcontextprotocol/server-everything/dist/index.js";
const MCP_PROXY: &str = "node_modules/mcp-proxy/dist/bin/mcp-proxy.mjs";

/// A running server.
#[derive(Debug)]
pub struct Server {
    port: u16,
    _process: Process,
}

impl Server {
    /// npm `@modelcontextprotocol/server-everything`: it serves one transport.
    pub async fn npm_everything(transport: Transport) -> Result<Self> {
        let (argument, ready) = match transport {
            Transport::Sse => ("sse", "Server is running"),
            Transport::Http => ("streamableHttp", "listening on port"),
        };
        let port = free_port()?;
        let mut command = Command::new(install::node().await?);
        command.arg(install::javascript().await?.join(EVERYTHING)).arg(argument);
        command.env_clear().env("PORT", port.to_string());

        Self::ready(port, "server-everything of npm", command, ready).await
    }

    /// npm `mcp-proxy` around PyPI `mcp-server-time`: it serves both transports, and `modern` allows 2026-07-28.
    pub async fn time(modern: bool) -> Result<Self> {
        let python = install::python(Sdk::V2).await?;
        let port = free_port()?;
        let mut command = Command::new(install::node().await?);
        command.arg(install::javascript().await?.join(MCP_PROXY)).env_clear();
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        if !modern {
            command.arg("--no-modern");
        }
        let server = python.with_file_name("mcp-server-time");
        command.arg("--").arg(server).args(["--local-timezone", "UTC"]);

        Self::ready(port, "mcp-proxy", command, "starting server on port").await
    }

    /// `servers/everything` with its slow tool.
    pub async fn everything() -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(program("server-everything")?);
        command.env_clear().env("LISTEN", format!("127.0.0.1:{port}"));
        command.env("EVERYTHING_SLOW_TOOLS", "true");

        Self::ready(port, "servers/everything", command, "listening").await
    }

    /// `http://HOST:PORT`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    async fn ready(port: u16, name: &str, command: Command, line: &str) -> Result<Self> {
        let process = Process::spawn(name, command)?;
        process.wait_for_line(line).await.with_context(|| format!("{name} did not start"))?;

        Ok(Self { port, _process: process })
    }
}
