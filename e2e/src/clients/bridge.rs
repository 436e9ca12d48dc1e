//! mcp-remote, which lets clients that know only standard input and output use a remote server.

use anyhow::Result;
use tempfile::TempDir;

use super::{Endpoint, Transport, install, sessions::Target};

/// The packaged program, below the directory of the clients in JavaScript.
const PROGRAM: &str = "node_modules/mcp-remote/dist/proxy.js";

/// How it finds the revision that it speaks to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Passes on what its own client says.
    Legacy,
    /// Asks for 2026-07-28 first.
    Auto,
}

/// What starts one in front of `endpoint`. It keeps what it remembers of its servers in `home`.
pub async fn target(endpoint: &Endpoint, protocol: Protocol, home: &TempDir) -> Result<Target> {
    let (node, packages) = (install::node().await?, install::javascript().await?);
    let transport = match endpoint.transport {
        Transport::Sse => "sse-only",
        Transport::Http => "http-only",
    };
    let protocol = match protocol {
        Protocol::Legacy => "legacy",
        Protocol::Auto => "auto",
    };
    let (node, program) =
        (node.display().to_string(), packages.join(PROGRAM).display().to_string());
    let mut command = vec![node, program, endpoint.url.clone()];
    for option in ["--transport", transport, "--protocol", protocol] {
        command.push(option.to_owned());
    }
    for (name, value) in &endpoint.headers {
        command.extend(["--header".to_owned(), format!("{name}: {value}")]);
    }
    let environment = vec![("HOME".to_owned(), home.path().display().to_string())];

    Ok(Target::Command { command, environment })
}
