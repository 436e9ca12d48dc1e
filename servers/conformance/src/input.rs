//! Input that a call needs from its client, in the way of either era.
//!
//! A flow is written once, as steps: given the answers so far it is done, or it asks. A modern client gets the questions
//! as the result of its call (`input_required`) and calls again; a legacy client gets them as requests while it waits.

mod flows;
mod questions;

use std::time::Duration;

use futures_util::future;
use rmcp::{
    ErrorData, RoleServer,
    model::{
        ClientCapabilities, InputRequest, InputRequests, InputRequiredResult, InputResponses,
        JsonObject, ServerRequest,
    },
    service::{PeerRequestOptions, RequestContext},
};
use serde_json::Value;

use crate::{era, seal::Seal};

pub(crate) use flows::{prompt, tool};
pub(crate) use questions::form;

/// What a call is about, as it came.
#[derive(Debug, Default)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) arguments: JsonObject,
    pub(crate) responses: InputResponses,
    pub(crate) state: Option<String>,
}

/// What a flow knows at a step.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    arguments: &'a JsonObject,
    responses: &'a InputResponses,
    state: Option<&'a Value>,
    capabilities: &'a ClientCapabilities,
}

/// What a flow does next.
#[derive(Debug)]
pub(crate) enum Step<T> {
    Done(T),
    Ask { requests: InputRequests, state: Option<Value> },
}

pub(crate) type Flow<T> = fn(&Known<'_>) -> Result<Step<T>, ErrorData>;

/// How a call ends for now.
#[derive(Debug)]
pub(crate) enum Outcome<T> {
    Complete(T),
    InputRequired(InputRequiredResult),
}

impl Known<'_> {
    /// The answer to a question. What is no object cannot be one and is asked for again.
    fn answer(&self, key: &str) -> Option<&JsonObject> {
        self.responses.get(key)?.as_object()
    }

    fn argument(&self, name: &str) -> Option<&str> {
        self.arguments.get(name)?.as_str()
    }
}

/// Takes a call as far as it goes.
pub(crate) async fn run<T>(
    flow: Flow<T>,
    call: Call,
    seal: &Seal,
    context: &RequestContext<RoleServer>,
) -> Result<Outcome<T>, ErrorData> {
    let capabilities = context.client_capabilities().unwrap_or_default();
    if !era::is_modern(context) {
        return converse(flow, &call, &capabilities, context).await.map(Outcome::Complete);
    }
    let state = call.state.as_deref().map(|text| seal.open(&call.name, text)).transpose()?;
    let known = Known {
        arguments: &call.arguments,
        responses: &call.responses,
        state: state.as_ref(),
        capabilities: &capabilities,
    };
    match flow(&known)? {
        Step::Done(result) => Ok(Outcome::Complete(result)),
        Step::Ask { requests, state } => {
            if let Some(missing) = missing(&requests, &capabilities) {
                return Err(ErrorData::missing_required_client_capability(missing));
            }
            let state = state.map(|state| seal.close(&call.name, state)).transpose()?;
            Ok(Outcome::InputRequired(InputRequiredResult::new(Some(requests), state)))
        }
    }
}

/// Asks a legacy client, all questions of a step at once, until the flow is done.
async fn converse<T>(
    flow: Flow<T>,
    call: &Call,
    capabilities: &ClientCapabilities,
    context: &RequestContext<RoleServer>,
) -> Result<T, ErrorData> {
    let mut responses = InputResponses::new();
    let mut state = None;
    for _ in 0..MOST_ROUNDS {
        let known = Known {
            arguments: &call.arguments,
            responses: &responses,
            state: state.as_ref(),
            capabilities,
        };
        let (requests, next) = match flow(&known)? {
            Step::Done(result) => return Ok(result),
            Step::Ask { requests, state } => (requests, state),
        };
        if missing(&requests, capabilities).is_some() {
            let message =
                format!("{} needs input that this client does not offer to give", call.name);
            return Err(ErrorData::invalid_request(message, None));
        }
        let answers = requests.into_iter().map(|(key, request)| async move {
            ask(request, context).await.map(|answer| (key, answer))
        });
        responses = future::try_join_all(answers).await?.into_iter().collect();
        state = next;
    }
    Err(ErrorData::internal_error(format!("no end after {MOST_ROUNDS} rounds"), None))
}

async fn ask(
    request: InputRequest,
    context: &RequestContext<RoleServer>,
) -> Result<Value, ErrorData> {
    let request = match request {
        InputRequest::CreateMessage(request) => ServerRequest::CreateMessageRequest(request),
        InputRequest::Elicitation(request) => ServerRequest::ElicitRequest(request),
        InputRequest::ListRoots(request) => ServerRequest::ListRootsRequest(request),
        other => {
            let message = format!("no request to a client is like {other:?}");
            return Err(ErrorData::internal_error(message, None));
        }
    };
    let options = PeerRequestOptions::with_timeout(PATIENCE);
    let answer = async {
        context.peer.send_request_with_option(request, options).await?.await_response().await
    };
    let answer = tokio::select! {
        biased;
        () = context.ct.cancelled() => return Err(ErrorData::internal_error("cancelled", None)),
        answer = answer => answer,
    };
    answer.map_err(|error| ErrorData::internal_error(format!("no input: {error}"), None)).and_then(
        |answer| {
            serde_json::to_value(answer)
                .map_err(|error| ErrorData::internal_error(error.to_string(), None))
        },
    )
}

/// The capabilities that these questions need and the client did not declare.
fn missing(requests: &InputRequests, declared: &ClientCapabilities) -> Option<ClientCapabilities> {
    let mut missing = ClientCapabilities::default();
    for request in requests.values() {
        match request {
            InputRequest::CreateMessage(_) if declared.sampling.is_none() => {
                missing.sampling = Some(<_>::default());
            }
            InputRequest::Elicitation(_) if declared.elicitation.is_none() => {
                missing.elicitation = Some(<_>::default());
            }
            InputRequest::ListRoots(_) if declared.roots.is_none() => {
                missing.roots = Some(<_>::default());
            }
            _ => {}
        }
    }
    (missing != ClientCapabilities::default()).then_some(missing)
}

/// A person may have to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// What clients allow for one call, by default.
const MOST_ROUNDS: usize = 10;
