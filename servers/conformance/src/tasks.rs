//! Tools that may outlast their call: the tasks extension of the modern era.

use std::time::Duration;

use rmcp::{
    ErrorData, RoleServer,
    model::{
        CallToolResponse, CallToolResult, ClientCapabilities, ContentBlock, CreateTaskResult,
        InputRequests, InputRequiredResult, JsonObject,
    },
    service::RequestContext,
    task_manager::{TaskContext, TaskExit, TaskManager, TaskOptions},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    era,
    input::{self, Call},
};

/// How a tool stands to tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Support {
    /// It answers at once.
    Never,
    /// It becomes a task if the client knows what that is.
    Optional,
    /// It cannot answer in any other way.
    Required,
}

/// The tools of this module.
pub(crate) fn support(name: &str) -> Option<Support> {
    match name {
        "greet" => Some(Support::Never),
        "slow_compute" => Some(Support::Optional),
        "failing_job"
        | "protocol_error_job"
        | "confirm_delete"
        | "multi_input"
        | "test_tool_with_task" => Some(Support::Required),
        _ => None,
    }
}

pub(crate) async fn call(
    call: &Call,
    tasks: &TaskManager,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let as_task = era::is_modern(context)
        && context.client_capabilities().is_some_and(|client| client.supports_tasks());
    if support(&call.name) == Some(Support::Required) && !as_task {
        let required = ClientCapabilities::builder().enable_tasks().build();
        return Err(ErrorData::missing_required_client_capability(required));
    }
    match call.name.as_str() {
        "greet" => {
            Ok(text(format!("Hello, {}!", argument(&call.arguments, "name", "friend"))).into())
        }
        "slow_compute" => slow_compute(call, as_task.then_some(tasks), context).await,
        "failing_job" => Ok(spawn(tasks, |_| async {
            sleep(JOB).await;
            let message = "This job fails, as it is meant to.";
            Ok(CallToolResult::error(vec![ContentBlock::text(message)]))
        })),
        "protocol_error_job" => Ok(spawn(tasks, |_| async {
            sleep(JOB).await;
            let error = ErrorData::internal_error("this job breaks, as it is meant to", None);
            Err(TaskExit::Error(error))
        })),
        "confirm_delete" => Ok(confirm_delete(call, tasks)),
        "multi_input" => Ok(spawn(tasks, |task| async move {
            let (first, second) = tokio::join!(value(&task, "input-a"), value(&task, "input-b"));
            Ok(text(format!("Got {} and {}.", first?, second?)))
        })),
        _ => greet_later(call, tasks),
    }
}

async fn slow_compute(
    call: &Call,
    tasks: Option<&TaskManager>,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    let seconds = call.arguments.get("seconds").and_then(Value::as_f64).unwrap_or(1.0);
    if !(0.0..=LONGEST).contains(&seconds) {
        let message = format!("Ask for 0 to {LONGEST} seconds.");
        return Ok(CallToolResult::error(vec![ContentBlock::text(message)]).into());
    }
    let label = argument(&call.arguments, "label", "the computation");
    let (time, result) =
        (Duration::from_secs_f64(seconds), text(format!("{label} took {seconds} seconds.")));
    if let Some(tasks) = tasks {
        return Ok(spawn(tasks, move |task| async move {
            tokio::select! {
                () = task.cancelled() => Err(TaskExit::Cancelled),
                () = sleep(time) => Ok(result),
            }
        }));
    }
    tokio::select! {
        () = context.ct.cancelled() => Err(ErrorData::internal_error("cancelled", None)),
        () = sleep(time) => Ok(result.into()),
    }
}

fn confirm_delete(call: &Call, tasks: &TaskManager) -> CallToolResponse {
    let file = argument(&call.arguments, "filename", "the file");
    spawn(tasks, move |task| async move {
        let fields = json!({ "confirm": { "type": "boolean" } });
        let question = input::form(&format!("Delete {file}?"), fields, &["confirm"])?;
        let answer = task.request_input("confirm", question).await?;
        let confirmed = answer.pointer("/content/confirm") == Some(&Value::Bool(true));
        Ok(text(format!("{file} {}", if confirmed { "would be gone." } else { "stays." })))
    })
}

/// Asks for a name before there is a task, as any tool may.
fn greet_later(call: &Call, tasks: &TaskManager) -> Result<CallToolResponse, ErrorData> {
    let Some(answer) = call.responses.get("user_name").filter(|answer| answer.is_object()) else {
        let fields = json!({ "name": { "type": "string" } });
        let question = input::form("What is your name?", fields, &["name"])?;
        let requests = InputRequests::from([("user_name".to_owned(), question)]);
        return Ok(InputRequiredResult::from_input_requests(requests).into());
    };
    let name =
        answer.pointer("/content/name").and_then(Value::as_str).unwrap_or("friend").to_owned();
    Ok(spawn(tasks, |_| async move {
        sleep(JOB).await;
        Ok(text(format!("Hello, {name}!")))
    }))
}

async fn value(task: &TaskContext, key: &str) -> Result<String, TaskExit> {
    let fields = json!({ "value": { "type": "string" } });
    let question = input::form(&format!("Please give {key}."), fields, &["value"])?;
    let answer = task.request_input(key, question).await?;
    Ok(answer.pointer("/content/value").and_then(Value::as_str).unwrap_or("nothing").to_owned())
}

fn spawn<F, W>(tasks: &TaskManager, work: F) -> CallToolResponse
where
    F: FnOnce(TaskContext) -> W,
    W: Future<Output = Result<CallToolResult, TaskExit>> + Send + 'static,
{
    let options = TaskOptions::default().with_poll_interval_ms(POLL_MS);
    CreateTaskResult::new(tasks.spawn(options, |task| Box::pin(work(task)))).into()
}

fn argument(arguments: &JsonObject, name: &str, default: &str) -> String {
    arguments.get(name).and_then(Value::as_str).unwrap_or(default).to_owned()
}

fn text(text: String) -> CallToolResult {
    CallToolResult::success(vec![ContentBlock::text(text)])
}

/// How long a job takes: long enough to be seen at work.
const JOB: Duration = Duration::from_millis(500);

/// Often enough for tests.
const POLL_MS: u64 = 200;

/// In seconds; ten minutes outlast any timeout worth a test.
const LONGEST: f64 = 600.0;
