//! 2026-07-28: each request stands by itself and says what its client can do.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gateway_core::{Principal, Scope};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use mcp::Message;
use mcp::error::{
    HEADER_MISMATCH, INVALID_PARAMS, METHOD_NOT_FOUND, MISSING_CAPABILITY, UNSUPPORTED_VERSION,
    unsupported_version,
};
use mcp::header::{self, HeaderError, Headers, expected_name};
use mcp::input::InputResponses;
use mcp::logging::Level;
use mcp::message::Outcome;
use mcp::modern::{self, Meta, quoted};
use mcp::subscription::Filter;

use super::away::{self, Answered};
use super::body::Body;
use super::dispatch::{Asked, Asker, refuse, shortened};
use super::events::EventBody;
use super::reply::{self, Response};
use super::{Downstream, answer, capability, route};
use crate::call::{US, trace_of};
use crate::client::{Client, Guest};
use crate::parked::Parked;
use crate::peer::Pod;
use crate::session::MAX_CAPABILITIES;

/// Methods of the legacy era that this one does not have (2026-07-28, changelog).
const GONE: [&str; 5] =
    ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];

/// What may be done for an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    /// The client takes a stream of events.
    pub(super) streams: bool,
    /// Another gateway may answer in place of this one.
    pub(super) relayable: bool,
}

/// Answers a request.
pub(super) async fn request(
    app: Arc<Downstream>,
    asked: &Asked<'_>,
    parts: &Parts,
    (principal, scope): (&Principal, &Scope),
    How { streams, relayable }: How,
) -> Response {
    let guest = match admit(asked, parts, principal, scope) {
        Ok(guest) => guest,
        Err(response) => return response,
    };
    if GONE.contains(&asked.method) {
        return status(refuse(asked.id, METHOD_NOT_FOUND, "not a method of 2026-07-28"));
    }
    match asked.method {
        "server/discover" => return discover(asked, principal, scope),
        "subscriptions/listen" if !streams => {
            let message = "subscriptions/listen is answered with text/event-stream: accept it";
            return reply::error(StatusCode::NOT_ACCEPTABLE, message);
        }
        "subscriptions/listen" => {
            answer::settled(Duration::ZERO).await;
            return listen(app, asked, principal, scope, &Client::Modern(guest));
        }
        _ => {}
    }
    match resumed(&app, asked, principal, relayable) {
        Resumed::Not => {}
        Resumed::Here(call) => return answer::respond(&app, call, streams).await,
        Resumed::At(pod) => {
            let answer = Box::pin(away::relay(&app, &pod, asked, parts, principal)).await;
            return answer
                .unwrap_or_else(|| status(refuse(asked.id, INVALID_PARAMS, WAITS_NO_MORE)));
        }
        Resumed::Refused(refusal) => return status(refusal),
    }
    let trace = trace_of(&parts.headers);
    let client = Client::Modern(guest);
    let asker = Asker { principal, scope, client, streams, trace, relayable };
    match away::answer(&app, asked, parts, asker).await {
        Answered::Call(call) => answer::respond(&app, call, streams).await,
        Answered::Now(message) => status(message),
        Answered::There(response) => response,
    }
}

/// What every request of this era has to have.
fn admit(
    asked: &Asked<'_>,
    parts: &Parts,
    principal: &Principal,
    scope: &Scope,
) -> Result<Guest, Response> {
    let bad = |code, message: &str| {
        let answer = refuse(asked.id, code, message);
        reply::json(StatusCode::BAD_REQUEST, answer)
    };
    let meta = Meta::parse(asked.params)
        .map_err(|error| bad(INVALID_PARAMS, &format!("`_meta`: {error}")))?;
    let headers = standard(&parts.headers).map_err(|error| bad(HEADER_MISMATCH, &error))?;
    if let Some(missing) = meta.missing() {
        let message = format!("`_meta` of each request of 2026-07-28 must have `{missing}`");
        return Err(bad(INVALID_PARAMS, &message));
    }
    let name = expected_name(asked.method, asked.params);
    header::check(asked.method, meta.protocol_version.as_deref(), name, &headers)
        .map_err(|error| bad(HEADER_MISMATCH, &error.to_string()))?;
    if let Some(version) = meta.protocol_version.as_deref()
        && version != modern::VERSION
    {
        let answer = unsupported_version(Some(asked.id.as_json()), shortened(version));
        return Err(reply::json(StatusCode::BAD_REQUEST, answer));
    }
    check_params(asked, &parts.headers, principal, scope)
        .map_err(|error| bad(HEADER_MISMATCH, &error.to_string()))?;
    let level = match meta.log_level.as_deref().map(Level::from_wire) {
        Some(None) => return Err(bad(INVALID_PARAMS, "`logLevel` is none of the eight levels")),
        level => level.flatten(),
    };
    let capabilities = meta
        .client_capabilities
        .map_or(Bytes::new(), |raw| asked.message.slice_ref(raw.get().as_bytes()));
    // Servers are told, and legs are kept for each: as for a session.
    if capabilities.len() > MAX_CAPABILITIES {
        let limit = format!("`clientCapabilities` are longer than {MAX_CAPABILITIES} bytes");
        return Err(bad(INVALID_PARAMS, &limit));
    }
    Ok(Guest { capabilities, level })
}

