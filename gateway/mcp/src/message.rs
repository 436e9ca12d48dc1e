//! JSON-RPC messages, borrowed from the bytes they arrived in. Performs no I/O.

use std::borrow::Cow;

use crate::json::{Json, NotJson};
use crate::members;
use crate::tool::text;

/// A JSON-RPC id as it stood: a string or a number, never `null` (MCP, basic/index).
///
/// Compared by its text, so `1` and `"1"` differ and no digit of a large number is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id<'a>(&'a str);

impl<'a> Id<'a> {
    /// The JSON text of the id, quotes included for strings.
    pub const fn as_json(self) -> &'a str {
        self.0
    }

    fn parse(raw: Json<'a>) -> Option<Self> {
        let text = raw.get();
        matches!(text.as_bytes().first(), Some(b'"' | b'-' | b'0'..=b'9')).then_some(Self(text))
    }
}

/// One JSON-RPC 2.0 message.
#[derive(Debug)]
pub enum Message<'a> {
    /// Expects an answer with the same id.
    Request {
        /// Chosen by the sender.
        id: Id<'a>,
        /// For instance `tools/call`.
        method: Cow<'a, str>,
        /// Raw parameters.
        params: Option<Json<'a>>,
    },
    /// Expects no answer.
    Notification {
        /// For instance `notifications/cancelled`.
        method: Cow<'a, str>,
        /// Raw parameters.
        params: Option<Json<'a>>,
    },
    /// Answers a request.
    Response {
        /// The id of the request.
        id: Id<'a>,
        /// What came of it.
        outcome: Outcome<'a>,
    },
}

/// The two ways a request can end.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// Raw `result`.
    Result(Json<'a>),
    /// Raw `error`.
    Error(Json<'a>),
}

/// Why bytes are not a message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Not JSON: -32700.
    #[error(transparent)]
    Json(NotJson),
    /// Not JSON either.
    #[error("malformed JSON: {0}")]
    Text(#[from] std::str::Utf8Error),
    /// JSON, but not a JSON-RPC 2.0 message: -32600. Carries the id's JSON where there is one.
    #[error("not a JSON-RPC 2.0 message: {reason}")]
    Shape {
        /// What is wrong, for the sender to read.
        reason: Cow<'static, str>,
        /// JSON text of the message's id, if it had a usable one.
        id: Option<String>,
    },
}

impl ParseError {
    fn shape(reason: impl Into<Cow<'static, str>>, id: Option<Id<'_>>) -> Self {
        Self::Shape { reason: reason.into(), id: id.map(|id| id.as_json().to_owned()) }
    }
}

impl<'a> Message<'a> {
    /// Reads one message.
    ///
    /// # Errors
    /// [`ParseError::Json`] for bytes that are not JSON, [`ParseError::Shape`] for JSON that is
    /// not one JSON-RPC 2.0 message or nests deeper than [`MAX_DEPTH`](crate::json::MAX_DEPTH).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ParseError> {
        let text = std::str::from_utf8(bytes)?;
        let names = ["jsonrpc", "id", "method", "params", "result", "error"];
        let (whole, members) = members::read(text, &names).map_err(|wrong| match wrong {
            NotJson::TooDeep => ParseError::shape(wrong.to_string(), None),
            NotJson::Malformed(_) => ParseError::Json(wrong),
        })?;
        if whole.get().starts_with('[') {
            let reason = "batches are not supported, send one message a request";
            return Err(ParseError::shape(reason, None));
        }
        let members = members.map_err(|error| ParseError::shape(error.to_string(), None))?;
        Self::from_members(members)
    }

    fn from_members(members: [Option<Json<'a>>; 6]) -> Result<Self, ParseError> {
        let [jsonrpc, raw_id, method, params, result, error] = members;
        // A `null` is as good as nothing, but for an id and for a result without an error.
        let given = |raw: Option<Json<'a>>| raw.filter(|raw| !raw.is_null());
        let (method, params, error) = (given(method), given(params), given(error));
        let result = if error.is_some() { given(result) } else { result };
        let id = raw_id.and_then(Id::parse);
        if jsonrpc.and_then(text).as_deref() != Some("2.0") {
            return Err(ParseError::shape("`jsonrpc` must be \"2.0\"", id));
        }
        if raw_id.is_some() && id.is_none() {
            return Err(ParseError::shape("`id` must be a string or a number", None));
        }
        let method = match method.map(text) {
            Some(None) => return Err(ParseError::shape("`method` must be a string", id)),
            Some(method) => method,
            None => None,
        };
        match (method, id, result, error) {
            (Some(method), Some(id), None, None) => Ok(Self::Request { id, method, params }),
            (Some(method), None, None, None) => Ok(Self::Notification { method, params }),
            (None, Some(id), Some(result), None) => {
                Ok(Self::Response { id, outcome: Outcome::Result(result) })
            }
            (None, Some(id), None, Some(error)) => {
                Ok(Self::Response { id, outcome: Outcome::Error(error) })
            }
            (_, id, ..) => Err(ParseError::shape(
                "one of `method`, `result` and `error` must be there, and an answer needs an `id`",
                id,
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_keep_their_type_and_digits() {
        for id in ["1", "\"1\"", "-7", "123456789012345678901234567890", "\"\\u0041\"", "1.50"] {
            let text = format!(r#"{{"method":"ping","id":{id},"jsonrpc":"2.0"}}"#);

            let Ok(Message::Request { id: parsed, .. }) = Message::parse(text.as_bytes()) else {
                panic!("{id} is refused");
            };

            assert_eq!(parsed.as_json(), id);
        }
    }

    #[test]
    fn wrong_shapes_are_told_from_malformed_json() {
        for (text, json) in [
            ("{", true),
            ("", true),
            ("{\"a\":}", true),
            ("[]", false),
            ("1", false),
            (r#"{"jsonrpc":"2.0"}"#, false),
            (r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#, false),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, false),
            (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, false),
            (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, false),
            (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, false),
            (r#"{"jsonrpc":"2.0","id":1,"result":1,"error":{}}"#, false),
            (r#"{"jsonrpc":"2.0","result":1}"#, false),
        ] {
            let error = Message::parse(text.as_bytes()).expect_err(text);
            assert_eq!(matches!(error, ParseError::Json(_)), json, "{text}: {error}");
        }
    }

    #[test]
    fn a_wrong_shape_keeps_the_id_for_the_answer() {
        let error = Message::parse(br#"{"jsonrpc":"1.0","id":"a","method":"ping"}"#);

        assert!(matches!(error, Err(ParseError::Shape { id: Some(id), .. }) if id == "\"a\""));
    }

    #[test]
    fn a_null_result_is_a_result() {
        let message = Message::parse(br#"{"jsonrpc":"2.0","id":1,"result":null}"#);

        assert!(matches!(message, Ok(Message::Response { outcome: Outcome::Result(_), .. })));
    }

    #[test]
    fn nesting_is_bounded_and_strings_do_not_nest() {
        let nest = |depth: usize| {
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            format!(r#"{{"jsonrpc":"2.0","method":"m","params":{{"a":{open}{close}}}}}"#)
        };
        let quoted = format!(r#"{{"jsonrpc":"2.0","method":"\"{}\\"}}"#, "[".repeat(100));

        assert!(Message::parse(nest(62).as_bytes()).is_ok());
        assert!(Message::parse(nest(63).as_bytes()).is_err());
        assert!(Message::parse(quoted.as_bytes()).is_ok());
    }
}
