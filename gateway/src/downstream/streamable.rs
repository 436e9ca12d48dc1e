//! Streamable HTTP, 2025-03-26 to 2025-11-25: POST, GET and DELETE at one URL.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use gateway_core::{Principal, Scope};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use mcp::error::{INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR, error_response};
use mcp::json::Json;
use mcp::lifecycle::InitializeParams;
use mcp::message::Id;
use mcp::modern::VERSION;
use mcp::tool::CancelledParams;
use mcp::{Era, Message, ParseError, ProtocolVersion};
use serde::Deserialize;

use super::away::{self, Answered};
use super::body::Body;
use super::capability::{self, Offer};
use super::dispatch::{Asked, Asker, result};
use super::events::EventBody;
use super::listen::Seen;
use super::reply::{self, Response};
use super::revival::Listener;
use super::{Arrival, Downstream, Target, answer, modern, read_body};
use crate::call::{US, trace_of};
use crate::client::{Client, Member};
use crate::session::{MAX_CAPABILITIES, Session, SessionId, Terms, Transport};

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// Notifications about what may be at any gateway.
const CONCERNS_OTHERS: [&str; 2] = ["notifications/cancelled", "notifications/roots/list_changed"];

/// One message of a client.
pub(super) async fn post(app: Arc<Downstream>, arrival: Box<Arrival>) -> Response {
    let principal = match app.admit(&arrival).await {
        Ok((principal, _)) => principal,
        Err(response) => return response,
    };
    // Borrowed from their box where they are: whatever is moved is held twice.
    let body = arrival.body;
    let (parts, target, came) = (&arrival.parts, &arrival.target, &arrival.came);
    // 2026-07-28 has no sessions, and an id of one means nothing to it (basic/transports).
    let session = if is_modern(&parts.headers) {
        None
    } else {
        match session(&app, parts, target, &principal) {
            Ok(session) => session,
            Err(response) => return response,
        }
    };
    let Some(accepts) = Accepts::of(&parts.headers) else {
        let message = "accept application/json, and text/event-stream for progress";
        return reply::error(StatusCode::NOT_ACCEPTABLE, message);
    };
    let body = match read_body(parts, body, came, &principal.key.account, &app.commons.room).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    let relayable = came.passed().is_none();
    let told = came.passed().is_some_and(|passed| passed.told);
    let inner;
    let (body, message) = match Message::parse(&body) {
        Err(ParseError::Shape { .. }) => {
            inner = unwrap(&body);
            (&inner, Message::parse(&inner))
        }
        message => (&body, message),
    };
    match message {
        Ok(Message::Request { id, method, params }) => {
            let asked = Asked { message: body, id, method: &method, params };
            let version = parts.headers.get(PROTOCOL_VERSION).and_then(|v| v.to_str().ok());
            if Era::of(&method, params, version) == Era::Modern {
                if let Some(unknown) = unknown_server(&principal, &target.scope) {
                    return unknown;
                }
                let whom = (&principal, &target.scope);
                let how = modern::How { streams: accepts.events, relayable };
                return modern::request(app, &asked, parts, whom, how).await;
            }
            // The header speaks of what was agreed on, which is nothing yet.
            if method == "initialize" {
                return initialize(&app, &asked, &principal, &target.scope);
            }
            if let Some(refusal) = unknown_version(id, version) {
                return refusal;
            }
            if session.is_none()
                && let Some(unknown) = unknown_server(&principal, &target.scope)
            {
                return unknown;
            }
            // Without a session a request is a one-shot, answered as JSON.
            let streams = accepts.events && session.is_some();
            let client = session.as_ref().map_or(Client::Legacy(None), Client::of);
            let (principal, scope, trace) = (&principal, &target.scope, trace_of(&parts.headers));
            let asker = Asker { principal, scope, client, streams, trace, relayable };
            if told {
                away::hear(&app, &asked, asker);
                return reply::accepted();
            }
            match away::answer(&app, &asked, parts, asker).await {
                Answered::Call(call) => answer::respond(&app, call, streams).await,
                Answered::Now(message) => reply::message(message),
                Answered::There(response) => response,
            }
        }
        Ok(Message::Notification { method, params }) => {
            if let Some(session) = &session {
                notified(&app, &principal, session.id, body, (&method, params));
                // The call it is about, or the leg, may be anywhere.
                if relayable && CONCERNS_OTHERS.contains(&&*method) {
                    Box::pin(away::tell_all(&app, parts, body, &principal)).await;
                }
            }
            reply::accepted()
        }
        // 2026-07-28, basic/transports/streamable-http, sending messages.
        Ok(Message::Response { .. }) if is_modern(&parts.headers) => {
            let message = "clients of 2026-07-28 send no responses: what a server asks is answered in \
                           `inputResponses` of the next request";
            let refusal = error_response(None, INVALID_REQUEST, message);
            reply::json(StatusCode::BAD_REQUEST, refusal)
        }
        Ok(Message::Response { id, .. }) => {
            // One that nobody waits for any more comes late, not wrongly.
            if let Some(session) = session {
                let home = app.commons.homes.get(session.id);
                let waited_for = home.is_some_and(|home| home.answer(id, body));
                if relayable && !waited_for {
                    Box::pin(away::tell_all(&app, parts, body, &principal)).await;
                }
            }
            reply::accepted()
        }
        Err(error) => unreadable(&error),
    }
}

