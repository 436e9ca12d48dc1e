//! The tools and what they say about themselves.

use std::sync::Arc;

use rmcp::{
    ErrorData, ServerHandler,
    handler::server::{router::tool::ToolRouter, wrapper::Parameters},
    model::{CallToolResult, ContentBlock, Implementation, ServerCapabilities, ServerConfig},
    tool, tool_handler, tool_router,
};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::task::spawn_blocking;

use crate::root::{Refusal, Root};

/// The MCP server; cheap to clone, as rmcp wants one for every request.
#[derive(Clone, Debug)]
pub(crate) struct Filesystem {
    root: Arc<Root>,
    tools: Arc<ToolRouter<Self>>,
}

impl Filesystem {
    pub(crate) fn new(root: Root) -> Self {
        Self { root: Arc::new(root), tools: Arc::new(Self::tools()) }
    }

    /// Runs the work where it may block. An error here is a bug of ours, not the caller's.
    async fn on_root<F>(&self, work: F) -> Result<CallToolResult, ErrorData>
    where
        F: FnOnce(&Root) -> Result<String, Refusal> + Send + 'static,
    {
        let root = Arc::clone(&self.root);
        let result = spawn_blocking(move || work(&root))
            .await
            .map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        Ok(match result {
            Ok(text) => CallToolResult::success(vec![ContentBlock::text(text)]),
            Err(refusal) => CallToolResult::error(vec![ContentBlock::text(refusal.to_string())]),
        })
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ListFiles {
    /// The directory, relative to the root; the root itself if left out.
    #[serde(default = "root_path")]
    path: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct ReadFile {
    /// The file, relative to the root, for example notes/today.txt.
    path: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct WriteFile {
    /// The file, relative to the root, for example notes/today.txt.
    path: String,
    /// The whole new content, at most 1 MiB.
    content: String,
}

#[tool_router(router = tools)]
impl Filesystem {
    /// Lists a directory: directories first, marked [DIR], then files, at most 1,000 of them.
    #[tool(annotations(
        title = "List files",
        read_only_hint = true,
        destructive_hint = false,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn list_files(
        &self,
        Parameters(ListFiles { path }): Parameters<ListFiles>,
    ) -> Result<CallToolResult, ErrorData> {
        self.on_root(move |root| root.list(&path)).await
    }

    /// Reads a text file (UTF-8); of one over 1 MiB, the first 1 MiB.
    #[tool(annotations(
        title = "Read a file",
        read_only_hint = true,
        destructive_hint = false,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn read_file(
        &self,
        Parameters(ReadFile { path }): Parameters<ReadFile>,
    ) -> Result<CallToolResult, ErrorData> {
        self.on_root(move |root| root.read(&path)).await
    }

    /// Writes a text file in place of what it held; makes it and its directories if need be.
    #[tool(annotations(
        title = "Write a file",
        read_only_hint = false,
        destructive_hint = true,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn write_file(
        &self,
        Parameters(WriteFile { path, content }): Parameters<WriteFile>,
    ) -> Result<CallToolResult, ErrorData> {
        self.on_root(move |root| {
            root.write(&path, &content)?;
            Ok(format!("Wrote to {path}"))
        })
        .await
    }
}

#[tool_handler(router = self.tools)]
impl ServerHandler for Filesystem {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new(
                env!("CARGO_PKG_NAME"),
                env!("CARGO_PKG_VERSION"),
            ))
            .with_instructions("Text files under one root. All paths are relative to it.")
    }
}

fn root_path() -> String {
    ".".to_owned()
}
