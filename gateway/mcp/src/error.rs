//! JSON-RPC error codes and answers. Performs no I/O.

use bytes::Bytes;
use serde::Serialize;

use crate::json::Json;
use crate::modern::SUPPORTED;
use crate::object::{Change, change, member, raw};
use crate::splice::Edit;

/// The bytes are not JSON.
pub const PARSE_ERROR: i32 = -32700;
/// JSON, but not a request.
pub const INVALID_REQUEST: i32 = -32600;
/// No such method.
pub const METHOD_NOT_FOUND: i32 = -32601;
/// Parameters of the wrong shape; also the answer for an unknown tool (MCP, server/tools).
pub const INVALID_PARAMS: i32 = -32602;
/// Our own failure.
pub const INTERNAL_ERROR: i32 = -32603;
/// A header is missing, malformed or says something else than the body (2026-07-28). Status 400.
pub const HEADER_MISMATCH: i32 = -32020;
/// The client did not declare a capability that the request needs (2026-07-28). Status 400.
pub const MISSING_CAPABILITY: i32 = -32021;
/// We do not speak the revision of the request (2026-07-28). Status 400.
pub const UNSUPPORTED_VERSION: i32 = -32022;
/// No such resource, until 2025-11-25; [`INVALID_PARAMS`] since.
pub const RESOURCE_NOT_FOUND: i32 = -32002;
/// The client must visit a URL first, in 2025-11-25 only; an `input_required` result since.
pub const URL_ELICITATION_REQUIRED: i32 = -32042;
/// The request was cancelled by its sender. Outside the range that JSON-RPC reserves.
pub const CANCELLED: i32 = -32800;
/// A server behind the gateway is away, too slow or talks nonsense. Outside the reserved range,
/// as MCP 2026-07-28 asks of codes of one's own (basic/index).
pub const UPSTREAM: i32 = -33000;
/// Too much is under way; the same request may succeed later.
pub const OVERLOADED: i32 = -33001;

#[derive(Serialize)]
struct ErrorResponse<'a> {
    jsonrpc: &'static str,
    id: Option<Json<'a>>,
    error: ErrorObject<'a>,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    code: i32,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Json<'a>>,
}

/// An error answer as JSON. `id` is the JSON text of the request's id; without one (or with text
/// that is not JSON) the answer's id is `null`, as JSON-RPC 2.0 §5 says.
pub fn error_response(id: Option<&str>, code: i32, message: &str) -> Bytes {
    respond(id, ErrorObject { code, message, data: None })
}

/// Like [`error_response`], with `data`: JSON text. Text that is not JSON is left out.
pub fn error_with_data(id: Option<&str>, code: i32, message: &str, data: &str) -> Bytes {
    respond(id, ErrorObject { code, message, data: raw(data) })
}

/// The answer to a request of a revision that we do not speak.
pub fn unsupported_version(id: Option<&str>, requested: &str) -> Bytes {
    #[derive(Serialize)]
    struct Data<'a> {
        supported: &'a [&'a str],
        requested: &'a str,
    }
    let data = Data { supported: SUPPORTED, requested };
    let data = serde_json::to_string(&data).unwrap_or_default();
    error_with_data(id, UNSUPPORTED_VERSION, "unsupported protocol version", &data)
}

