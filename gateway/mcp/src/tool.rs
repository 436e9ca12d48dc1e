//! Tools on the wire: definitions, calls, progress, cancellation. Performs no I/O.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Id;

/// One page of a server's `tools/list` result.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolPage<'a> {
    /// Raw definitions.
    #[serde(borrow)]
    pub tools: Vec<&'a RawValue>,
    /// Where the next page begins; absent on the last.
    #[serde(borrow, default)]
    pub next_cursor: Option<Cow<'a, str>>,
}

/// What we read of the parameters of `tools/call`.
#[derive(Debug, Deserialize)]
pub struct CallParams<'a> {
    /// Raw `name`, a JSON string.
    #[serde(borrow)]
    pub name: &'a RawValue,
    /// Raw progress token, if progress is wanted.
    #[serde(borrow, default, rename = "_meta")]
    pub meta: Option<CallMeta<'a>>,
}

/// What we read of a request's `_meta`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CallMeta<'a> {
    /// A string or a number.
    #[serde(borrow, default)]
    pub progress_token: Option<&'a RawValue>,
}

/// What we read of `notifications/cancelled`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CancelledParams<'a> {
    /// Raw id of the request to cancel.
    #[serde(borrow)]
    pub request_id: &'a RawValue,
    /// Why, for logs and people.
    #[serde(borrow, default)]
    pub reason: Option<&'a RawValue>,
}

/// What we read of `notifications/progress`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgressParams<'a> {
    /// Raw token of the request that is under way.
    #[serde(borrow)]
    pub progress_token: &'a RawValue,
}

/// The text of a raw JSON string; `None` when it is not one.
pub fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let json = raw.get();
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(json).ok().map(Cow::Owned)
}

/// The notification that the list of tools changed.
pub const LIST_CHANGED: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;

/// `notifications/cancelled` for a request of ours, whose id is a number. `reason` is raw JSON.
pub fn cancelled(request: u64, reason: Option<&str>) -> String {
    let reason = reason.map(|reason| format!(r#","reason":{reason}"#)).unwrap_or_default();
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{request}{reason}}}}}"#
    )
}

/// Whether an answer carries the id of our own request.
pub fn is_own(id: Id<'_>, own: u64) -> bool {
    // Some servers echo a number as a string; the digits still name one request of ours.
    id.as_json().trim_matches('"').parse() == Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read_unescaped() {
        for (json, expected) in [
            (r#""add""#, Some("add")),
            (r#""a\u0064d""#, Some("add")),
            ("7", None),
            (r#"{"a":1}"#, None),
        ] {
            let raw = serde_json::from_str::<&RawValue>(json).unwrap();
            assert_eq!(text(raw).as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn cancellation_names_the_request_and_keeps_the_reason() {
        assert_eq!(
            cancelled(7, Some(r#""user \"x\"""#)),
            r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7,"reason":"user \"x\""}}"#
        );
    }
}
