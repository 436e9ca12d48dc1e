//! The prompts.

use rmcp::{
    ErrorData,
    model::{
        CacheScope, ContentBlock, GetPromptResult, JsonObject, ListPromptsResult, Prompt,
        PromptArgument, PromptMessage, ResourceContents, Role,
    },
};
use serde_json::Value;

use crate::{server::TTL_MS, tools::RED_PIXEL};

/// A change of the list shows in what the last prompt says of itself.
pub(crate) fn list(version: u64) -> ListPromptsResult {
    let argument = |name: &str, about: &str| {
        PromptArgument::new(name).with_description(about).with_required(true)
    };
    let changing = format!("Version {version} of what the list says of this prompt.");
    let prompts = vec![
        Prompt::new("test_simple_prompt", Some("A prompt of one sentence."), None),
        Prompt::new(
            "test_prompt_with_arguments",
            Some("A prompt that repeats its arguments."),
            Some(vec![
                argument("arg1", "The first argument."),
                argument("arg2", "The second one."),
            ]),
        ),
        Prompt::new(
            "test_prompt_with_embedded_resource",
            Some("A prompt with a resource in it."),
            Some(vec![argument("resourceUri", "The URI of the resource.")]),
        ),
        Prompt::new("test_prompt_with_image", Some("A prompt with an image in it."), None),
        Prompt::new(
            "test_input_required_result_prompt",
            Some("A prompt that asks the user what it is about."),
            None,
        ),
        Prompt::new("test_changing_prompt", Some(changing), None),
    ];
    ListPromptsResult::with_all_items(prompts)
        .with_ttl_ms(TTL_MS)
        .with_cache_scope(CacheScope::Public)
}

/// The prompts that need no input; see [`crate::input::prompt`] for the other.
pub(crate) fn get(name: &str, arguments: &JsonObject) -> Result<GetPromptResult, ErrorData> {
    let text = |text: &str| PromptMessage::new_text(Role::User, text);
    let messages = match name {
        "test_simple_prompt" => vec![text("This is a simple prompt for testing.")],
        "test_prompt_with_arguments" => {
            let (first, second) = (required(arguments, "arg1")?, required(arguments, "arg2")?);
            vec![text(&format!("Prompt with arguments: arg1='{first}', arg2='{second}'"))]
        }
        "test_prompt_with_embedded_resource" => {
            let uri = required(arguments, "resourceUri")?;
            let contents = ResourceContents::text("Embedded resource content for testing.", uri);
            vec![
                PromptMessage::new(Role::User, ContentBlock::resource(contents)),
                text("Please process the embedded resource above."),
            ]
        }
        "test_prompt_with_image" => vec![
            PromptMessage::new(Role::User, ContentBlock::image(RED_PIXEL, "image/png")),
            text("Please analyze the image above."),
        ],
        "test_changing_prompt" => vec![text("The list changes, this does not.")],
        _ => return Err(ErrorData::invalid_params(format!("there is no prompt {name}"), None)),
    };
    Ok(GetPromptResult::new(messages))
}

fn required<'a>(arguments: &'a JsonObject, name: &str) -> Result<&'a str, ErrorData> {
    let value = arguments.get(name).and_then(Value::as_str);
    value.ok_or_else(|| ErrorData::invalid_params(format!("the argument {name} is missing"), None))
}
