//! The Messages API as far as Claude Code uses it: what it asks, and answers streamed or whole.

use axum::{body::Body, http::Response, response::IntoResponse as _};
use serde_json::{Value, json};

use super::PROMPT;

/// One request of the conversation.
#[derive(Clone, Debug)]
pub struct Request {
    /// The names of the tools the model may use.
    pub tools: Vec<String>,
    /// What the tools answered so far, the oldest first.
    pub results: Vec<ToolResult>,
}

/// What a tool answered, as the model reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolResult {
    /// The texts of the answer, one a line.
    pub text: String,
    /// Whether the client or the server calls it an error.
    pub is_error: bool,
}

impl Request {
    /// Reads a request, unless it is one beside the conversation: without tools, or without the prompt.
    pub(super) fn of_conversation(body: &Value) -> Option<Self> {
        let tools = body["tools"].as_array().filter(|tools| !tools.is_empty())?;
        let blocks: Vec<&Value> = list(&body["messages"])
            .filter(|message| message["role"] == "user")
            .flat_map(|message| match &message["content"] {
                text @ Value::String(_) => vec![text],
                blocks => list(blocks).collect(),
            })
            .collect();
        let texts =
            |block: &&Value| block.as_str().or_else(|| block["text"].as_str()).map(str::to_owned);
        if !blocks.iter().filter_map(texts).any(|text| text.contains(PROMPT)) {
            return None;
        }

        Some(Self {
            tools: tools
                .iter()
                .filter_map(|tool| tool["name"].as_str().map(str::to_owned))
                .collect(),
            results: blocks.into_iter().filter_map(ToolResult::parse).collect(),
        })
    }
}

impl ToolResult {
    /// Reads a content block of a user message.
    pub(crate) fn parse(block: &Value) -> Option<Self> {
        let content = (block["type"] == "tool_result").then(|| &block["content"])?;
        let text = match content {
            Value::String(text) => text.clone(),
            blocks => list(blocks)
                .filter_map(|block| block["text"].as_str())
                .collect::<Vec<_>>()
                .join("\n"),
        };

        Some(Self { text, is_error: block["is_error"] == true })
    }
}

/// An answer that ends the turn with a text.
pub(super) fn text(text: &str, request: &Value) -> Response<Body> {
    let block = json!({"type": "text", "text": text});
    let opening = json!({"type": "text", "text": ""});
    let delta = json!({"type": "text_delta", "text": text});
    answer("end_turn", &block, &opening, &delta, request)
}

/// An answer that uses a tool.
pub(super) fn tool_use(step: usize, name: &str, input: &Value, request: &Value) -> Response<Body> {
    let id = format!("toolu_{step:04}");
    let block = json!({"type": "tool_use", "id": id, "name": name, "input": input});
    let opening = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
    let delta = json!({"type": "input_json_delta", "partial_json": input.to_string()});
    answer("tool_use", &block, &opening, &delta, request)
}

fn answer(
    stop_reason: &str,
    block: &Value,
    opening: &Value,
    delta: &Value,
    request: &Value,
) -> Response<Body> {
    let usage = json!({"input_tokens": 1, "output_tokens": 1});
    let message = |content: Value, stop_reason: Value| {
        json!({
            "id": "msg_stub", "type": "message", "role": "assistant", "model": request["model"],
            "content": content, "stop_reason": stop_reason, "stop_sequence": null, "usage": usage,
        })
    };
    if request["stream"] != true {
        let body = message(json!([block]), json!(stop_reason)).to_string();
        return ([("content-type", "application/json")], body).into_response();
    }

    let events = [
        json!({"type": "message_start", "message": message(json!([]), Value::Null)}),
        json!({"type": "content_block_start", "index": 0, "content_block": opening}),
        json!({"type": "content_block_delta", "index": 0, "delta": delta}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({
            "type": "message_delta", "usage": usage,
            "delta": {"stop_reason": stop_reason, "stop_sequence": null},
        }),
        json!({"type": "message_stop"}),
    ];
    let body = events.iter().fold(String::new(), |body, event| {
        let name = event["type"].as_str().unwrap_or_default();
        body + &format!("event: {name}\ndata: {event}\n\n")
    });
    ([("content-type", "text/event-stream")], body).into_response()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
