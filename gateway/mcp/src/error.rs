//! JSON-RPC error codes and answers. Performs no I/O.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

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
    id: Option<&'a RawValue>,
    error: ErrorObject<'a>,
}

#[derive(Serialize)]
struct ErrorObject<'a> {
    code: i32,
    message: &'a str,
}

/// An error answer as JSON. `id` is the JSON text of the request's id; without one (or with text
/// that is not JSON) the answer's id is `null`, as JSON-RPC 2.0 §5 says.
pub fn error_response(id: Option<&str>, code: i32, message: &str) -> Bytes {
    let id = id.and_then(|id| serde_json::from_str::<&RawValue>(id).ok());
    let body = ErrorResponse { jsonrpc: "2.0", id, error: ErrorObject { code, message } };
    serde_json::to_vec(&body).map_or_else(|_| Bytes::from_static(FALLBACK), Bytes::from)
}

/// Unreachable in practice: numbers and strings always serialise.
const FALLBACK: &[u8] =
    br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"internal error"}}"#;

#[cfg(test)]
mod tests {
    use super::*;

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
}
