//! Tools on the wire: definitions, calls, progress, cancellation. Performs no I/O.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::Error;

use crate::Id;
use crate::json::Json;
use crate::members::members;
use crate::object::unescape;

/// What we read of the parameters of `tools/call`.
#[derive(Debug)]
pub struct CallParams<'a> {
    /// Raw `name`.
    pub name: Json<'a>,
    /// Raw progress token, if progress is wanted.
    pub progress_token: Option<Json<'a>>,
}

impl<'a> CallParams<'a> {
    /// Reads the parameters.
    ///
    /// # Errors
    /// No object, no `name`, or keys that another parser could take for others: see [`members`].
    pub fn parse(params: Json<'a>) -> Result<Self, serde_json::Error> {
        let [name, _, meta] = members(params, &["name", "arguments", "_meta"])?;
        let name = name.ok_or_else(|| serde_json::Error::missing_field("name"))?;
        let given = |json: &Json<'_>| !json.is_null();
        let progress_token = match meta.filter(given) {
            Some(meta) => {
                let [token] = members(meta, &["progressToken"])?;
                let token = token.filter(given);
                if token.is_some_and(|token| token.get().starts_with(['{', '[', 't', 'f'])) {
                    return Err(serde_json::Error::custom(
                        "`progressToken` must be a string or a number",
                    ));
                }
                token
            }
            None => None,
        };
        Ok(Self { name, progress_token })
    }
}

/// What we read of `notifications/cancelled`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CancelledParams<'a> {
    /// Raw id of the request to cancel.
    #[serde(borrow)]
    pub request_id: Json<'a>,
}

/// What we read of `notifications/progress`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgressParams<'a> {
    /// Raw token of the request that is under way.
    #[serde(borrow)]
    pub progress_token: Json<'a>,
}

/// The text of a raw JSON string; `None` when it is not one.
pub fn text(raw: Json<'_>) -> Option<Cow<'_, str>> {
    unescape(raw.get())
}

/// The notification that the list of tools changed.
pub const LIST_CHANGED: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;

/// `notifications/cancelled` for a request of ours, whose id is a number.
pub fn cancelled(request: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{request}}}}}"#
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
            let raw = Json::parse(json).unwrap();
            assert_eq!(text(raw).as_deref(), expected, "{json}");
        }
    }
}
