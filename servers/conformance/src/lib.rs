//! An MCP server that has what the official conformance suite looks for.
//!
//! It speaks every revision of the protocol, only those with `initialize`, or only 2026-07-28 ([`Era`]), and offers
//! the same fixtures each time: what a tool needs from its client it asks for in the way of the revision (`input`).
//! [`router`] serves MCP (Streamable HTTP) at `/mcp` and liveness at `/health`.

mod audience;
mod completion;
mod era;
mod input;
mod logging;
mod prompts;
mod resources;
mod seal;
mod server;
mod session;
mod tasks;
mod tools;

use std::sync::Arc;

use anyhow::Result;
use axum::{Router, http::header::CONTENT_TYPE, middleware, response::IntoResponse, routing::get};
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
};

pub use era::Era;

use crate::server::{Conformance, Shared};

/// What the server speaks and with whom.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// Which revisions of the protocol it speaks.
    #[arg(long, env = "ERA", value_enum, default_value_t = Era::Dual)]
    pub era: Era,

    /// Host names that requests to /mcp may carry, separated by commas; `*` allows any.
    /// Without one, only loopback names are allowed, as hosts and as origins, which stops DNS rebinding.
    #[arg(
        long = "allowed-host",
        env = "ALLOWED_HOSTS",
        value_delimiter = ',',
        value_name = "HOST"
    )]
    pub allowed_hosts: Vec<String>,
}

/// The server, to be served on any listener.
///
/// # Errors
///
/// If the system has no random numbers to make a key from.
pub fn router(config: &Config) -> Result<Router> {
    let shared = Arc::new(Shared::new(config.era)?);
    let mcp = StreamableHttpService::new(
        move || Ok(Conformance::new(Arc::clone(&shared))),
        Arc::new(LocalSessionManager::default()),
        transport(config),
    );
    let mut mcp = Router::new().route_service("/mcp", mcp);
    if config.era == Era::Legacy {
        mcp = mcp.layer(middleware::from_fn(era::refuse_modern));
    }
    Ok(mcp.route("/health", get(health)))
}

fn transport(config: &Config) -> StreamableHttpServerConfig {
    let modern = config.era == Era::Modern;
    let transport = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(!modern)
        .with_stateless_protocol_metadata_required(modern);
    // ALLOWED_HOSTS="" is one empty name, meant as none.
    let hosts: Vec<&str> = config
        .allowed_hosts
        .iter()
        .map(|host| host.trim())
        .filter(|host| !host.is_empty())
        .collect();
    if hosts.contains(&"*") {
        transport.disable_allowed_hosts()
    } else if hosts.is_empty() {
        transport.with_allowed_origins(LOOPBACK_ORIGINS)
    } else {
        transport.with_allowed_hosts(hosts)
    }
}

async fn health() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], r#"{"status":"ok"}"#)
}

const LOOPBACK_ORIGINS: [&str; 3] = ["http://localhost:*", "http://127.0.0.1:*", "http://[::1]:*"];
