//! The tools: what they say about themselves, and those that need nothing from the client.

mod catalog;
mod content;

use std::time::Duration;

use rmcp::{
    ErrorData, RoleServer,
    model::{
        CallToolResponse, CallToolResult, ClientCapabilities, ContentBlock, JsonObject,
        ProgressNotificationParam,
    },
    service::RequestContext,
};
use serde_json::Value;
use tokio::time::sleep;

use crate::{
    audience::Change,
    input::{self, Call, Outcome},
    logging::log,
    resources::WATCHED,
    server::Conformance,
    tasks,
};

pub(crate) use catalog::{find, list};
pub(crate) use content::RED_PIXEL;

pub(crate) async fn call(
    server: &Conformance,
    call: Call,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    if let Some(flow) = input::tool(&call.name) {
        return Ok(match input::run(flow, call, &server.shared.seal, context).await? {
            Outcome::Complete(result) => result.into(),
            Outcome::InputRequired(questions) => questions.into(),
        });
    }
    if tasks::support(&call.name).is_some() {
        return tasks::call(&call, &server.shared.tasks, context).await;
    }
    if let Some(result) = content::of(&call.name) {
        return Ok(result.into());
    }
    let text = match call.name.as_str() {
        "test_tool_with_logging" => log_steps(server, context).await,
        "test_logging_tool" => log_once(server, context).await,
        "test_tool_with_progress" => report_progress(context).await,
        "test_reconnection" => wait_for_reconnection().await,
        "test_custom_headers" | "json_schema_2020_12_tool" => repeat(&call.arguments),
        "test_missing_capability" => need_sampling(context)?,
        "test_trigger_tool_change" => server.change(Change::Tools).await,
        "test_trigger_prompt_change" => server.change(Change::Prompts).await,
        "test_trigger_resource_change" => server.change(Change::Resources).await,
        "test_trigger_resource_update" => {
            let uri = call.arguments.get("uri").and_then(Value::as_str).unwrap_or(WATCHED);
            server.change(Change::Resource(uri.to_owned())).await
        }
        name => return Err(ErrorData::invalid_params(format!("there is no tool {name}"), None)),
    };
    Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
}

#[expect(deprecated, reason = "logging is what is served here")]
async fn log_steps(server: &Conformance, context: &RequestContext<RoleServer>) -> String {
    use rmcp::model::LoggingLevel::Info;

    for (wait, text) in [
        (Duration::ZERO, "Tool execution started"),
        (STEP, "Tool processing data"),
        (STEP, "Tool execution completed"),
    ] {
        sleep(wait).await;
        log(Info, text, &server.session, context).await;
    }
    "Three messages at level info were written.".to_owned()
}

#[expect(deprecated, reason = "logging is what is served here")]
async fn log_once(server: &Conformance, context: &RequestContext<RoleServer>) -> String {
    use rmcp::model::LoggingLevel::Error;

    log(Error, "This is written for those who want to read it.", &server.session, context).await;
    "A message at level error was written.".to_owned()
}

async fn report_progress(context: &RequestContext<RoleServer>) -> String {
    let Some(token) = context.meta.get_progress_token() else {
        return "Nobody asked for progress.".to_owned();
    };
    for percent in [0, 50, 100] {
        let progress = ProgressNotificationParam::new(token.clone(), f64::from(percent))
            .with_total(100.0)
            .with_message(format!("{percent} percent"));
        if let Err(error) = context.peer.notify_progress(progress).await {
            tracing::debug!(%error, "nobody hears of the progress any more");
        }
        sleep(STEP).await;
    }
    "Done, with progress.".to_owned()
}

async fn wait_for_reconnection() -> String {
    sleep(STEP).await;
    "Reconnected, if that was needed.".to_owned()
}

/// The arguments, so that a test sees what came through.
fn repeat(arguments: &JsonObject) -> String {
    Value::Object(arguments.clone()).to_string()
}

fn need_sampling(context: &RequestContext<RoleServer>) -> Result<String, ErrorData> {
    if context.client_capabilities().is_some_and(|client| client.sampling.is_some()) {
        return Ok("The client offers sampling.".to_owned());
    }
    let mut missing = ClientCapabilities::default();
    missing.sampling = Some(<_>::default());
    Err(ErrorData::missing_required_client_capability(missing))
}

/// Long enough for a client to see one thing after the other.
const STEP: Duration = Duration::from_millis(50);
