//! An MCP server that answers read-only SQL queries: `list_tables`, `describe_table` and `query`,
//! on PostgreSQL or SQLite.
//!
//! [`router`] serves MCP (Streamable HTTP, without sessions) at `/mcp` and readiness at `/health`.

mod database;
mod failure;
mod gate;
mod health;
mod output;
mod seed;
mod session;
mod tools;
mod url;

use std::{num::ParseIntError, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use rmcp::transport::streamable_http_server::{
    StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
};

use crate::{database::Database, health::Health, output::Limits, tools::Sql};
pub use crate::{seed::seed, url::DatabaseUrl};

/// Which database the server answers for, how long and how much, and to whom.
#[derive(Clone, Debug, clap::Args)]
pub struct Config {
    /// The database: a `postgres://` URL, or `sqlite:` and the path of a file.
    #[arg(
        long,
        env = "DATABASE_URL",
        hide_env_values = true,
        default_value = "sqlite:sample.db",
        value_name = "URL"
    )]
    pub database_url: DatabaseUrl,

    /// Seconds that a statement may take, 1 to 3600.
    #[arg(long, env = "STATEMENT_TIMEOUT", default_value = "30", value_parser = seconds)]
    pub statement_timeout: Duration,

    /// Rows that an answer may have.
    #[arg(long, env = "MAX_ROWS", default_value_t = DEFAULT_MAX_ROWS)]
    pub max_rows: usize,

    /// Bytes that an answer may have.
    #[arg(long, env = "MAX_BYTES", default_value_t = DEFAULT_MAX_BYTES)]
    pub max_bytes: usize,

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

impl Config {
    /// What holds unless told otherwise.
    pub fn new(database_url: DatabaseUrl) -> Self {
        Self {
            database_url,
            statement_timeout: Duration::from_secs(30),
            max_rows: DEFAULT_MAX_ROWS,
            max_bytes: DEFAULT_MAX_BYTES,
            allowed_hosts: Vec::new(),
        }
    }
}

/// Why the server can't start, or the sample database not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    #[error("the database URL is not valid")]
    Url(#[source] sqlx::Error),
    #[error("can't make the sample database")]
    Seed(#[source] sqlx::Error),
}

/// The server, to be served on any listener. The database may be away.
pub fn router(config: &Config) -> Result<Router, Error> {
    let limits = Limits { rows: config.max_rows, bytes: config.max_bytes };
    let database = Database::new(&config.database_url, config.statement_timeout, limits)
        .map(Arc::new)
        .map_err(Error::Url)?;
    let server = Sql::new(Arc::clone(&database));
    let mcp = StreamableHttpService::new(
        move || Ok(server.clone()),
        Arc::new(NeverSessionManager::default()),
        transport(&config.allowed_hosts),
    );
    Ok(Router::new()
        .route_service("/mcp", mcp)
        .route("/health", get(health))
        .with_state(Health::new(database)))
}

/// No session means that any replica can answer any request.
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

async fn health(State(health): State<Health>) -> impl IntoResponse {
    let (status, body) = if health.is_ok().await {
        (StatusCode::OK, r#"{"status":"ok"}"#)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, r#"{"status":"unavailable","reason":"database"}"#)
    };
    (status, [(CONTENT_TYPE, "application/json")], body)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: u64 = text.parse().map_err(|error: ParseIntError| error.to_string())?;
    // PostgreSQL takes 0 for no limit at all.
    if (1..=3600).contains(&seconds) {
        Ok(Duration::from_secs(seconds))
    } else {
        Err("not within 1 to 3600".to_owned())
    }
}

/// As many as a model can make use of.
const DEFAULT_MAX_ROWS: usize = 1000;

/// 1 MiB: a lot of text for a model and little memory for a server.
const DEFAULT_MAX_BYTES: usize = 1 << 20;