/// The stream on which the gateway speaks unasked.
pub(super) async fn get(app: Arc<Downstream>, arrival: Box<Arrival>) -> Response {
    let principal = match app.admit(&arrival).await {
        Ok((principal, _)) => principal,
        Err(response) => return response,
    };
    let Arrival { parts, target, .. } = *arrival;
    if is_modern(&parts.headers) {
        return modern_takes_posts();
    }
    match session(&app, &parts, &target, &principal) {
        Err(response) => response,
        Ok(None) => {
            let message = "a stream belongs to a session: POST initialize first and send its \
                           Mcp-Session-Id, or use /sse";
            reply::error(StatusCode::BAD_REQUEST, message)
        }
        Ok(Some(session)) => {
            let last = parts.headers.get("last-event-id").and_then(|value| value.to_str().ok());
            let seen = last.map(Seen::of_id).unwrap_or_default();
            let id = session.id;
            let member = Member::of(&session);
            let listener = Listener { principal, scope: target.scope, member };
            let stream = EventBody::listening(app.clone(), listener, seen);
            Box::pin(app.fleet.took(id)).await;
            reply::events(Body::Stream(Box::new(stream)))
        }
    }
}

/// The end of a session.
pub(super) async fn delete(app: Arc<Downstream>, arrival: Box<Arrival>) -> Response {
    let principal = match app.admit(&arrival).await {
        Ok((principal, _)) => principal,
        Err(response) => return response,
    };
    let Arrival { parts, target, came, .. } = *arrival;
    if is_modern(&parts.headers) {
        return modern_takes_posts();
    }
    match session(&app, &parts, &target, &principal) {
        Err(response) => response,
        Ok(None) => reply::error(StatusCode::BAD_REQUEST, "DELETE needs an Mcp-Session-Id"),
        Ok(Some(session)) => {
            app.tombstones.bury(session.id);
            if let Some(home) = app.commons.homes.get(session.id) {
                app.close_legs(&principal, session.id, &home);
            }
            app.commons.homes.forget(session.id);
            if came.passed().is_none() {
                Box::pin(away::tell_all(&app, &parts, &Bytes::new(), &principal)).await;
            }
            reply::done()
        }
    }
}

/// Whether the head of a request says that it is one of 2026-07-28.
fn is_modern(headers: &HeaderMap) -> bool {
    headers.get(PROTOCOL_VERSION).is_some_and(|version| version == VERSION)
}

/// 2026-07-28, basic/transports/streamable-http: one method is left.
fn modern_takes_posts() -> Response {
    reply::error(StatusCode::METHOD_NOT_ALLOWED, "2026-07-28 takes POST only")
}

