//! Requests that need what another gateway has, and news that concerns whichever has it.

use std::sync::Arc;

use bytes::Bytes;
use gateway_core::Principal;
use http::StatusCode;
use http::request::Parts;
use mcp::error::{UPSTREAM, error_response};

use super::Downstream;
use super::body::Body;
use super::dispatch::{Asked, Asker, Away, Reply, dispatch};
use super::reply::{self, Response};
use super::{answer as answers, watch};
use crate::call::Call;
use crate::peer::{Letter, NotRelayed, Pod};
use crate::upstream::leg::is_stream;

/// Gateways that are tried before this one answers as well as it can.
const TRIES: usize = 3;

/// What sessions set, and all gateways keep: the stream on which it shows may be at any of them.
const SETTINGS: [&str; 3] = ["logging/setLevel", "resources/subscribe", "resources/unsubscribe"];

/// How a request is answered.
pub(super) enum Answered {
    /// At once.
    Now(Bytes),
    /// By a server.
    Call(Box<Call>),
    /// By another gateway.
    There(Response),
}

/// Answers a request, or has the gateway answer it at which its client's legs are.
pub(super) async fn answer(
    app: &Downstream,
    asked: &Asked<'_>,
    parts: &Parts,
    mut asker: Asker<'_>,
) -> Answered {
    let principal = asker.principal;
    let tells =
        asker.relayable && asker.client.session().is_some() && SETTINGS.contains(&asked.method);
    let (mut tries, mut repeated) = (TRIES, false);
    loop {
        let reply = dispatch(asked, asker, app);
        if tells && !matches!(reply, Reply::Away(_)) {
            Box::pin(tell_all(app, parts, asked.message, principal)).await;
        }
        let Away { pod, asker: back, replayable } = match reply {
            Reply::Now(message) => return Answered::Now(message),
            Reply::Call(call) => return Answered::Call(call),
            Reply::Away(away) => *away,
        };
        // Boxed, as all that is rare: what a connection may ever await is part of it as long as it lasts.
        let relayed = Box::pin(try_relay(app, &pod, asked, parts, principal)).await;
        let answer = match relayed {
            // Once, and where nothing of an answer has come: as a server is asked again (DESIGN §4, Legs).
            Err(NotRelayed::BrokenOff) if replayable && !std::mem::replace(&mut repeated, true) => {
                None
            }
            relayed => told(asked, relayed),
        };
        if let Some(answer) = answer {
            if tells {
                hear(app, asked, back);
                Box::pin(tell_all(app, parts, asked.message, principal)).await;
            }
            return Answered::There(answer);
        }
        tries -= 1;
        asker = Asker { relayable: tries > 0, ..back };
    }
}

/// Notes what a session set at another gateway: the next leg for it may be opened here.
pub(super) fn hear(app: &Downstream, asked: &Asked<'_>, asker: Asker<'_>) {
    match asked.method {
        "logging/setLevel" => {
            // Who set it was answered.
            let _ = dispatch(asked, asker, app);
        }
        "resources/subscribe" | "resources/unsubscribe" => watch::note(asked, &asker, app),
        _ => {}
    }
}

/// Has another gateway answer a request. `None` if it has seen nothing of it.
pub(super) async fn relay(
    app: &Downstream,
    pod: &Arc<Pod>,
    asked: &Asked<'_>,
    parts: &Parts,
    principal: &Principal,
) -> Option<Response> {
    told(asked, try_relay(app, pod, asked, parts, principal).await)
}

async fn try_relay(
    app: &Downstream,
    pod: &Arc<Pod>,
    asked: &Asked<'_>,
    parts: &Parts,
    principal: &Principal,
) -> Result<Response, NotRelayed> {
    let mut response = app.fleet.relay(pod, parts, asked.message, of(principal)).await?;
    // What has begun as a stream of events can still end with an answer.
    if is_stream(response.headers())
        && let Body::Relayed(relayed) = response.body_mut()
    {
        relayed.else_say(answers::message(&broken_off(asked)));
    }
    Ok(response)
}

fn broken_off(asked: &Asked<'_>) -> Bytes {
    let message = "the gateway that had this session's connection to the server went away before \
                   it answered; it may have done what it was asked: call again if that does no harm";
    error_response(Some(asked.id.as_json()), UPSTREAM, message)
}

/// What the client is told; `None` if nothing was done and another gateway may do it.
fn told(asked: &Asked<'_>, relayed: Result<Response, NotRelayed>) -> Option<Response> {
    match relayed {
        Ok(response) => Some(response),
        Err(NotRelayed::Unreached) => None,
        Err(NotRelayed::BrokenOff) => Some(reply::message(broken_off(asked))),
        Err(NotRelayed::Crowded) => {
            let message =
                "too many requests of other gateways' sessions are under way here; try again";
            Some(reply::later(StatusCode::SERVICE_UNAVAILABLE, message))
        }
    }
}

/// Lets all other gateways know what a client said.
pub(super) async fn tell_all(app: &Downstream, parts: &Parts, body: &Bytes, principal: &Principal) {
    app.fleet.tell_all(parts, body, Letter { told: true, ..of(principal) }).await;
}

fn of(principal: &Principal) -> Letter {
    Letter { principal: Some(principal.digest()), ..Letter::default() }
}
