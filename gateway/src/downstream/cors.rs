//! Pages of other sites that may use the gateway all the same, and what their browsers are told.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::reply::{self, Response};
use crate::config::Settings;

const ALLOW_METHODS: HeaderValue = HeaderValue::from_static("GET, POST, DELETE");
/// What clients send that is not a matter of course.
const ALLOW_HEADERS: HeaderValue = HeaderValue::from_static(
    "accept, authorization, content-type, last-event-id, mcp-method, mcp-name, \
     mcp-protocol-version, mcp-session-id, x-api-key",
);
/// What a page may read besides the body.
const EXPOSE_HEADERS: HeaderValue =
    HeaderValue::from_static("mcp-protocol-version, mcp-session-id, retry-after, www-authenticate");
/// How many seconds a browser need not ask again. A request of an origin that was taken away is
/// refused all the same.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const ORIGIN: HeaderValue = HeaderValue::from_static("Origin");

/// Whether a browser asks what a page of another site may send.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to it. Needs no key: browsers send none.
pub(super) fn preflight(settings: &Settings, headers: &HeaderMap) -> Response {
    if !headers.get(header::ORIGIN).is_some_and(|origin| settings.admits(origin)) {
        let message = "pages of this origin may not use the gateway; it is not in cors.origins";
        return reply::error(StatusCode::FORBIDDEN, message);
    }
    let mut response = reply::done();
    let answer: [(HeaderName, HeaderValue); 3] = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, ALLOW_METHODS),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOW_HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE),
    ];
    response.headers_mut().extend(answer);
    response
}

/// Whose pages may read a response.
pub(super) enum Readers {
    /// The gateway's own, of which nothing is said.
    Own,
    /// Another request might say of others.
    OwnHere,
    /// Those of this origin, too.
    Of(HeaderValue),
}

impl Readers {
    pub(super) fn of(settings: &Settings, headers: &HeaderMap) -> Self {
        if !settings.has_cors() {
            return Self::Own;
        }
        let origin = headers.get(header::ORIGIN).filter(|origin| settings.admits(origin));
        origin.cloned().map_or(Self::OwnHere, Self::Of)
    }

    /// Tells the browser.
    pub(super) fn tell(self, headers: &mut HeaderMap) {
        match self {
            Self::Own => return,
            Self::OwnHere => {}
            Self::Of(origin) => {
                headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSE_HEADERS);
            }
        }
        headers.insert(header::VARY, ORIGIN);
    }
}