/// The session a request names. None is fine: such a request is a one-shot.
fn session(
    app: &Downstream,
    parts: &Parts,
    target: &Target,
    principal: &Principal,
) -> Result<Option<Session>, Response> {
    let Some(token) = parts.headers.get(SESSION_ID) else { return Ok(None) };
    token
        .to_str()
        .ok()
        .and_then(|token| app.commons.sealer.open(token, Timestamp::now()))
        .filter(|session| {
            session.transport == Transport::Streamable
                && session.belongs_to(principal, &target.scope)
                && !app.tombstones.holds(session.id)
        })
        .map(Some)
        .ok_or_else(|| {
            let message = "no such session: it is another key's, another URL's, expired or \
                           deleted; POST initialize to begin a new one";
            reply::error(StatusCode::NOT_FOUND, message)
        })
}

fn initialize(
    app: &Downstream,
    asked: &Asked<'_>,
    principal: &Principal,
    scope: &Scope,
) -> Response {
    let Some(offer) = capability::offer(principal, scope) else { return no_server() };
    let (version, capabilities) = match requested(asked.params) {
        Ok(requested) => requested,
        Err(message) => return refuse(asked.id, INVALID_PARAMS, &message),
    };
    let now = Timestamp::now();
    let home = app.fleet.own;
    let terms = Terms { transport: Transport::Streamable, version, capabilities, home };
    let begun = app.commons.sealer.begin(principal, scope, terms, now);
    let token = begun.and_then(|(_, token)| HeaderValue::from_str(&token).ok());
    let Some(mut token) = token else {
        return refuse(asked.id, INTERNAL_ERROR, "no session can be begun, try again");
    };
    app.telemetry.sessions.inc();
    token.set_sensitive(true);
    let mut response = reply::message(initialized(asked.id, version, &offer));
    response.headers_mut().insert(SESSION_ID, token);
    response
}

/// The answer at the URL of a server that is not there for this key. A session that has begun there
/// goes on, without tools: the server may come back.
fn unknown_server(principal: &Principal, scope: &Scope) -> Option<Response> {
    let Scope::Server(server) = scope else { return None };
    (!principal.tenant.knows(server, principal)).then(no_server)
}

fn no_server() -> Response {
    reply::error(StatusCode::NOT_FOUND, "no such server, or none this key may use")
}

/// The version a client asks for, or the one we offer instead, and what the client can do.
pub(super) fn requested(
    params: Option<Json<'_>>,
) -> Result<(ProtocolVersion, Bytes), Cow<'static, str>> {
    let params: Option<InitializeParams<'_>> =
        params.and_then(|params| serde_json::from_str(params.get()).ok());
    let params = params.ok_or("initialize needs a `protocolVersion`")?;
    let capabilities = params.capabilities.map_or("", Json::get);
    if capabilities.len() > MAX_CAPABILITIES {
        let limit = format!("`capabilities` are longer than the limit of {MAX_CAPABILITIES} bytes");
        return Err(limit.into());
    }
    let capabilities = if capabilities.starts_with('{') { capabilities } else { "" };
    let version = ProtocolVersion::negotiate(&params.protocol_version);
    Ok((version, Bytes::copy_from_slice(capabilities.as_bytes())))
}

