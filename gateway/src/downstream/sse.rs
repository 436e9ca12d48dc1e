//! HTTP+SSE, 2024-11-05: one stream carries all answers, messages are posted beside it.
//!
//! A client that comes back after the stream ended does not say `initialize` again (the SDKs
//! do not), so every stream serves calls from its first moment: that is how such sessions outlive a restart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::{Bytes, BytesMut};
use gateway_core::{Namespace, Principal, Scope};
use http::StatusCode;
use jiff::Timestamp;
use mcp::error::{INVALID_PARAMS, METHOD_NOT_FOUND, error_response};
use mcp::{Era, Message, ProtocolVersion, sse};
use tokio::sync::mpsc;

use super::body::Body;
use super::dispatch::{Asked, Asker, Reply, dispatch, overloaded};
use super::events::{EventBody, MAX_CALLS, Outgoing};
use super::reply::{self, Response};
use super::streamable::{initialized, notified, requested, unreadable};
use super::{Arrival, Downstream, capability, read_body};
use crate::authn::{Source, Unauthorized, parameter};
use crate::call::{Trace, trace_of};
use crate::client::{Client, Member};
use crate::home::Home;
use crate::peer::{Letter, Tag};
use crate::session::{SessionId, Terms, Transport};

/// Sessions rarely meet in one shard.
const SHARDS: usize = 64;

/// All open streams.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    shards: Arc<[Mutex<HashMap<SessionId, OpenStream>>; SHARDS]>,
}

/// How to reach an open stream.
#[derive(Debug, Clone)]
struct OpenStream {
    outgoing: mpsc::Sender<Outgoing>,
    principal: Principal,
    /// The key stood in the URL, which clients drop: the id of the stream stands for it.
    by_query: bool,
}

/// A stream's place in the table, given up when it is dropped.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: SessionId,
    shards: Weak<[Mutex<HashMap<SessionId, OpenStream>>; SHARDS]>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(shards) = self.shards.upgrade() {
            lock(&shards[self.id.shard(SHARDS)]).remove(&self.id);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Streams {
    pub(crate) fn new() -> Self {
        Self { shards: Arc::new(std::array::from_fn(|_| Mutex::default())) }
    }

    fn enter(
        &self,
        id: SessionId,
        principal: Principal,
        by_query: bool,
        home: &Home,
    ) -> (Stream, mpsc::Receiver<Outgoing>) {
        let (outgoing, received) = mpsc::channel(MAX_CALLS);
        home.connect(outgoing.clone());
        home.keep_to_itself();
        let stream = OpenStream { outgoing, principal, by_query };
        lock(&self.shards[id.shard(SHARDS)]).insert(id, stream);
        (Stream { id, shards: Arc::downgrade(&self.shards) }, received)
    }

    fn get(&self, id: SessionId) -> Option<OpenStream> {
        lock(&self.shards[id.shard(SHARDS)]).get(&id).cloned()
    }
}

/// Opens a stream.
pub(super) async fn open(app: Arc<Downstream>, arrival: Box<Arrival>) -> Response {
    let (principal, source) = match app.admit(&arrival).await {
        Ok(admitted) => admitted,
        Err(response) => return response,
    };
    let version = ProtocolVersion::V2024_11_05;
    let now = Timestamp::now();
    // What the client can do it says later, and only the stream's end forgets it.
    let (capabilities, home) = (Bytes::new(), app.fleet.own);
    let terms = Terms { transport: Transport::Sse, version, capabilities, home };
    let begun = app.commons.sealer.begin(&principal, &Scope::All, terms, now);
    let Some((session, token)) = begun else {
        return reply::error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "no session can be begun, try again",
        );
    };
    app.telemetry.sessions.inc();
    let (id, by_query) = (session.id, source == Source::Query);
    let home = app.commons.homes.of(id);
    let stream = app.streams.enter(id, principal.clone(), by_query, &home);
    let mut start = BytesMut::new();
    // How soon a client whose stream ended comes back: at once, but not all in one moment.
    start.extend_from_slice(format!("retry: {}\n", jittered_retry()).as_bytes());
    let endpoint = format!("{}?session_id={token}", endpoint(arrival.parts.uri.path()));
    sse::event(Some("endpoint"), None, endpoint.as_bytes(), &mut start);
    let body = EventBody::carrying(app, principal, stream, home, start.freeze());
    reply::events(Body::Stream(Box::new(body)))
}

