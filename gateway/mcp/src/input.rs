//! Input that a server needs before it can answer: multi round-trip requests (2026-07-28,
//! basic/patterns/mrtr). Performs no I/O.
//!
//! A legacy server asks with a request of its own while the call is open; a modern one answers with
//! what it needs, and the client repeats the call with it.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;
use thiserror::Error;

use crate::json::Json;
use crate::members::members;
use crate::modern::quoted;
use crate::object::{Change, change, elements, entries, member, unescape};
use crate::splice::{Edit, splice};
use crate::tool::text;

/// Most requests in one result, and most responses to it. 32: people answer them one after the other.
pub const MAX_REQUESTS: usize = 32;

/// One thing that a server asks for.
#[derive(Debug, Clone)]
pub struct InputRequest<'a> {
    /// Names the request within its result.
    pub key: Cow<'a, str>,
    /// Such as `elicitation/create`.
    pub method: Cow<'a, str>,
    /// Raw parameters.
    pub params: Option<Json<'a>>,
}

/// What a server needs before it can answer.
#[derive(Debug, Clone)]
pub struct InputRequired<'a> {
    /// In the order of the server; may be empty if there is a state.
    pub input_requests: Vec<InputRequest<'a>>,
    /// Raw string that the next try must repeat byte for byte.
    pub request_state: Option<Json<'a>>,
}

/// Why input cannot be asked for, or what came back cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InputError {
    /// Not the shape that the protocol defines.
    #[error("{0}")]
    Shape(#[from] serde_json::Error),
    /// More than [`MAX_REQUESTS`].
    #[error("more than {MAX_REQUESTS} inputs at once")]
    TooMany,
    /// Neither requests nor a state: there is nothing to do before the next try.
    #[error("neither `inputRequests` nor `requestState` is there")]
    Nothing,
}

impl InputError {
    fn shape(reason: &str) -> Self {
        Self::Shape(serde::de::Error::custom(reason))
    }
}

impl<'a> InputRequired<'a> {
    /// Reads a raw `result` whose type is `input_required`.
    ///
    /// # Errors
    /// It is not of the shape that the protocol defines, or asks for too much.
    pub fn parse(result: Json<'a>) -> Result<Self, InputError> {
        let [requests, state] = members(result, &["inputRequests", "requestState"])?;
        let state = state.filter(given);
        if state.is_some_and(|state| text(state).is_none()) {
            return Err(InputError::shape("`requestState` must be a string"));
        }
        let mut input_requests = Vec::new();
        for (key, request) in map(requests, "inputRequests")? {
            let [method, params] = members(request, &["method", "params"])?;
            let method = method
                .and_then(text)
                .ok_or_else(|| InputError::shape("an input request needs a `method`"))?;
            input_requests.push(InputRequest { key, method, params: params.filter(given) });
        }
        if input_requests.is_empty() && state.is_none() {
            return Err(InputError::Nothing);
        }
        Ok(Self { input_requests, request_state: state })
    }
}

/// What a modern client's next try carries.
#[derive(Debug, Clone, Default)]
pub struct InputResponses<'a> {
    /// Raw results by the key of the request they answer.
    pub responses: Vec<(Cow<'a, str>, Json<'a>)>,
    /// The state of the result that asked.
    pub request_state: Option<Cow<'a, str>>,
}

impl<'a> InputResponses<'a> {
    /// Reads raw `params`. A first try has neither responses nor state.
    ///
    /// # Errors
    /// They are not of the shape that the protocol defines, or too many.
    pub fn parse(params: Option<Json<'a>>) -> Result<Self, InputError> {
        let Some(params) = params.filter(given) else { return Ok(Self::default()) };
        let [responses, state] = members(params, &["inputResponses", "requestState"])?;
        let request_state = match state.filter(given) {
            None => None,
            Some(state) => Some(
                text(state).ok_or_else(|| InputError::shape("`requestState` must be a string"))?,
            ),
        };
        Ok(Self { responses: map(responses, "inputResponses")?, request_state })
    }
}

fn map<'a>(
    object: Option<Json<'a>>,
    name: &str,
) -> Result<Vec<(Cow<'a, str>, Json<'a>)>, InputError> {
    let Some(object) = object.filter(given) else { return Ok(Vec::new()) };
    if !object.is_object() {
        return Err(InputError::shape(&format!("`{name}` must be an object")));
    }
    let mut map: Vec<(Cow<'a, str>, Json<'a>)> = Vec::new();
    for entry in entries(object.get()) {
        let Some(key) = entry.name() else { continue };
        let value = Json::part(entry.value());
        if map.len() >= MAX_REQUESTS {
            return Err(InputError::TooMany);
        }
        if map.iter().any(|(known, _)| *known == key) {
            return Err(InputError::shape(&format!("a key of `{name}` stands twice")));
        }
        map.push((key, value));
    }
    Ok(map)
}

fn given(json: &Json<'_>) -> bool {
    !json.is_null()
}

