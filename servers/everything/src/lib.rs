//! An MCP server with a few tools to try things with: `echo`, `get_time` and `add`.
//!
//! [`router`] serves MCP (Streamable HTTP, without sessions) at `/mcp` and liveness at `/health`.

mod sum;
mod tools;

use std::sync::Arc;

use axum::{Router, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
};

use crate::tools::Everything;

/// What the server does and for whom.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Config {
    /// Host names that requests to /mcp may carry, separated by commas; `*` allows any.
    /// Without one, only loopback names are allowed, which stops DNS rebinding.
    #[arg(
        long = "allowed-host",
        env = "ALLOWED_HOSTS",
        value_delimiter = ',',
        value_name = "HOST"
    )]
    pub allowed_hosts: Vec<String>,

    /// Also offer `slow`, a tool which takes as long as it is asked to and reports progress.
    #[arg(long, env = "EVERYTHING_SLOW_TOOLS")]
    pub slow_tools: bool,
}

/// The server, to be served on any listener.
pub fn router(config: &Config) -> Router {
    let server = Everything::new(config.slow_tools);
    let mcp = StreamableHttpService::new(
        move || Ok(server.clone()),
        Arc::new(NeverSessionManager::default()),
        transport(&config.allowed_hosts),
    );
    Router::new().route_service("/mcp", mcp).route("/health", get(health))
}

/// No session means that any replica can answer any request. A call that reports progress is
/// answered by a stream all the same: rmcp falls back to one at the first notification.
fn transport(allowed_hosts: &[String]) -> StreamableHttpServerConfig {
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true);
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