/// Where messages are posted for a stream opened at `path`, relative to the same origin.
fn endpoint(path: &str) -> String {
    match path.strip_suffix("/mcp/sse") {
        Some(prefix) => format!("{prefix}/mcp/messages"),
        None => "/messages/".to_owned(),
    }
}

/// 100 to 500 ms.
fn jittered_retry() -> u64 {
    let mut random = [0];
    // Without randomness all come back in one moment, which is a burden, not a fault.
    let _ = aws_lc_rs::rand::fill(&mut random);
    100 + u64::from(random[0]) * 400 / 255
}

/// Takes a message for a stream; its answer goes out there.
pub(super) async fn post(app: Arc<Downstream>, arrival: Box<Arrival>) -> Response {
    if let Err(response) = app.admit_unkeyed(&arrival).await {
        return response;
    }
    let (id, home, presented) = match named(&app, &arrival) {
        Ok(named) => named,
        Err(response) => return response,
    };
    let Arrival { parts, body, target, came } = *arrival;
    let stream = app.streams.get(id);
    if stream.is_none()
        && let Some(pod) = home.and_then(|home| app.fleet.pod(home))
    {
        let account = presented.as_ref().map_or(&app.unkeyed, |principal| &principal.key.account);
        let read = read_body(&parts, body, &came, account, &app.commons.room).await;
        let principal = presented.map(|principal| principal.digest());
        let letter = Letter { principal, session: Some(id), told: false };
        return match read {
            Ok(body) => Box::pin(app.fleet.relay(&pod, &parts, &body, letter)).await.unwrap_or_else(|_| {
                let message = "the gateway that has this stream does not answer; try again, or open \
                               /sse again if the stream has ended";
                reply::later(StatusCode::SERVICE_UNAVAILABLE, message)
            }),
            Err(response) => response,
        };
    }
    let (stream, principal) = match admit(&app, stream, presented, target.tenant.as_ref()) {
        Ok(found) => found,
        Err(response) => return response,
    };
    let body = match read_body(&parts, body, &came, &principal.key.account, &app.commons.room).await
    {
        Ok(body) => body,
        Err(response) => return response,
    };
    let outgoing = match Message::parse(&body) {
        Ok(Message::Request { id: request, method, params }) => {
            let asked = Asked { message: &body, id: request, method: &method, params };
            // A place first: a call that is started must have somewhere to go.
            let Ok(place) = stream.outgoing.try_reserve() else {
                return reply::json(StatusCode::TOO_MANY_REQUESTS, overloaded(request));
            };
            let trace = trace_of(&parts.headers);
            place.send(answer(&app, &asked, &principal, id, trace));
            None
        }
        Ok(Message::Notification { method, params }) => {
            notified(&app, &principal, id, &body, (&method, params));
            None
        }
        Ok(Message::Response { id: question, .. }) => {
            if let Some(home) = app.commons.homes.get(id) {
                home.answer(question, &body);
            }
            None
        }
        Err(error) => Some(unreadable(&error)),
    };
    outgoing.unwrap_or_else(reply::accepted)
}

fn answer(
    app: &Downstream,
    asked: &Asked<'_>,
    principal: &Principal,
    session: SessionId,
    trace: Trace,
) -> Outgoing {
    let id = asked.id;
    let refuse =
        |code, message: &str| Outgoing::Message(error_response(Some(id.as_json()), code, message));
    if Era::of(asked.method, asked.params, None) == Era::Modern {
        return refuse(METHOD_NOT_FOUND, "begin with initialize: 2026-07-28 has no HTTP+SSE");
    }
    let home = app.commons.homes.of(session);
    if asked.method == "initialize" {
        return match (requested(asked.params), capability::offer(principal, &Scope::All)) {
            (Ok((version, capabilities)), Some(offer)) => {
                home.set_capabilities(capabilities);
                Outgoing::Message(initialized(id, version, &offer))
            }
            (Err(message), _) => refuse(INVALID_PARAMS, &message),
            (Ok(_), None) => refuse(INVALID_PARAMS, "nothing is offered here"),
        };
    }
    let capabilities = home.capabilities();
    let client = Client::Legacy(Some(Member { session, capabilities, home: app.fleet.own }));
    let asker =
        Asker { principal, scope: &Scope::All, client, streams: true, trace, relayable: false };
    match dispatch(asked, asker, app) {
        Reply::Now(message) => Outgoing::Message(message),
        Reply::Call(call) => Outgoing::Call(call, asked.message.len()),
        // Its legs are where its stream is.
        Reply::Away(_) => Outgoing::Message(overloaded(id)),
    }
}

