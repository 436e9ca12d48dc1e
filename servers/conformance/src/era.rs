//! The two eras of the protocol, and how a server of the one refuses the other.

use axum::{
    body::{self, Body},
    extract::Request,
    http::{HeaderMap, Method, StatusCode, header::CONTENT_TYPE},
    middleware::Next,
    response::{IntoResponse, Response},
};
use clap::ValueEnum;
use rmcp::{
    RoleServer,
    model::{ErrorCode, ProtocolVersion},
    service::RequestContext,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// Which revisions of the protocol a server speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Era {
    /// All of them.
    #[default]
    Dual,
    /// Those with `initialize`, up to 2025-11-25.
    Legacy,
    /// 2026-07-28.
    Modern,
}

impl Era {
    pub(crate) fn versions(self) -> &'static [ProtocolVersion] {
        match self {
            Self::Dual => ProtocolVersion::KNOWN_VERSIONS,
            Self::Legacy => ProtocolVersion::known_up_to(&ProtocolVersion::LATEST_WITH_INITIALIZE),
            Self::Modern => MODERN,
        }
    }
}

/// Whether a request is of the modern era: it carries its revision with it.
pub(crate) fn is_modern(context: &RequestContext<RoleServer>) -> bool {
    context.protocol_version().is_some_and(|version| !version.has_initialize())
}

/// Answers requests of the modern era as a server does that has never heard of it. rmcp would know better.
pub(crate) async fn refuse_modern(request: Request, next: Next) -> Response {
    if let Some(version) = unknown_version(request.headers()) {
        let known: Vec<&str> = Era::Legacy.versions().iter().map(ProtocolVersion::as_str).collect();
        let known = known.join(", ");
        let message =
            format!("Unsupported protocol version: {version} (supported versions: {known})");
        return refuse(StatusCode::BAD_REQUEST, BAD_REQUEST, &message, &Value::Null);
    }
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let Ok(body) = body::to_bytes(body, LARGEST_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let envelope: Envelope = serde_json::from_slice(&body).unwrap_or_default();
    let method = envelope.method.as_deref();
    if method != Some("initialize") && !head.headers.contains_key("mcp-session-id") {
        let message = "Mcp-Session-Id header is required";
        return refuse(StatusCode::BAD_REQUEST, BAD_REQUEST, message, &Value::Null);
    }
    if method == Some("server/discover") {
        return refuse(
            StatusCode::OK,
            ErrorCode::METHOD_NOT_FOUND.0,
            "Method not found",
            &envelope.id,
        );
    }
    next.run(Request::from_parts(head, Body::from(body))).await
}

/// The revision that the request names, if it is none of the legacy era.
fn unknown_version(headers: &HeaderMap) -> Option<String> {
    let version = headers.get("mcp-protocol-version")?;
    let known = Era::Legacy.versions().iter().any(|known| known.as_str() == version);
    (!known).then(|| String::from_utf8_lossy(version.as_bytes()).into_owned())
}

fn refuse(status: StatusCode, code: i32, message: &str, id: &Value) -> Response {
    let error = json!({ "code": code, "message": message });
    let body = json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string();
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}

/// As much of a message as it takes to refuse it.
#[derive(Default, Deserialize)]
struct Envelope {
    method: Option<String>,
    #[serde(default)]
    id: Value,
}

const MODERN: &[ProtocolVersion] = &[ProtocolVersion::V_2026_07_28];

/// What the official SDKs answer when the HTTP request itself is wrong.
const BAD_REQUEST: i32 = -32000;

/// As much as rmcp takes.
const LARGEST_BODY: usize = 4 * 1024 * 1024;