/// The request that asks a legacy client for one input. `id` is JSON text.
///
/// Legacy clients know URL elicitations by an `elicitationId`, which modern servers no longer send:
/// the request's id becomes it.
pub fn request(id: &str, method: &str, params: Option<Json<'_>>) -> Bytes {
    let head = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{}"#, quoted(method));
    let Some(params) = params else { return format!("{head}}}").into() };
    let text = params.get();
    let url_mode = method == "elicitation/create"
        && member(text, "mode").and_then(unescape).as_deref() == Some("url");
    if !url_mode {
        return format!(r#"{head},"params":{text}}}"#).into();
    }
    let id = unescape(id).unwrap_or(Cow::Borrowed(id));
    let missing = [Change::default("elicitationId", quoted(&id))];
    let params = splice(text.as_bytes(), &mut change(text.as_bytes(), text, &missing));
    format!(r#"{head},"params":{}}}"#, String::from_utf8_lossy(&params)).into()
}

/// The edits of a whole message, a call with `params`, that make it its next try: with
/// `inputResponses` (JSON text of the result by key) and the state that the server asked to see again,
/// replacing what stands there.
pub fn retry_edits(
    message: &[u8],
    params: Json<'_>,
    responses: &[(&str, &str)],
    request_state: Option<Json<'_>>,
) -> Vec<Edit<'static>> {
    let edits = change(message, params.get(), &retry(responses, request_state));
    edits.into_iter().map(Edit::into_owned).collect()
}

fn retry<'a>(responses: &[(&str, &str)], state: Option<Json<'a>>) -> [Change<'a>; 2] {
    let mut object = String::from("{");
    for (key, response) in responses {
        let comma = if object.len() > 1 { "," } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(object, "{comma}{}:{response}", quoted(key));
    }
    object.push('}');
    [
        if responses.is_empty() {
            Change::remove("inputResponses")
        } else {
            Change::set("inputResponses", object)
        },
        // Without a state the next try must have none (basic/patterns/mrtr).
        state.map_or(Change::remove("requestState"), |state| {
            Change::set("requestState", state.get())
        }),
    ]
}

