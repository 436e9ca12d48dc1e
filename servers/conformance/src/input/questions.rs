//! The questions that clients are asked.
#![expect(deprecated, reason = "sampling and roots are what is served here")]

use rmcp::{
    ErrorData,
    model::{
        CreateMessageRequest, CreateMessageRequestParams, ElicitRequest, ElicitRequestParams,
        InputRequest, ListRootsRequest, SamplingMessage,
    },
};
use serde_json::{Map, Value, json};

/// A form to fill in.
pub(crate) fn form(
    message: &str,
    properties: Value,
    required: &[&str],
) -> Result<InputRequest, ErrorData> {
    let mut schema = Map::from_iter([
        ("type".to_owned(), json!("object")),
        ("properties".to_owned(), properties),
    ]);
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    let requested_schema = serde_json::from_value(Value::Object(schema))
        .map_err(|error| ErrorData::internal_error(format!("the form: {error}"), None))?;
    let form = ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: message.to_owned(),
        requested_schema,
    };
    Ok(InputRequest::Elicitation(ElicitRequest::new(form)))
}

/// A form of one line of text.
pub(super) fn line(message: &str, name: &str) -> Result<InputRequest, ErrorData> {
    form(message, json!({ name: { "type": "string" } }), &[name])
}

/// Something that the client's model has to say.
pub(super) fn sampling(prompt: &str) -> InputRequest {
    let messages = vec![SamplingMessage::user_text(prompt)];
    InputRequest::CreateMessage(CreateMessageRequest::new(CreateMessageRequestParams::new(
        messages,
        MOST_TOKENS,
    )))
}

/// The client's roots.
pub(super) fn roots() -> InputRequest {
    InputRequest::ListRoots(ListRootsRequest::default())
}

/// A default for each kind of field (SEP-1034).
pub(super) fn defaults() -> Result<InputRequest, ErrorData> {
    let fields = json!({
        "name": { "type": "string", "description": "Your name", "default": "John Doe" },
        "age": { "type": "integer", "description": "Your age", "default": 30 },
        "score": { "type": "number", "description": "Your score", "default": 95.5 },
        "status": {
            "type": "string",
            "description": "Your status",
            "enum": ["active", "inactive", "pending"],
            "default": "active",
        },
        "verified": { "type": "boolean", "description": "Are you verified?", "default": true },
    });
    form("Please look over what is filled in.", fields, &[])
}

/// Each way to choose from a list (SEP-1330).
pub(super) fn choices() -> Result<InputRequest, ErrorData> {
    let titled = |kind: &str| {
        ["First", "Second", "Third"]
            .iter()
            .zip(["value1", "value2", "value3"])
            .map(|(title, value)| json!({ "const": value, "title": format!("{title} {kind}") }))
            .collect::<Vec<_>>()
    };
    let untitled = json!(["option1", "option2", "option3"]);
    let fields = json!({
        "untitledSingle": { "type": "string", "enum": untitled },
        "titledSingle": { "type": "string", "oneOf": titled("Option") },
        "legacyEnum": {
            "type": "string",
            "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"],
        },
        "untitledMulti": { "type": "array", "items": { "type": "string", "enum": untitled } },
        "titledMulti": { "type": "array", "items": { "anyOf": titled("Choice") } },
    });
    form("Please choose.", fields, &[])
}

/// Enough for a sentence.
const MOST_TOKENS: u32 = 100;
