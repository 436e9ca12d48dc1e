//! The tools and what they say about themselves.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use rmcp::{
    RoleServer, ServerHandler,
    handler::server::{router::tool::ToolRouter, wrapper::Parameters},
    model::{
        CallToolResult, ContentBlock, Implementation, ProgressNotificationParam,
        ServerCapabilities, ServerConfig,
    },
    service::RequestContext,
    tool, tool_handler, tool_router,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Number;
use tokio::time::sleep;

use crate::sum;

/// The MCP server; cheap to clone, as rmcp wants one for every request.
#[derive(Clone, Debug)]
pub(crate) struct Everything {
    tools: Arc<ToolRouter<Self>>,
}

impl Everything {
    pub(crate) fn new(slow_tools: bool) -> Self {
        let mut tools = Self::tools();
        if slow_tools {
            tools.merge(Self::slow_tools());
        }
        Self { tools: Arc::new(tools) }
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Echo {
    /// The text to send back.
    message: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Add {
    /// The first number.
    a: Number,
    /// The second number.
    b: Number,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Slow {
    /// How long the whole call takes, at most 600.
    #[schemars(range(min = 0.0, max = 600.0))]
    seconds: f64,
    /// In how many steps of equal length, at most 1000.
    #[schemars(range(min = 1, max = 1000))]
    steps: u32,
}

#[tool_router(router = tools)]
impl Everything {
    /// Sends the message back unchanged.
    #[tool(annotations(
        title = "Echo",
        read_only_hint = true,
        destructive_hint = false,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn echo(&self, Parameters(Echo { message }): Parameters<Echo>) -> String {
        message
    }

    /// Tells the current time in UTC, in ISO 8601, for example 2026-11-21T09:30:00.25Z.
    #[tool(annotations(
        title = "Current time",
        read_only_hint = true,
        destructive_hint = false,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn get_time(&self) -> String {
        Timestamp::now().to_string()
    }

    /// Adds two numbers.
    #[tool(annotations(
        title = "Add",
        read_only_hint = true,
        destructive_hint = false,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn add(&self, Parameters(Add { a, b }): Parameters<Add>) -> CallToolResult {
        match sum::add(&a, &b) {
            Some(sum) => CallToolResult::success(vec![ContentBlock::text(sum)]),
            None => failure("The sum is too large for a number. Use smaller numbers."),
        }
    }
}

#[tool_router(router = slow_tools)]
impl Everything {
    /// Waits for the given time in equal steps and reports progress after each of them.
    #[tool(annotations(
        title = "Slow",
        read_only_hint = true,
        destructive_hint = false,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn slow(
        &self,
        Parameters(Slow { seconds, steps }): Parameters<Slow>,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        if !(0.0..=LONGEST_SLOW_CALL).contains(&seconds) || !(1..=MOST_STEPS).contains(&steps) {
            return failure("Ask for 0 to 600 seconds in 1 to 1000 steps.");
        }
        tokio::select! {
            biased;
            () = context.ct.cancelled() => {
                tracing::info!("slow call cancelled");
                failure("The call was cancelled.")
            }
            () = step_through(seconds, steps, &context) => {
                let text = format!("Took {seconds} seconds in {steps} steps");
                CallToolResult::success(vec![ContentBlock::text(text)])
            }
        }
    }
}

#[tool_handler(router = self.tools)]
impl ServerHandler for Everything {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new(
                env!("CARGO_PKG_NAME"),
                env!("CARGO_PKG_VERSION"),
            ))
            .with_instructions("Small tools to try a client or a gateway with.")
    }
}

/// Progress starts at zero, so that a client hears of a long first step at once.
async fn step_through(seconds: f64, steps: u32, context: &RequestContext<RoleServer>) {
    let token = context.meta.get_progress_token();
    for done in 0..=steps {
        if done > 0 {
            sleep(Duration::from_secs_f64(seconds / f64::from(steps))).await;
        }
        if let Some(token) = token.clone() {
            let progress = ProgressNotificationParam::new(token, f64::from(done))
                .with_total(f64::from(steps))
                .with_message(format!("{done} of {steps} steps"));
            if context.peer.notify_progress(progress).await.is_err() {
                tracing::debug!("nobody listens to the progress any more");
            }
        }
    }
}

fn failure(message: &str) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(message)])
}

/// In seconds. Ten minutes outlast any timeout worth a test.
const LONGEST_SLOW_CALL: f64 = 600.0;

/// Keeps one call from sending an endless stream of notifications.
const MOST_STEPS: u32 = 1000;