/// The answer that asks a modern client for input. `id` is JSON text, `state` is text.
pub fn input_required(id: &str, requests: &[InputRequest<'_>], state: &str) -> Bytes {
    let mut out = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"input_required","inputRequests":{{"#
    );
    for (at, request) in requests.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        let (key, method) = (quoted(&request.key), quoted(&request.method));
        let _ = write!(out, r#"{comma}{key}:{{"method":{method}"#);
        if let Some(params) = request.params {
            let _ = write!(out, r#","params":{}"#, params.get());
        }
        out.push('}');
    }
    let _ = write!(out, r#"}},"requestState":{}}}}}"#, quoted(state));
    out.into()
}

/// What the error -32042 of a 2025-11-25 server asks for, as input requests: the client visits the
/// URLs and calls again. None if the error is another.
///
/// # Errors
/// It asks for too much.
pub fn url_elicitations(error: Json<'_>) -> Result<Vec<InputRequest<'_>>, InputError> {
    let mut requests = Vec::new();
    if crate::error::code(error) != Some(i64::from(crate::error::URL_ELICITATION_REQUIRED)) {
        return Ok(requests);
    }
    let all = member(error.get(), "data").and_then(|data| member(data, "elicitations"));
    for (at, elicitation) in all.into_iter().flat_map(elements).enumerate() {
        if at >= MAX_REQUESTS {
            return Err(InputError::TooMany);
        }
        let key = format!("url-{at}").into();
        let method = "elicitation/create".into();
        requests.push(InputRequest { key, method, params: Some(Json::part(elicitation)) });
    }
    Ok(requests)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn raw_of(text: &str) -> Json<'_> {
        serde_json::from_str(text).unwrap()
    }

    const NEEDED: &str = r#"{"resultType":"input_required","inputRequests":{
        "b":{"method":"elicitation/create","params":{"message":"who?","x":1.0}},
        "\u0061":{"method":"roots/list"}},"requestState":"\u0061=="}"#;

    #[test]
    fn what_a_server_needs_goes_to_a_legacy_client_and_back() {
        let needed = InputRequired::parse(raw_of(NEEDED)).unwrap();

        let [b, a] = &needed.input_requests[..] else { panic!("{needed:?}") };
        assert_eq!(
            request("7", &b.method, b.params),
            r#"{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{"message":"who?","x":1.0}}"#
        );
        assert_eq!(
            request("\"x\"", &a.method, a.params),
            r#"{"jsonrpc":"2.0","id":"x","method":"roots/list"}"#
        );
        let responses = [(&*b.key, r#"{"action":"accept"}"#), (&*a.key, "{}")];
        for (params, expected) in [
            (
                r#"{"name":"t","arguments":{"n":1.50}}"#,
                r#"{"name":"t","arguments":{"n":1.50},"inputResponses":{"b":{"action":"accept"},"a":{}},"requestState":"\u0061=="}"#,
            ),
            (
                r#"{"requestState":"old","inputResponses":{"a":1},"name":"t"}"#,
                r#"{"requestState":"\u0061==","inputResponses":{"b":{"action":"accept"},"a":{}},"name":"t"}"#,
            ),
        ] {
            let message = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"m","params":{params}}}"#);
            let part = raw_of(&message[46..message.len() - 1]);
            let mut edits = retry_edits(message.as_bytes(), part, &responses, needed.request_state);
            let out = splice(message.as_bytes(), &mut edits);
            assert_eq!(out[46..out.len() - 1], *expected.as_bytes());

            let back = InputResponses::parse(Some(raw_of(expected))).unwrap();
            assert_eq!(back.request_state.as_deref(), Some("a=="));
            let back: Vec<(&str, &str)> =
                back.responses.iter().map(|(key, result)| (&**key, result.get())).collect();
            assert_eq!(back, responses);
        }
    }

    #[test]
    fn a_next_try_without_responses_or_state_has_none() {
        let params = raw_of(r#"{"inputResponses":{},"name":"t","requestState":"old"}"#);

        let bytes = params.get().as_bytes();
        assert_eq!(splice(bytes, &mut retry_edits(bytes, params, &[], None)), r#"{"name":"t"}"#);
        for params in [Some(raw_of(r#"{"name":"t"}"#)), None] {
            let first = InputResponses::parse(params).unwrap();
            assert!(first.responses.is_empty() && first.request_state.is_none());
        }
    }

    #[test]
    fn url_elicitations_get_the_id_that_legacy_clients_need() {
        let params = raw_of(r#"{"mode":"url","url":"https://a"}"#);
        assert_eq!(
            request("7", "elicitation/create", Some(params)),
            r#"{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{"mode":"url","url":"https://a","elicitationId":"7"}}"#
        );
        let params = raw_of(r#"{"mode":"url","elicitationId":"own"}"#);
        assert!(request("7", "elicitation/create", Some(params)).ends_with(br#""own"}}"#));
    }

    #[test]
    fn urls_that_an_error_asks_for_become_input_requests() {
        let error = raw_of(
            r#"{"code":-32042,"message":"m","data":{"elicitations":[{"mode":"url","url":"https://a"}]}}"#,
        );

        let requests = url_elicitations(error).unwrap();

        assert_eq!(
            input_required("1", &requests, "s\""),
            concat!(
                r#"{"jsonrpc":"2.0","id":1,"result":{"resultType":"input_required","inputRequests":{"#,
                r#""url-0":{"method":"elicitation/create","params":{"mode":"url","url":"https://a"}}},"#,
                r#""requestState":"s\""}}"#
            )
        );
        assert!(url_elicitations(raw_of(r#"{"code":-32602}"#)).unwrap().is_empty());
    }

    #[test]
    fn what_is_malformed_or_too_much_is_refused() {
        let many: Vec<String> =
            (0..33).map(|at| format!(r#""{at}":{{"method":"roots/list"}}"#)).collect();
        for result in [
            "{}".to_owned(),
            r#"{"inputRequests":{}}"#.to_owned(),
            r#"{"inputRequests":[]}"#.to_owned(),
            r#"{"requestState":7}"#.to_owned(),
            r#"{"inputRequests":{"a":{}}}"#.to_owned(),
            r#"{"inputRequests":{"a":{"method":"m"},"\u0061":{"method":"m"}}}"#.to_owned(),
            r#"{"requestState":"a","requeststate":"b"}"#.to_owned(),
            format!(r#"{{"inputRequests":{{{}}}}}"#, many.join(",")),
        ] {
            assert!(InputRequired::parse(raw_of(&result)).is_err(), "{result}");
        }
        assert!(InputRequired::parse(raw_of(r#"{"requestState":"a"}"#)).is_ok());
        assert!(InputResponses::parse(Some(raw_of(r#"{"inputResponses":[1]}"#))).is_err());
        assert!(InputResponses::parse(Some(raw_of(r#"{"requestState":{}}"#))).is_err());
    }

    proptest! {
        #[test]
        fn what_is_asked_is_what_was_to_be_asked(
            asked in prop::collection::btree_map(any::<String>(), crate::scan::tests::json(), 0..5),
            state in any::<String>(),
        ) {
            let texts: Vec<_> =
                asked.iter().map(|(key, params)| (key, json!({"p": params}).to_string())).collect();
            let requests: Vec<_> = texts.iter().map(|(key, params)| InputRequest {
                key: key.as_str().into(),
                method: "sampling/createMessage".into(),
                params: Some(raw_of(params)),
            }).collect();

            let answer = input_required("1", &requests, &state);

            let answer: Value = serde_json::from_slice(&answer).unwrap();
            let result = answer["result"].to_string();
            let read = InputRequired::parse(raw_of(&result)).unwrap();
            let read_state = read.request_state.and_then(text);
            prop_assert_eq!(read_state.as_deref(), Some(&*state));
            prop_assert_eq!(read.input_requests.len(), asked.len());
            for request in read.input_requests {
                let params: Value = serde_json::from_str(request.params.unwrap().get()).unwrap();
                prop_assert_eq!(&params["p"], &asked[&*request.key]);
            }
        }
    }
}
