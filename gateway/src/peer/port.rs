//! The port for other gateways: what they may ask, and that it is they who ask.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use jiff::Timestamp;

use super::finder::{Announced, HELLO, Hello, Here, PROOF};
use super::relay::REFUSED;
use super::seal::Opened;
use super::{Condition, Fleet, Letter, Tag, courier};
use crate::downstream::reply::{self, Response};
use crate::downstream::{self, Downstream, Passed};

/// Answers another gateway.
pub(crate) async fn serve(
    app: Arc<Downstream>,
    request: Request<Incoming>,
    from: SocketAddr,
) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path();
    let opened = match app.fleet.open(&parts.method, path, &parts.headers, path == HELLO) {
        Ok(opened) => opened,
        Err(error) => {
            app.telemetry.unauthorized.inc();
            tracing::debug!(%from, %error, "a request on the port for gateways is refused");
            return refused(StatusCode::FORBIDDEN, &error.to_string());
        }
    };
    if !path.starts_with("/peer/") {
        return relayed(app, parts, body, opened).await;
    }
    let told = downstream::read_told(&app, &parts, body, opened.body).await;
    let told = match told {
        Ok(told) => told,
        Err(response) => return response,
    };
    match (path, &parts.method, opened.letter.session) {
        (HELLO, &Method::POST, _) => hello(&app.fleet, &parts.headers, opened.from, from, &told),
        (courier::SAY, &Method::POST, Some(session)) => {
            let home = app.homes.get(session);
            let said = home.is_some_and(|home| home.say(told));
            if said { reply::accepted() } else { refused(StatusCode::NOT_FOUND, "no such stream") }
        }
        (courier::TOOK, &Method::POST, Some(session)) => {
            if let Some(home) = app.homes.get(session) {
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
    let principal = match opened.letter.principal {
        None => None,
        // Known there and not here: one of the two tables is older.
        Some(digest) => match app.table.load().snapshot.authenticate(&digest, Timestamp::now()) {
            Ok(principal) => Some(principal),
            Err(_) => return refused(StatusCode::CONFLICT, "this gateway does not know the key"),
        },
    };
    let Letter { session, told, .. } = opened.letter;
    let passed = Passed { principal, session, told, body: opened.body };
    downstream::serve_passed(app, parts, body, passed).await
}

fn hello(
    fleet: &Fleet,
    headers: &http::HeaderMap,
    tag: Tag,
    from: SocketAddr,
    body: &[u8],
) -> Response {
    let Ok(Hello { port, draining }) = serde_json::from_slice(body) else {
        return refused(StatusCode::BAD_REQUEST, "hello needs a port");
    };
    let known = fleet.pod(tag);
    if let Some(pod) = known.as_ref().filter(|_| draining) {
        pod.enter(Condition::Draining);
    }
    if known.is_none() && tag != fleet.own {
        let address = SocketAddr::new(from.ip(), port);
        // One that is not heard now is heard the next time.
        let _ = fleet.announced.try_send(Announced { tag, address });
    }
    let here = Here { tag: fleet.own.to_bytes(), draining: fleet.is_draining() };
    let mut response = reply::value(StatusCode::OK, &here);
    let proof = fleet.answer_to(headers).and_then(|proof| HeaderValue::try_from(proof).ok());
    if let Some(proof) = proof {
        response.headers_mut().insert(PROOF, proof);
    }
    response
}

/// What is not for this gateway, of which nothing was done.
fn refused(status: StatusCode, message: &str) -> Response {
    let mut response = reply::error(status, message);
    response.headers_mut().insert(REFUSED, HeaderValue::from_static("1"));
    response
}
