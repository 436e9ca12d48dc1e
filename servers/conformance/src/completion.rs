//! Completions of the arguments of prompts and of resource templates.

use rmcp::{
    ErrorData,
    model::{CompleteRequestParams, CompleteResult, CompletionInfo, Reference},
};

/// The values that begin with what was typed.
pub(crate) fn complete(request: &CompleteRequestParams) -> Result<CompleteResult, ErrorData> {
    let known: &[&str] = match (&request.r#ref, request.argument.name.as_str()) {
        (Reference::Prompt(prompt), "arg1") if prompt.name == "test_prompt_with_arguments" => {
            &["paris", "park", "party", "test"]
        }
        (Reference::Prompt(prompt), "arg2") if prompt.name == "test_prompt_with_arguments" => {
            &["test", "world"]
        }
        (Reference::Resource(resource), "id") if resource.uri == "test://template/{id}/data" => {
            &["1", "12", "123"]
        }
        _ => &[],
    };
    let typed = request.argument.value.as_str();
    let values =
        known.iter().filter(|value| value.starts_with(typed)).map(|&value| value.to_owned());
    CompletionInfo::with_all_values(values.collect())
        .map(CompleteResult::new)
        .map_err(|error| ErrorData::internal_error(error, None))
}