/// The answer to `initialize`.
pub(super) fn initialized(id: Id<'_>, version: ProtocolVersion, offer: &Offer<'_>) -> Bytes {
    let instructions = offer
        .instructions
        .map_or(Cow::Borrowed(""), |text| format!(r#","instructions":{text}"#).into());
    let answer = format!(
        r#"{{"protocolVersion":"{version}","capabilities":{},"serverInfo":{}{instructions}}}"#,
        offer.capabilities,
        offer.server_info.unwrap_or(&US),
    );
    result(id, &answer)
}

/// What a client tells within its session.
pub(super) fn notified(
    app: &Downstream,
    principal: &Principal,
    session: SessionId,
    body: &Bytes,
    (method, params): (&str, Option<Json<'_>>),
) {
    match method {
        "notifications/cancelled" => cancel(app, session, body, params),
        // Of nobody but the servers that can ask for them.
        "notifications/roots/list_changed" => {
            app.tell_legs(principal, session, |_| {
                Bytes::from_static(
                    br#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#,
                )
            });
        }
        _ => {}
    }
}

/// Passes a cancellation on to the call it means.
fn cancel(app: &Downstream, session: SessionId, body: &Bytes, params: Option<Json<'_>>) {
    let params: Option<CancelledParams<'_>> =
        params.and_then(|params| serde_json::from_str(params.get()).ok());
    if let Some(params) = params {
        app.calls.cancel(session, body.slice_ref(params.request_id.get().as_bytes()));
    }
}

fn unknown_version(id: Id<'_>, version: Option<&str>) -> Option<Response> {
    let version = version.filter(|version| ProtocolVersion::from_wire(version).is_none())?;
    let known: String = version.chars().take(32).collect();
    let message = format!("MCP-Protocol-Version {known} is not supported");
    let body = error_response(Some(id.as_json()), INVALID_REQUEST, &message);
    Some(reply::json(StatusCode::BAD_REQUEST, body))
}

fn refuse(id: Id<'_>, code: i32, message: &str) -> Response {
    reply::message(error_response(Some(id.as_json()), code, message))
}

/// The answer to what is no message.
pub(super) fn unreadable(error: &ParseError) -> Response {
    let (code, id) = match error {
        ParseError::Shape { id, .. } => (INVALID_REQUEST, id.as_deref()),
        _ => (PARSE_ERROR, None),
    };
    reply::json(StatusCode::BAD_REQUEST, error_response(id, code, &error.to_string()))
}

/// What a client takes for an answer.
struct Accepts {
    events: bool,
}

impl Accepts {
    /// `None` if it takes no JSON. A client that does not say takes JSON only.
    fn of(headers: &HeaderMap) -> Option<Self> {
        // As the specification has it, and all SDKs.
        const BOTH: &str = "application/json, text/event-stream";
        let mut values = headers.get_all(header::ACCEPT).iter().peekable();
        if values.peek().is_some_and(|value| *value == BOTH) {
            return Some(Self { events: true });
        }
        if values.peek().is_none() {
            return Some(Self { events: false });
        }
        let (mut json, mut events) = (false, false);
        for range in values.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(',')) {
            match range.split(';').next().unwrap_or_default().trim() {
                "application/json" | "application/*" | "*/*" => json = true,
                "text/event-stream" | "text/*" => events = true,
                _ => {}
            }
        }
        json.then_some(Self { events })
    }
}

/// Takes the wrapped form `{"version":…,"request":{…}}` apart.
fn unwrap(body: &Bytes) -> Bytes {
    #[derive(Deserialize)]
    struct Wrapped<'a> {
        #[serde(borrow)]
        request: Json<'a>,
    }
    // serde reads a list as an object without names, which would make a batch of one a request.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return body.clone();
    }
    match serde_json::from_slice::<Wrapped<'_>>(body) {
        Ok(Wrapped { request }) => body.slice_ref(request.get().as_bytes()),
        Err(_) => body.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wrapped_form_is_taken_apart() {
        let plain = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        for (body, expected) in [
            (plain.to_owned(), plain),
            (format!(r#"{{"request":{plain}}}"#), plain),
            (format!(r#"{{"version":"1","request": {plain} }}"#), plain),
            ("{".to_owned(), "{"),
        ] {
            assert_eq!(unwrap(&Bytes::from(body.clone())), expected, "{body}");
        }
    }

    #[test]
    fn accept_says_what_may_come() {
        for (accept, expected) in [
            (None, Some(false)),
            (Some("application/json, text/event-stream"), Some(true)),
            (Some("text/event-stream;q=0.9, application/json"), Some(true)),
            (Some("application/json"), Some(false)),
            (Some("*/*"), Some(false)),
            (Some("text/event-stream"), None),
            (Some("text/html"), None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(Accepts::of(&headers).map(|accepts| accepts.events), expected, "{accept:?}");
        }
    }
}
