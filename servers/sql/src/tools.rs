//! The tools and what they say about themselves.

use std::sync::Arc;

use rmcp::{
    ServerHandler,
    handler::server::{router::tool::ToolRouter, wrapper::Parameters},
    model::{CallToolResult, ContentBlock, Implementation, ServerCapabilities, ServerConfig},
    tool, tool_handler, tool_router,
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    database::{Database, Kind},
    failure::Failure,
};

/// The MCP server; cheap to clone, as rmcp wants one for every request.
#[derive(Clone, Debug)]
pub(crate) struct Sql {
    database: Arc<Database>,
    tools: Arc<ToolRouter<Self>>,
}

impl Sql {
    pub(crate) fn new(database: Arc<Database>) -> Self {
        Self { database, tools: Arc::new(Self::tools()) }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
struct DescribeTable {
    /// The table, as list_tables names it.
    table: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Query {
    /// One SELECT statement.
    sql: String,
}

#[tool_router(router = tools)]
impl Sql {
    /// Lists the tables and views of the database, one a line.
    #[tool(annotations(
        title = "List tables",
        read_only_hint = true,
        destructive_hint = false,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn list_tables(&self) -> CallToolResult {
        result(self.database.list_tables().await)
    }

    /// Describes a table: each column's name, its type, and whether it may be null.
    #[tool(annotations(
        title = "Describe a table",
        read_only_hint = true,
        destructive_hint = false,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn describe_table(
        &self,
        Parameters(DescribeTable { table }): Parameters<DescribeTable>,
    ) -> CallToolResult {
        result(self.database.describe_table(&table).await)
    }

    /// Runs one SELECT statement, read-only, and gives its rows as text. Long answers are cut.
    #[tool(annotations(
        title = "Query",
        read_only_hint = true,
        destructive_hint = false,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn query(&self, Parameters(Query { sql }): Parameters<Query>) -> CallToolResult {
        result(self.database.query(sql).await)
    }
}

#[tool_handler(router = self.tools)]
impl ServerHandler for Sql {
    fn get_info(&self) -> ServerConfig {
        let database = match self.database.kind() {
            Kind::Postgres => "PostgreSQL",
            Kind::Sqlite => "SQLite",
        };
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new(
                env!("CARGO_PKG_NAME"),
                env!("CARGO_PKG_VERSION"),
            ))
            .with_instructions(format!(
                "Answers questions about a {database} database, which can be read but not changed."
            ))
    }
}

fn result(answer: Result<String, Failure>) -> CallToolResult {
    match answer {
        Ok(text) => CallToolResult::success(vec![ContentBlock::text(text)]),
        Err(failure) => CallToolResult::error(vec![ContentBlock::text(failure.to_string())]),
    }
}
