//! Where the ids of tasks stand, in the tasks of 2025-11-25 and in the extension
//! `io.modelcontextprotocol/tasks` (SEP-2663). Performs no I/O.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::json::Json;

use crate::object::{elements, member};
use crate::result::{ResultType, result_type};

/// The extension's name in capabilities.
pub const EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// The capabilities, as JSON, of a client that knows the extension.
pub fn capability() -> String {
    format!(r#"{{"extensions":{{"{EXTENSION}":{{}}}}}}"#)
}

/// In `_meta` of any message of 2025-11-25 that belongs to a task.
pub const RELATED_TASK: &str = "io.modelcontextprotocol/related-task";

/// All raw task ids in the params of a message with this method.
pub fn in_params<'a>(method: &str, params: Option<Json<'a>>) -> Vec<Json<'a>> {
    let Some(text) = mentioned(params) else { return Vec::new() };
    let mut ids = Vec::new();
    match method {
        "tasks/get"
        | "tasks/update"
        | "tasks/cancel"
        | "tasks/result"
        | "notifications/tasks"
        | "notifications/tasks/status" => ids.extend(member(text, "taskId")),
        "subscriptions/listen" | "notifications/subscriptions/acknowledged" => {
            let all = member(text, "notifications").and_then(|filter| member(filter, "taskIds"));
            ids.extend(all.into_iter().flat_map(elements));
        }
        _ => {}
    }
    with_related(ids, text)
}

/// All raw task ids in the `result` of a request with this method.
pub fn in_result<'a>(method: &str, result: Json<'a>) -> Vec<Json<'a>> {
    let Some(text) = mentioned(Some(result)) else { return Vec::new() };
    let mut ids = Vec::new();
    match method {
        "tasks/get" | "tasks/cancel" | "tasks/update" => ids.extend(member(text, "taskId")),
        "tasks/list" => {
            let tasks = member(text, "tasks").into_iter().flat_map(elements);
            ids.extend(tasks.filter_map(|task| member(task, "taskId")));
        }
        // The result of the call that the task was made for: its `taskId` would be its own.
        "tasks/result" => {}
        _ if result_type(result) == ResultType::Task => ids.extend(member(text, "taskId")),
        _ => ids.extend(member(text, "task").and_then(|task| member(task, "taskId"))),
    }
    with_related(ids, text)
}

/// The text, if a key could be a task's id or its plural: one search.
fn mentioned(value: Option<Json<'_>>) -> Option<&str> {
    static KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"taskId"));
    let text = value?.get();
    KEY.find(text.as_bytes()).map(|_| text)
}

fn with_related<'a>(mut ids: Vec<&'a str>, text: &'a str) -> Vec<Json<'a>> {
    let related = member(text, "_meta").and_then(|meta| member(meta, RELATED_TASK));
    ids.extend(related.and_then(|task| member(task, "taskId")));
    ids.into_iter().map(Json::part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(ids: Vec<Json<'_>>) -> String {
        ids.into_iter().map(Json::get).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ids_in_params_are_found_in_both_forms() {
        let related =
            r#"{"_meta":{"io.modelcontextprotocol/related-task":{"taskId":"r"}},"taskId":"t"}"#;
        for (method, params, ids) in [
            ("tasks/get", r#"{"taskId":"t"}"#, "\"t\""),
            ("tasks/update", r#"{"inputResponses":{"taskId":"no"},"taskId":"t"}"#, "\"t\""),
            ("tasks/result", r#"{"taskId":"t"}"#, "\"t\""),
            ("notifications/tasks/status", related, "\"t\" \"r\""),
            ("elicitation/create", related, "\"r\""),
            ("tools/call", r#"{"arguments":{"taskId":"no"},"task":{"ttl":1}}"#, ""),
            ("subscriptions/listen", r#"{"notifications":{"taskIds":["a","b"]}}"#, "\"a\" \"b\""),
        ] {
            let params = Some(serde_json::from_str(params).unwrap());
            assert_eq!(found(in_params(method, params)), ids, "{method}");
        }
        assert!(in_params("tasks/get", None).is_empty());
    }

    #[test]
    fn ids_in_results_are_found_in_both_forms() {
        for (method, result, ids) in [
            ("tools/call", r#"{"task":{"taskId":"t"}}"#, "\"t\""),
            ("tools/call", r#"{"resultType":"task","taskId":"t"}"#, "\"t\""),
            ("tools/call", r#"{"content":[],"taskId":"no"}"#, ""),
            ("tasks/get", r#"{"taskId":"t","result":{"taskId":"no"}}"#, "\"t\""),
            ("tasks/list", r#"{"tasks":[{"taskId":"a"},{"taskId":"b"},7]}"#, "\"a\" \"b\""),
            (
                "tasks/result",
                r#"{"taskId":"no","_meta":{"io.modelcontextprotocol/related-task":{"taskId":"r"}}}"#,
                "\"r\"",
            ),
            ("tools/call", "null", ""),
        ] {
            let result = serde_json::from_str(result).unwrap();
            assert_eq!(found(in_result(method, result)), ids, "{method}");
        }
    }
}