/// The answer to a request that needs capabilities its client did not declare: `required` as JSON,
/// see [`required_capability`](crate::modern::required_capability).
pub fn missing_capability(id: Option<&str>, required: &str, message: &str) -> Bytes {
    let data = format!(r#"{{"requiredCapabilities":{required}}}"#);
    error_with_data(id, MISSING_CAPABILITY, message, &data)
}

/// The code of a raw `error`, if it has one.
pub fn code(error: Json<'_>) -> Option<i64> {
    member(error.get(), "code").and_then(|code| code.parse().ok())
}

/// The edits that make the `error` of a legacy server, a part of `message`, one for a modern client.
///
/// 2026-07-28 forbids two older codes, and gives meaning to others that older servers could only use
/// by chance (basic/index, error codes). Everything else stays.
pub fn modern_error(message: &[u8], error: Json<'_>) -> Vec<Edit<'static>> {
    const URL_MODE: &str = r#"{"requiredCapabilities":{"elicitation":{"url":{}}}}"#;
    let code = match code(error) {
        Some(code) if code == i64::from(RESOURCE_NOT_FOUND) => INVALID_PARAMS,
        Some(code) if code == i64::from(URL_ELICITATION_REQUIRED) => MISSING_CAPABILITY,
        Some(-32099..=-32020) => INTERNAL_ERROR,
        _ => return Vec::new(),
    };
    let mut changes = vec![Change::set("code", code.to_string())];
    if code == MISSING_CAPABILITY {
        changes.push(Change::set("data", URL_MODE));
    }
    change(message, error.get(), &changes).into_iter().map(Edit::into_owned).collect()
}

fn respond(id: Option<&str>, error: ErrorObject<'_>) -> Bytes {
    let body = ErrorResponse { jsonrpc: "2.0", id: id.and_then(raw), error };
    serde_json::to_vec(&body).map_or_else(|_| Bytes::from_static(FALLBACK), Bytes::from)
}

/// Unreachable in practice: numbers and strings always serialise.
const FALLBACK: &[u8] =
    br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"internal error"}}"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::splice::splice;

    #[test]
    fn answers_carry_the_id_as_it_came() {
        let answer = error_response(Some("1.50"), INVALID_PARAMS, "unknown tool: \"x\"");

        assert_eq!(
            answer,
            r#"{"jsonrpc":"2.0","id":1.50,"error":{"code":-32602,"message":"unknown tool: \"x\""}}"#
        );
    }

    #[test]
    fn without_an_id_it_is_null() {
        assert!(
            error_response(None, PARSE_ERROR, "x").starts_with(br#"{"jsonrpc":"2.0","id":null"#)
        );
    }

    #[test]
    fn data_stands_in_the_error() {
        assert_eq!(
            unsupported_version(Some("1"), "1999-01-01"),
            concat!(
                r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"unsupported protocol version","#,
                r#""data":{"supported":["2026-07-28","2025-11-25","2025-06-18","2025-03-26","2024-11-05"],"#,
                r#""requested":"1999-01-01"}}}"#
            )
        );
        assert_eq!(
            missing_capability(None, r#"{"roots":{}}"#, "x"),
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32021,"message":"x","data":{"requiredCapabilities":{"roots":{}}}}}"#
        );
        assert_eq!(
            error_with_data(None, 1, "x", "{"),
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":1,"message":"x"}}"#
        );
    }

    #[test]
    fn modern_clients_get_no_code_that_they_must_not_get() {
        for (before, after) in [
            (r#"{"code":-32002,"data":{"uri":"a"}}"#, r#"{"code":-32602,"data":{"uri":"a"}}"#),
            (
                r#"{"code":-32042,"message":"m","data":{"elicitations":[]}}"#,
                r#"{"code":-32021,"message":"m","data":{"requiredCapabilities":{"elicitation":{"url":{}}}}}"#,
            ),
            (
                r#"{"code": -32042}"#,
                r#"{"code": -32021,"data":{"requiredCapabilities":{"elicitation":{"url":{}}}}}"#,
            ),
            (r#"{"code":-32020}"#, r#"{"code":-32603}"#),
            (r#"{"code":-32099}"#, r#"{"code":-32603}"#),
            (r#"{"code":-32000}"#, r#"{"code":-32000}"#),
            (r#"{"code":-32601,"message":"m"}"#, r#"{"code":-32601,"message":"m"}"#),
            (r#"{"code":"-32002"}"#, r#"{"code":"-32002"}"#),
            ("7", "7"),
        ] {
            let message = format!(r#"{{"jsonrpc":"2.0","id":1,"error":{before}}}"#);
            let error = serde_json::from_str(&message[32..message.len() - 1]).unwrap();

            let out = splice(message.as_bytes(), &mut modern_error(message.as_bytes(), error));

            assert_eq!(out[32..out.len() - 1], *after.as_bytes(), "{before}");
        }
    }
}
