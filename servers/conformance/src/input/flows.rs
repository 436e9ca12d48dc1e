//! The tools and the prompt that need input.

use rmcp::{
    ErrorData,
    model::{
        CallToolResult, ContentBlock, GetPromptResult, InputRequest, InputRequests, JsonObject,
        PromptMessage, Role,
    },
};
use serde_json::{Value, json};

use super::{
    Flow, Known, Step,
    questions::{choices, defaults, form, line, roots, sampling},
};

type Next<T = CallToolResult> = Result<Step<T>, ErrorData>;

/// The flow of a tool that needs input.
pub(crate) fn tool(name: &str) -> Option<Flow<CallToolResult>> {
    Some(match name {
        "test_sampling" => test_sampling,
        "test_elicitation" => test_elicitation,
        "test_elicitation_sep1034_defaults" => test_defaults,
        "test_elicitation_sep1330_enums" => test_choices,
        "test_streaming_elicitation" => test_value,
        "test_input_required_result_elicitation" => user_name,
        "test_input_required_result_sampling" => capital,
        "test_input_required_result_list_roots" => list_roots,
        "test_input_required_result_request_state"
        | "test_input_required_result_tampered_state" => confirm,
        "test_input_required_result_multiple_inputs" => multiple,
        "test_input_required_result_multi_round" => rounds,
        "test_input_required_result_capabilities" => as_declared,
        _ => return None,
    })
}

/// The flow of a prompt that needs input.
pub(crate) fn prompt(name: &str) -> Option<Flow<GetPromptResult>> {
    (name == "test_input_required_result_prompt").then_some(user_context as Flow<GetPromptResult>)
}

fn test_sampling(known: &Known<'_>) -> Next {
    match known.answer("sample") {
        Some(answer) => done(format!("LLM response: {}", said(answer))),
        None => ask([("sample", sampling(known.argument("prompt").unwrap_or("Say hello.")))]),
    }
}

fn test_elicitation(known: &Known<'_>) -> Next {
    let Some(answer) = known.answer("user") else {
        let fields = json!({
            "username": { "type": "string", "description": "User's response" },
            "email": { "type": "string", "description": "User's email address" },
        });
        let message = known.argument("message").unwrap_or("Who are you?");
        return ask([("user", form(message, fields, &["username", "email"])?)]);
    };
    done(format!("User response: {}", filled_in(answer)))
}

fn test_defaults(known: &Known<'_>) -> Next {
    match known.answer("defaults") {
        Some(answer) => done(format!("Elicitation completed: {}", filled_in(answer))),
        None => ask([("defaults", defaults()?)]),
    }
}

fn test_choices(known: &Known<'_>) -> Next {
    match known.answer("choices") {
        Some(answer) => done(format!("Elicitation completed: {}", filled_in(answer))),
        None => ask([("choices", choices()?)]),
    }
}

fn test_value(known: &Known<'_>) -> Next {
    match known.answer("value") {
        Some(answer) => done(format!("Value: {}", filled_in(answer))),
        None => ask([("value", line("Please give a value.", "value")?)]),
    }
}

fn user_name(known: &Known<'_>) -> Next {
    match known.answer("user_name") {
        Some(answer) => done(format!("Hello, {}!", field(answer, "name"))),
        None => ask([("user_name", line("What is your name?", "name")?)]),
    }
}

fn capital(known: &Known<'_>) -> Next {
    match known.answer("capital_question") {
        Some(answer) => done(format!("The model says: {}", said(answer))),
        None => ask([("capital_question", sampling("What is the capital of France?"))]),
    }
}

fn list_roots(known: &Known<'_>) -> Next {
    match known.answer("client_roots") {
        Some(answer) => done(format!("Roots: {}", uris(answer))),
        None => ask([("client_roots", roots())]),
    }
}

fn confirm(known: &Known<'_>) -> Next {
    if known.state.is_some() && known.answer("confirm").is_some() {
        return done("Confirmed: state-ok".to_owned());
    }
    let question = form("Please confirm.", json!({ "ok": { "type": "boolean" } }), &["ok"])?;
    ask_with(json!("confirm"), [("confirm", question)])
}

