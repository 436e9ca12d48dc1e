//! The programs of this workspace, as a user runs them.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

use super::{Manifests, free_port, wait_get};
use crate::clients::{Endpoint, Transport, process::Process, program};

/// `fairway-gateway` over a directory of manifests.
#[derive(Debug)]
pub struct Gateway {
    process: Process,
    manifests: PathBuf,
    state: PathBuf,
    port: u16,
}

impl Gateway {
    /// Starts one and waits until it serves these servers.
    pub async fn start(manifests: &Manifests, state: &Path, servers: &[&str]) -> Result<Self> {
        Self::at(free_port()?, manifests.path(), state, servers).await
    }

    /// `http://HOST:PORT`.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// Ends it with SIGKILL.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.kill().await
    }

    /// Starts it again as it was, after [`Self::kill`].
    pub async fn start_again(&mut self, servers: &[&str]) -> Result<()> {
        *self = Self::at(self.port, &self.manifests, &self.state, servers).await?;
        Ok(())
    }

    /// Waits until it serves exactly these servers.
    pub async fn wait_servers(&self, servers: &[&str]) -> Result<()> {
        wait_servers(&self.url(), servers).await.map_err(|error| self.process.blame(error))
    }

    async fn at(port: u16, manifests: &Path, state: &Path, servers: &[&str]) -> Result<Self> {
        let mut command = Command::new(program("fairway-gateway")?);
        command.arg("--source").arg(format!("dir:{}", manifests.display()));
        command.args(["--listen", &format!("127.0.0.1:{port}")]);
        command.args(["--admin-listen", &format!("127.0.0.1:{}", free_port()?)]);
        command.arg("--state").arg(state).env_clear();
        let process = Process::spawn("fairway-gateway", command)?;
        let gateway =
            Self { process, manifests: manifests.to_owned(), state: state.to_owned(), port };

        gateway.wait_servers(servers).await?;
        Ok(gateway)
    }
}

/// The demo: three servers and a gateway in one process.
#[derive(Debug)]
pub struct Demo {
    process: Process,
    manifests: Manifests,
    _home: TempDir,
    port: u16,
}

impl Demo {
    /// The demo's servers while its database is the embedded one.
    pub const SERVERS: [&str; 3] = ["database", "everything", "filesystem"];

    /// Starts it on ports of its own and waits until all its servers are connected.
    pub async fn start() -> Result<Self> {
        let (manifests, home, port) = (Manifests::of_demo()?, TempDir::new()?, free_port()?);
        let mut command = Command::new(program("demo")?);
        command.env_clear().current_dir(home.path());
        command.env("HOME", home.path()).env("TMPDIR", home.path());
        command.env("FAIRWAY_LISTEN", format!("127.0.0.1:{port}"));
        command.env("FAIRWAY_ADMIN_LISTEN", "127.0.0.1:0");
        command.env("FAIRWAY_DEMO_MANIFESTS", manifests.path());
        let process = Process::spawn("the demo", command)?;
        let demo = Self { process, manifests, _home: home, port };

        demo.wait_servers(&Self::SERVERS).await?;
        Ok(demo)
    }

    /// `http://HOST:PORT` of its gateway.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// The manifests it watches.
    pub fn manifests(&self) -> &Manifests {
        &self.manifests
    }

    /// Waits until it serves exactly these servers.
    pub async fn wait_servers(&self, servers: &[&str]) -> Result<()> {
        wait_servers(&self.url(), servers).await.map_err(|error| self.process.blame(error))
    }
}

/// The endpoint of a gateway as a user configures it: a query over SSE, a header over Streamable HTTP.
pub fn endpoint(transport: Transport, base: &str, key: &str) -> Endpoint {
    let endpoint = Endpoint::new(transport, base);
    match transport {
        Transport::Sse => endpoint.query("api_key", key),
        Transport::Http => endpoint.header("X-Api-Key", key),
    }
}

async fn wait_servers(url: &str, servers: &[&str]) -> Result<()> {
    let all = |health: &str| {
        let health: Value = serde_json::from_str(health).unwrap_or_default();
        health["status"] == "ok" && health["backends"] == serde_json::json!(servers)
    };
    wait_get(&format!("{url}/health"), all).await.map(drop)
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}
