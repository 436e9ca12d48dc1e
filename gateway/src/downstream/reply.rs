//! Responses that are the same everywhere.

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;

use super::body::Body;

pub(crate) type Response = http::Response<Body>;

#[derive(Serialize)]
struct Problem<'a> {
    error: &'a str,
}

/// Every response begins here. What is answered is one key's, or of this moment: never kept.
fn bare(status: StatusCode, body: Body) -> Response {
    // Room for what is added: it grows by a copy.
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// JSON with a status.
pub(crate) fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = bare(status, body.into());
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A value as JSON.
pub(crate) fn value(status: StatusCode, value: &impl Serialize) -> Response {
    json(status, serde_json::to_vec(value).unwrap_or_default())
}

/// The one shape of errors that are HTTP's, not the protocol's.
pub(crate) fn error(status: StatusCode, message: &str) -> Response {
    value(status, &Problem { error: message })
}

/// 401, which tells clients how to authenticate.
pub(crate) fn unauthorized(message: &str) -> Response {
    let mut response = error(StatusCode::UNAUTHORIZED, message);
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"fairway\""));
    response
}

/// Before the first table nobody can be told who they are.
pub(crate) fn not_ready() -> Response {
    let message = "the gateway is starting and has not read its configuration yet; try again";
    later(StatusCode::SERVICE_UNAVAILABLE, message)
}

/// Refused for the moment.
pub(crate) fn later(status: StatusCode, message: &str) -> Response {
    let mut response = error(status, message);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// A message was taken and has no answer here.
pub(crate) fn accepted() -> Response {
    bare(StatusCode::ACCEPTED, Body::empty())
}

/// Done, and nothing to say.
pub(crate) fn done() -> Response {
    bare(StatusCode::NO_CONTENT, Body::empty())
}

/// A message as the whole answer.
pub(crate) fn message(message: impl Into<Body>) -> Response {
    json(StatusCode::OK, message)
}

/// Metrics as OpenMetrics text.
pub(crate) fn metrics(text: String) -> Response {
    let mut response = bare(StatusCode::OK, Body::from(text.into_bytes()));
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// Lines of JSON, as long as there are any.
pub(crate) fn lines(lines: BoxStream<'static, Bytes>) -> Response {
    let mut response = bare(StatusCode::OK, Body::Lines(lines));
    let media_type = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}

/// An answer that broke off before any of it was sent.
pub(crate) fn broken_off() -> Response {
    error(StatusCode::BAD_GATEWAY, "the answer broke off")
}

/// A stream of events that no proxy on the way may hold back.
pub(crate) fn events(body: Body) -> Response {
    let mut response = bare(StatusCode::OK, body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}