/// The standard headers. One that stands twice could be read as either.
fn standard(headers: &HeaderMap) -> Result<Headers<'_>, String> {
    let one = |name: &'static str| {
        let mut values = headers.get_all(name).iter();
        let first = values.next();
        if values.next().is_some() {
            return Err(format!("{name} stands twice"));
        }
        match first.map(|value| value.to_str()) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some(value.trim_matches([' ', '\t']))),
            Some(Err(_)) => Err(format!("{name} has characters outside visible ASCII")),
        }
    };
    Ok(Headers {
        version: one(header::VERSION)?,
        method: one(header::METHOD)?,
        name: one(header::NAME)?,
    })
}

/// The arguments that a tool wants repeated as headers.
fn check_params(
    asked: &Asked<'_>,
    headers: &HeaderMap,
    principal: &Principal,
    scope: &Scope,
) -> Result<(), HeaderError> {
    if asked.method != "tools/call" {
        return Ok(());
    }
    let name = expected_name(asked.method, asked.params).and_then(mcp::tool::text);
    let Some(wanted) = name
        .and_then(|name| principal.tenant.find(&name, scope, principal))
        .and_then(|tool| tool.headers.as_deref())
        .filter(|wanted| !wanted.is_empty())
    else {
        return Ok(());
    };
    let arguments = asked
        .params
        .and_then(|params| mcp::object::member(params.get(), "arguments"))
        .and_then(mcp::object::raw);
    wanted.check(arguments, |name| {
        let mut values = headers.get_all(name).iter();
        let value = values.next()?.to_str().ok()?;
        // One that stands twice could be read as either: it is none.
        values.next().is_none().then(|| value.trim())
    })
}

/// What a request that may go on with an earlier one is about.
enum Resumed {
    /// It is a new one.
    Not,
    /// A call that waits here.
    Here(Box<crate::call::Call>),
    /// One that waits at another gateway.
    At(Arc<Pod>),
    Refused(Bytes),
}

const WAITS_NO_MORE: &str = "this call does not wait any more: it ended, took too long, or the \
                             request is another one; call again without requestState";

/// The call that a request goes on with, if its state is one of ours.
fn resumed(app: &Downstream, asked: &Asked<'_>, principal: &Principal, relayable: bool) -> Resumed {
    let Ok(responses) = InputResponses::parse(asked.params) else { return Resumed::Not };
    let Some(state) = &responses.request_state else { return Resumed::Not };
    if !Parked::is_handle(state) {
        return Resumed::Not;
    }
    if let Some(pod) = Parked::keeper(state).and_then(|tag| app.fleet.pod(tag))
        && relayable
    {
        return Resumed::At(pod);
    }
    let request = crate::call::digest(asked.method, asked.params);
    let Some(mut call) = app.parked.take(state, principal, &request) else {
        return Resumed::Refused(refuse(asked.id, INVALID_PARAMS, WAITS_NO_MORE));
    };
    let part = |text: &str| asked.message.slice_ref(text.as_bytes());
    let token = Meta::parse(asked.params).ok().and_then(|meta| meta.progress_token);
    let answers = responses
        .responses
        .iter()
        .map(|(key, answer)| (key.to_string(), part(answer.get())))
        .collect();
    call.resume(part(asked.id.as_json()), token.map(|token| part(token.get())), &answers);
    Resumed::Here(call)
}

fn discover(asked: &Asked<'_>, principal: &Principal, scope: &Scope) -> Response {
    let Some(offer) = capability::offer(principal, scope) else {
        let message = "no such server, or none this key may use";
        return reply::error(StatusCode::NOT_FOUND, message);
    };
    let versions: Vec<String> = modern::SUPPORTED.iter().map(|version| quoted(version)).collect();
    let instructions = offer
        .instructions
        .map_or(Cow::Borrowed(""), |text| format!(r#","instructions":{text}"#).into());
    let result = format!(
        r#"{{"resultType":"complete","supportedVersions":[{}],"capabilities":{}{instructions},"ttlMs":0,"cacheScope":"private","_meta":{{"{}":{}}}}}"#,
        versions.join(","),
        offer.capabilities,
        modern::SERVER_INFO,
        offer.server_info.unwrap_or(&US),
    );
    reply::message(super::dispatch::result(asked.id, &result))
}

fn listen(
    app: Arc<Downstream>,
    asked: &Asked<'_>,
    principal: &Principal,
    scope: &Scope,
    client: &Client,
) -> Response {
    let Some(Ok(filter)) = asked.params.map(Filter::parse) else {
        let message = "subscriptions/listen needs `notifications`, an object";
        return status(refuse(asked.id, INVALID_PARAMS, message));
    };
    if !filter.task_ids.is_empty()
        && let Err(refusal) = route::knows_tasks(asked, client.capabilities())
    {
        return status(refusal);
    }
    let id = Bytes::copy_from_slice(asked.id.as_json().as_bytes());
    let body = EventBody::subscribed(app, principal.clone(), scope.clone(), id, &filter);
    reply::events(Body::Stream(Box::new(body)))
}

/// A message as an answer, with the status that goes with its error, if it is one (2026-07-28,
/// basic/transports/streamable-http, status codes).
pub(super) fn status(message: Bytes) -> Response {
    let status = match Message::parse(&message) {
        Ok(Message::Response { outcome: Outcome::Error(error), .. }) => {
            match mcp::error::code(error).and_then(|code| i32::try_from(code).ok()) {
                Some(METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
                Some(HEADER_MISMATCH | MISSING_CAPABILITY | UNSUPPORTED_VERSION) => {
                    StatusCode::BAD_REQUEST
                }
                _ => StatusCode::OK,
            }
        }
        _ => StatusCode::OK,
    };
    reply::json(status, message)
}
