//! An MCP server that reads and writes files under one root: `list_files`, `read_file` and
//! `write_file`.
//!
//! [`router`] serves MCP (Streamable HTTP, without sessions) at `/mcp` and liveness at `/health`.

mod listing;
mod root;
mod tools;

use std::{io, path::PathBuf, sync::Arc};

use axum::{Router, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
};

use crate::{root::Root, tools::Filesystem};

/// What the server serves and to whom.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// The directory which the tools see as everything there is.
    #[arg(long, env = "FILESYSTEM_ROOT", value_name = "DIRECTORY")]
    pub root: PathBuf,

    /// Host names that requests to /mcp may carry, separated by commas; `*` allows any.
    /// Without one, only loopback names are allowed, which stops DNS rebinding.
    #[arg(
        long = "allowed-host",
        env = "ALLOWED_HOSTS",
        value_delimiter = ',',
        value_name = "HOST"
    )]
    pub allowed_hosts: Vec<String>,
}

/// Why the server can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("can't open the root directory {path}")]
    Root { path: PathBuf, source: io::Error },
}

/// The server, to be served on any listener.
pub fn router(config: &Config) -> Result<Router, Error> {
    let root = Root::open(&config.root)
        .map_err(|source| Error::Root { path: config.root.clone(), source })?;
    let server = Filesystem::new(root);
    let mcp = StreamableHttpService::new(
        move || Ok(server.clone()),
        Arc::new(NeverSessionManager::default()),
        transport(&config.allowed_hosts),
    );
    Ok(Router::new().route_service("/mcp", mcp).route("/health", get(health)))
}

/// No session means that any replica can answer any request.
fn transport(allowed_hosts: &[String]) -> StreamableHttpServerConfig {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true)
        .with_max_request_body_bytes(MAX_REQUEST_BYTES);
    // ALLOWED_HOSTS="" is one empty name, meant as none.
    let hosts: Vec<&str> =
        allowed_hosts.iter().map(|host| host.trim()).filter(|host| !host.is_empty()).collect();
    if hosts.contains(&"*") {
        config.disable_allowed_hosts()
    } else if hosts.is_empty() {
        config
    } else {
        config.with_allowed_hosts(hosts)
    }
}

async fn health() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], r#"{"status":"ok"}"#)
}

/// JSON takes at most six bytes (`\u0001`) for a byte of content; the rest is for the envelope.
const MAX_REQUEST_BYTES: usize = 7 * root::MAX_BYTES;
