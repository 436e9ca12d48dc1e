//! What a request asks for, and the answer or the call that comes of it.

use std::sync::Arc;

use bytes::Bytes;
use gateway_core::{Principal, Scope};
use mcp::Era;
use mcp::error::{INVALID_PARAMS, METHOD_NOT_FOUND, OVERLOADED, error_response};
use mcp::json::Json;
use mcp::logging::{self, Level};
use mcp::message::Id;

use super::Downstream;
use super::list::List;
use super::route;
use super::watch;
use crate::call::{Call, Trace};
use crate::client::Client;
use crate::peer::Pod;

/// A request of a client, read.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    /// The whole message.
    pub(super) message: &'a Bytes,
    pub(super) id: Id<'a>,
    pub(super) method: &'a str,
    pub(super) params: Option<Json<'a>>,
}

/// From whom and through which URL.
#[derive(Debug)]
pub(super) struct Asker<'a> {
    pub(super) principal: &'a Principal,
    pub(super) scope: &'a Scope,
    pub(super) client: Client,
    /// Whether it takes more than the answer on the stream of the answer.
    pub(super) streams: bool,
    pub(super) trace: Trace,
    /// Whether another gateway may answer in place of this one.
    pub(super) relayable: bool,
}

/// What comes of a request.
#[derive(Debug)]
pub(super) enum Reply<'a> {
    /// An answer at once.
    Now(Bytes),
    /// A server has to answer.
    Call(Box<Call>),
    /// Another gateway has what is needed for the answer.
    Away(Box<Away<'a>>),
}

/// A request for another gateway.
#[derive(Debug)]
pub(super) struct Away<'a> {
    pub(super) pod: Arc<Pod>,
    pub(super) asker: Asker<'a>,
    /// Whether it may be done twice.
    pub(super) replayable: bool,
}

/// Answers a request, or starts the call that will.
pub(super) fn dispatch<'a>(asked: &Asked<'_>, asker: Asker<'a>, app: &Downstream) -> Reply<'a> {
    if let Some(list) = List::of(asked.method) {
        return Reply::Now(list.answer(asked, &asker));
    }
    let routed = match (asked.method, asker.client.era()) {
        ("tools/call", _) => route::tool(asked, &asker),
        ("prompts/get", _) => route::prompt(asked, &asker),
        ("resources/read", _) => route::resource(asked, &asker),
        ("completion/complete", _) => route::completion(asked, &asker),
        ("ping", Era::Legacy) => return Reply::Now(result(asked.id, "{}")),
        ("logging/setLevel", Era::Legacy) => {
            return Reply::Now(set_level(asked, &asker, app));
        }
        ("resources/subscribe", Era::Legacy) => match watch::subscribe(asked, &asker, app) {
            watch::Subscribing::Done(answer) => return Reply::Now(answer),
            watch::Subscribing::Passed(routed) => Ok(routed),
        },
        ("resources/unsubscribe", Era::Legacy) => match watch::unsubscribe(asked, &asker, app) {
            watch::Subscribing::Done(answer) => return Reply::Now(answer),
            watch::Subscribing::Passed(routed) => Ok(routed),
        },
        ("tasks/get" | "tasks/cancel" | "tasks/update", _) | ("tasks/result", Era::Legacy) => {
            route::task(asked, &asker, app)
        }
        ("tasks/list", Era::Legacy) => {
            route::tasks(asked, &asker, app).ok_or_else(|| unknown(asked.id, asked.method))
        }
        // Gone with that era. A legacy server would tell of everybody's tasks, under its own ids.
        ("tasks/list" | "tasks/result", Era::Modern) => Err(unknown(asked.id, asked.method)),
        (method, _) => route::other(asked, &asker).ok_or_else(|| unknown(asked.id, method)),
    };
    let routed = match routed {
        Ok(routed) => routed,
        Err(refusal) => return Reply::Now(refusal),
    };
    let published = app.commons.table.load();
    let Some(upstream) = published.upstream(routed.server()) else {
        return Reply::Now(route::gone(asked));
    };
    if let Some(pod) = route::elsewhere(upstream, &asker, app) {
        let replayable = routed.is_replayable();
        return Reply::Away(Box::new(Away { pod, asker, replayable }));
    }
    match route::start(asked, asker, routed, upstream, app) {
        Ok(call) => Reply::Call(Box::new(call)),
        Err(refusal) => Reply::Now(refusal),
    }
}

/// An answer with a raw result.
pub(super) fn result(id: Id<'_>, result: &str) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id.as_json()).into()
}

pub(super) fn refuse(id: Id<'_>, code: i32, message: &str) -> Bytes {
    error_response(Some(id.as_json()), code, message)
}

fn unknown(id: Id<'_>, method: &str) -> Bytes {
    refuse(id, METHOD_NOT_FOUND, &format!("method not found: {}", shortened(method)))
}

/// What a client sent is quoted in errors up to here.
pub(super) fn shortened(text: &str) -> &str {
    const QUOTED: usize = 128;
    text.char_indices().nth(QUOTED).map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}

/// Notes which log messages a session wants, and tells the servers where it has legs of its own.
fn set_level(asked: &Asked<'_>, asker: &Asker<'_>, app: &Downstream) -> Bytes {
    let Some(level) = asked.params.and_then(|params| Level::parse(params).ok()) else {
        let levels: Vec<&str> = Level::ALL.iter().map(|level| level.as_str()).collect();
        let message = format!("logging/setLevel needs a `level` of {}", levels.join(", "));
        return refuse(asked.id, INVALID_PARAMS, &message);
    };
    if let Some(session) = asker.client.session() {
        app.commons.homes.of(session).set_level(level);
        app.tell_legs(asker.principal, session, |id| logging::set_level(id, level));
    }
    result(asked.id, "{}")
}

/// A client that sends faster than it reads.
pub(super) fn overloaded(id: Id<'_>) -> Bytes {
    refuse(id, OVERLOADED, "too many calls are under way in this session; wait for some to end")
}
