//! The port for other gateways: what they may ask, and that it is they who ask.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use gateway_core::Principal;
use http::{HeaderValue, Method, Request, StatusCode};
use jiff::Timestamp;

use super::finder::{Announced, HELLO, Hello, Here};
use super::relay::REFUSED;
use super::seal::{Asked, Opened};
use super::{Condition, Fleet, Letter, Tag, brief, courier};
use crate::downstream::reply::{self, Response};
use crate::downstream::revival::{Listener, Turn};
use crate::downstream::{self, Downstream, Passed};
use crate::http1::Incoming;

/// Answers another gateway.
pub(crate) async fn serve(
    app: Arc<Downstream>,
    request: Request<Incoming>,
    from: SocketAddr,
    at: Option<IpAddr>,
) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let asked = Asked::of(&parts.headers);
    let opened = match app.fleet.open(&parts.method, path, &parts.headers, path == HELLO) {
        Ok(opened) => opened,
        Err(error) => {
            app.telemetry.unauthorized.inc();
            tracing::debug!(%from, %error, "a request on the port for gateways is refused");
            return refused(StatusCode::FORBIDDEN, &error.to_string());
        }
    };
    let fleet = app.fleet.clone();
    let mut response = answer(app, parts, body, opened, (from, at)).await;
    if let Some(asked) = asked {
        fleet.vouch(asked, response.headers_mut());
    }
    response
}

async fn answer(
    app: Arc<Downstream>,
    parts: http::request::Parts,
    body: Incoming,
    opened: Opened,
    (from, at): (SocketAddr, Option<IpAddr>),
) -> Response {
    let path = parts.uri.path();
    if !path.starts_with("/peer/") {
        return relayed(app, parts, body, opened).await;
    }
    let told = downstream::read_told(&app, &parts, body, opened.body).await;
    let told = match told {
        Ok(told) => told,
        Err(response) => return response,
    };
    match (path, &parts.method, opened.letter.session) {
        (HELLO, &Method::POST, _) => hello(&app.fleet, (opened.from, from), at, &told),
        (brief::BRIEF, &Method::POST, _) => {
            let learnt = brief::learn(&app, &told);
            if learnt { reply::accepted() } else { refused(StatusCode::BAD_REQUEST, "unreadable") }
        }
        (courier::SAY, &Method::POST, Some(session)) => {
            let home = app.commons.homes.get(session);
            let said = home.is_some_and(|home| home.say(told));
            if said { reply::accepted() } else { refused(StatusCode::NOT_FOUND, "no such stream") }
        }
        (courier::ATTEND, &Method::POST, Some(session)) => {
            let principal = match principal(&app, &opened) {
                Ok(Some(principal)) => principal,
                Ok(None) => return refused(StatusCode::BAD_REQUEST, "nobody's session"),
                Err(response) => return response,
            };
            match Listener::of(principal, session, &told) {
                // Without a place it is asked again in time.
                Some(listener) => {
                    let _ = app.revivals.try_send(Turn::Passed(listener));
                    reply::accepted()
                }
                None => refused(StatusCode::BAD_REQUEST, "unreadable"),
            }
        }
        (courier::TOOK, &Method::POST, Some(session)) => {
            if let Some(home) = app.commons.homes.get(session) {
                home.disconnect();
            }
            reply::accepted()
        }
        _ => refused(StatusCode::NOT_FOUND, "no such path"),
    }
}

/// A request of a client of another gateway's.
async fn relayed(
    app: Arc<Downstream>,
    parts: http::request::Parts,
    body: Incoming,
    opened: Opened,
) -> Response {
    let principal = match principal(&app, &opened) {
        Ok(principal) => principal,
        Err(response) => return response,
    };
    let Letter { session, told, .. } = opened.letter;
    let passed = Passed { principal, session, told, body: opened.body };
    downstream::serve_passed(app, parts, body, passed).await
}

/// Whose request it is, if that is said.
fn principal(app: &Downstream, opened: &Opened) -> Result<Option<Principal>, Response> {
    let Some(digest) = opened.letter.principal else { return Ok(None) };
    // Known there and not here: one of the two tables is older.
    let known = app.commons.table.load().snapshot.authenticate(&digest, Timestamp::now());
    known.map(Some).map_err(|_| refused(StatusCode::CONFLICT, "this gateway does not know the key"))
}

fn hello(
    fleet: &Fleet,
    (tag, from): (Tag, SocketAddr),
    at: Option<IpAddr>,
    body: &[u8],
) -> Response {
    let Ok(Hello { asked, port, draining }) = serde_json::from_slice(body) else {
        return refused(StatusCode::BAD_REQUEST, "hello needs `asked` and `port`");
    };
    // Somebody passes on what was for itself, to be taken for this gateway.
    if at != Some(asked) {
        fleet.telemetry.unauthorized.inc();
        tracing::debug!(%from, %asked, "a hello for another address is refused");
        return refused(StatusCode::FORBIDDEN, "this hello is for another address");
    }
    let known = fleet.pod(tag);
    if let Some(pod) = known.as_ref().filter(|_| draining) {
        fleet.enter(pod, Condition::Draining);
    }
    if known.is_none() && tag != fleet.own {
        let address = SocketAddr::new(from.ip(), port);
        // One that is not heard now is heard the next time.
        let _ = fleet.announced.try_send(Announced { tag, address });
    }
    let here = Here { tag: fleet.own.to_bytes(), draining: fleet.is_draining() };
    reply::value(StatusCode::OK, &here)
}

/// What is not for this gateway, of which nothing was done.
fn refused(status: StatusCode, message: &str) -> Response {
    let mut response = reply::error(status, message);
    response.headers_mut().insert(REFUSED, HeaderValue::from_static("1"));
    response
}