fn multiple(known: &Known<'_>) -> Next {
    let answers =
        (known.answer("user_name"), known.answer("greeting"), known.answer("client_roots"));
    if let ((Some(name), Some(greeting), Some(roots)), Some(_)) = (answers, known.state) {
        let text = format!("{} to {}, from {}", said(greeting), field(name, "name"), uris(roots));
        return done(text);
    }
    ask_with(
        json!("gather"),
        [
            ("user_name", line("What is your name?", "name")?),
            ("greeting", sampling("Say a greeting.")),
            ("client_roots", roots()),
        ],
    )
}

/// Two rounds; the first one's answer travels in the state.
fn rounds(known: &Known<'_>) -> Next {
    let name = known.state.and_then(|state| state.get("name")).and_then(Value::as_str);
    match (name, known.state, known.answer("step1"), known.answer("step2")) {
        (Some(name), _, _, Some(color)) => done(format!("{name} likes {}.", field(color, "color"))),
        (Some(name), ..) => second_round(name),
        (None, Some(_), Some(answer), _) => second_round(field(answer, "name")),
        (None, ..) => ask_with(json!({}), [("step1", line("Step 1: what is your name?", "name")?)]),
    }
}

fn second_round(name: &str) -> Next {
    let question = line("Step 2: what is your favourite colour?", "color")?;
    ask_with(json!({ "name": name }), [("step2", question)])
}

/// Asks for as much as this client can give.
fn as_declared(known: &Known<'_>) -> Next {
    let mut questions = Vec::new();
    if known.capabilities.elicitation.is_some() {
        questions.push(("user_name", line("What is your name?", "name")?));
    }
    if known.capabilities.sampling.is_some() {
        questions.push(("greeting", sampling("Say a greeting.")));
    }
    if known.capabilities.roots.is_some() {
        questions.push(("client_roots", roots()));
    }
    if questions.iter().all(|(key, _)| known.answer(key).is_some()) {
        let asked: Vec<&str> = questions.iter().map(|(key, _)| *key).collect();
        return done(format!("Answered: [{}]", asked.join(", ")));
    }
    ask(questions)
}

fn user_context(known: &Known<'_>) -> Next<GetPromptResult> {
    let Some(answer) = known.answer("user_context") else {
        let question = line("What is the prompt about?", "context")?;
        return ask([("user_context", question)]);
    };
    let text = format!("Let us talk about {}.", field(answer, "context"));
    Ok(Step::Done(GetPromptResult::new(vec![PromptMessage::new_text(Role::User, text)])))
}

fn done(text: String) -> Next {
    Ok(Step::Done(CallToolResult::success(vec![ContentBlock::text(text)])))
}

fn ask<T>(questions: impl IntoIterator<Item = (&'static str, InputRequest)>) -> Next<T> {
    Ok(Step::Ask { requests: named(questions), state: None })
}

fn ask_with(
    state: Value,
    questions: impl IntoIterator<Item = (&'static str, InputRequest)>,
) -> Next {
    Ok(Step::Ask { requests: named(questions), state: Some(state) })
}

fn named(questions: impl IntoIterator<Item = (&'static str, InputRequest)>) -> InputRequests {
    questions.into_iter().map(|(key, request)| (key.to_owned(), request)).collect()
}

/// A field of a form; empty if it was declined.
fn field<'a>(answer: &'a JsonObject, name: &str) -> &'a str {
    answer
        .get("content")
        .and_then(|content| content.get(name))
        .and_then(Value::as_str)
        .unwrap_or("")
}

/// What became of a form.
fn filled_in(answer: &JsonObject) -> String {
    let action = answer.get("action").and_then(Value::as_str).unwrap_or("unknown");
    let content = answer.get("content").unwrap_or(&Value::Null);
    format!("action={action}, content={content}")
}

/// The text of a model's answer, which may be one block or several.
fn said(answer: &JsonObject) -> &str {
    let content = answer.get("content");
    let block = content.and_then(|content| content.get(0)).or(content);
    block.and_then(|block| block.get("text")).and_then(Value::as_str).unwrap_or("")
}

fn uris(answer: &JsonObject) -> String {
    let roots = answer.get("roots").and_then(Value::as_array);
    let uris = roots.into_iter().flatten().filter_map(|root| root.get("uri")?.as_str());
    uris.collect::<Vec<_>>().join(", ")
}
