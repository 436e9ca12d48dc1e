//! What the tools say about themselves.

use rmcp::model::{CacheScope, JsonObject, ListToolsResult, Tool};
use serde_json::{Value, json};

use crate::{
    server::TTL_MS,
    tasks::{self, Support},
};

/// A change of the list shows in what `test_changing_tool` says of itself. Those that have to become tasks are
/// for the modern era only.
pub(crate) fn list(version: u64, modern: bool) -> ListToolsResult {
    let mut tools: Vec<Tool> =
        PLAIN.iter().map(|&(name, about)| tool(name, about, json!({}), &[])).collect();
    tools.extend(with_arguments());
    tools.push(schema_2020_12());
    let changing = format!("Version {version} of what the list says of this tool.");
    tools.push(Tool::new("test_changing_tool", changing, object(json!({ "type": "object" }))));
    tools.retain(|tool| modern || tasks::support(&tool.name) != Some(Support::Required));
    ListToolsResult::with_all_items(tools).with_ttl_ms(TTL_MS).with_cache_scope(CacheScope::Public)
}

/// A tool whose arguments travel in headers too.
pub(crate) fn find(name: &str) -> Option<Tool> {
    (name == "test_custom_headers").then(custom_headers)
}

fn with_arguments() -> Vec<Tool> {
    let string = |about: &str| json!({ "type": "string", "description": about });
    vec![
        tool(
            "test_sampling",
            "Asks the client's model.",
            json!({ "prompt": string("What to ask.") }),
            &["prompt"],
        ),
        tool(
            "test_elicitation",
            "Asks the user for a name and an address.",
            json!({ "message": string("What the user reads.") }),
            &["message"],
        ),
        tool(
            "test_trigger_resource_update",
            "Tells those who watch a resource that it changed.",
            json!({ "uri": string("Which one; test://watched-resource without this.") }),
            &[],
        ),
        tool("greet", "Says hello.", json!({ "name": string("To whom.") }), &["name"]),
        tool(
            "slow_compute",
            "Takes its time, as a task if the client knows tasks.",
            json!({
                "seconds": { "type": "number", "minimum": 0, "maximum": 600 },
                "label": string("What the result is called."),
            }),
            &[],
        ),
        tool(
            "confirm_delete",
            "Asks the user in the middle of a task.",
            json!({ "filename": string("What would be deleted.") }),
            &[],
        ),
        custom_headers(),
    ]
}

fn custom_headers() -> Tool {
    tool(
        "test_custom_headers",
        "Repeats its arguments, which travel in headers too.",
        json!({
            "value": { "type": "string", "x-mcp-header": "Value" },
            "count": { "type": "integer", "x-mcp-header": "Count" },
            "flag": { "type": "boolean", "x-mcp-header": "Flag" },
        }),
        &["value"],
    )
}

/// A schema with what JSON Schema 2020-12 has and a model of tools easily loses.
fn schema_2020_12() -> Tool {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "address",
                "type": "object",
                "properties": { "street": { "type": "string" }, "city": { "type": "string" } },
            },
        },
        "properties": {
            "name": { "type": "string" },
            "address": { "$ref": "#/$defs/address" },
            "country": { "type": "string" },
        },
        "allOf": [{ "anyOf": [{ "required": ["name"] }, { "required": ["address"] }] }],
        "if": { "required": ["address"] },
        "then": { "required": ["country"] },
        "else": { "required": ["name"] },
        "additionalProperties": false,
    });
    Tool::new("json_schema_2020_12_tool", "Repeats its arguments.", object(schema))
}

fn tool(name: &'static str, about: &'static str, properties: Value, required: &[&str]) -> Tool {
    let mut schema = object(json!({ "type": "object" }));
    schema.insert("properties".to_owned(), properties);
    if !required.is_empty() {
        schema.insert("required".to_owned(), json!(required));
    }
    Tool::new(name, about, schema)
}

fn object(value: Value) -> JsonObject {
    match value {
        Value::Object(object) => object,
        _ => JsonObject::new(),
    }
}

/// Tools without arguments.
const PLAIN: &[(&str, &str)] = &[
    ("test_simple_text", "Answers with a text."),
    ("test_image_content", "Answers with an image."),
    ("test_audio_content", "Answers with a sound."),
    ("test_embedded_resource", "Answers with a resource."),
    ("test_multiple_content_types", "Answers with a text, an image and a resource."),
    ("test_error_handling", "Answers with an error."),
    ("test_tool_with_logging", "Writes three messages at level info."),
    ("test_logging_tool", "Writes one message at level error."),
    ("test_tool_with_progress", "Reports progress three times."),
    ("test_reconnection", "Answers on a stream that the client has to open anew."),
    ("test_missing_capability", "Works only for clients that offer sampling."),
    ("test_trigger_tool_change", "Changes the list of tools and tells of it."),
    ("test_trigger_prompt_change", "Changes the list of prompts and tells of it."),
    ("test_trigger_resource_change", "Changes the list of resources and tells of it."),
    ("test_elicitation_sep1034_defaults", "Asks with a default for each kind of field."),
    ("test_elicitation_sep1330_enums", "Asks with each kind of list to choose from."),
    ("test_streaming_elicitation", "Asks the user for a value."),
    ("test_input_required_result_elicitation", "Asks the user for a name."),
    ("test_input_required_result_sampling", "Asks the client's model for a capital."),
    ("test_input_required_result_list_roots", "Asks the client for its roots."),
    ("test_input_required_result_request_state", "Asks, and knows again what it has asked."),
    ("test_input_required_result_tampered_state", "Asks, and sees when its state was changed."),
    (
        "test_input_required_result_multiple_inputs",
        "Asks for a name, a greeting and roots at once.",
    ),
    (
        "test_input_required_result_multi_round",
        "Asks twice, the second time with the first answer.",
    ),
    ("test_input_required_result_capabilities", "Asks for what the client declares to offer."),
    ("failing_job", "Is a task that fails."),
    ("protocol_error_job", "Is a task that breaks."),
    ("multi_input", "Is a task that asks two things at once."),
    ("test_tool_with_task", "Asks for a name, then is a task."),
];