/// The session that a message is for, the gateway that began it if that may have to take it, and who
/// sent it, if that is said.
fn named(
    app: &Downstream,
    arrival: &Arrival,
) -> Result<(SessionId, Option<Tag>, Option<Principal>), Response> {
    if let Some(passed) = arrival.came.passed() {
        let none = || reply::error(StatusCode::BAD_REQUEST, "passed on without a session");
        return Ok((passed.session.ok_or_else(none)?, None, passed.principal.clone()));
    }
    let Arrival { parts, target, .. } = arrival;
    let token = parts.uri.query().and_then(|query| parameter(query, "session_id"));
    let presented = app.authenticator.authenticate(parts, target.tenant.as_ref());
    let presented = match (presented, &token) {
        (Ok((principal, _)), _) => Some(principal),
        (Err(Unauthorized::Missing), Some(_)) => None,
        (Err(error), _) => {
            app.telemetry.unauthorized.inc();
            return Err(reply::unauthorized(&error.to_string()));
        }
    };
    let Some(token) = token else {
        return Err(reply::error(StatusCode::BAD_REQUEST, "post to the URL of the endpoint event"));
    };
    let session = app.commons.sealer.open(&token, Timestamp::now()).filter(|session| {
        let theirs = |principal| session.belongs_to(principal, &Scope::All);
        session.transport == Transport::Sse && presented.as_ref().is_none_or(theirs)
    });
    match session {
        Some(session) => Ok((session.id, Some(session.home), presented)),
        None => Err(gone(app, presented.is_some())),
    }
}

/// Who shows no key is not told which streams there are.
fn gone(app: &Downstream, shows_key: bool) -> Response {
    if shows_key {
        let message = "this stream has ended; open /sse again and post to its new endpoint";
        return reply::error(StatusCode::NOT_FOUND, message);
    }
    app.telemetry.unauthorized.inc();
    reply::unauthorized("missing API key")
}

/// A stream, and the principal it belongs to as the table of now has it. A credential that is sent
/// must be the stream's; without one the id itself is the credential if the stream was opened by
/// `?api_key=` and its key is still good.
fn admit(
    app: &Downstream,
    stream: Option<OpenStream>,
    presented: Option<Principal>,
    tenant: Option<&Namespace>,
) -> Result<(OpenStream, Principal), Response> {
    let Some(stream) = stream else { return Err(gone(app, presented.is_some())) };
    let whose =
        |principal: &Principal| (principal.key.namespace.clone(), principal.key.name.clone());
    let principal = match presented {
        Some(principal) if whose(&principal) == whose(&stream.principal) => principal,
        Some(_) => return Err(gone(app, true)),
        None if stream.by_query => {
            let principal = app.commons.table.renew(&stream.principal).ok_or_else(|| {
                app.telemetry.unauthorized.inc();
                reply::unauthorized("the API key of this stream is no longer valid")
            })?;
            if tenant.is_some_and(|tenant| *tenant != principal.key.namespace) {
                return Err(gone(app, false));
            }
            principal.key.account.note(Timestamp::now());
            principal
        }
        None => return Err(gone(app, false)),
    };
    Ok((stream, principal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_stay_beside_their_stream() {
        for (stream, expected) in [
            ("/sse", "/messages/"),
            ("/mcp/sse", "/mcp/messages"),
            ("/t/team/mcp/sse", "/t/team/mcp/messages"),
        ] {
            assert_eq!(endpoint(stream), expected, "{stream}");
        }
    }
}
