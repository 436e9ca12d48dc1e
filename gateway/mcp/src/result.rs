//! Results of one era made into results of the other. Performs no I/O.
//!
//! Modern clients refuse results without a `resultType`, and lists without `ttlMs` and `cacheScope`.
//! All changes are edits; what they do not touch stays byte for byte.

use crate::json::Json;

use crate::members::members;
use crate::modern::{SERVER_INFO, meta_edits};
use crate::object::{Change, change, entries};
use crate::scan::Addition;
use crate::splice::Edit;
use crate::tool::text;

/// What kind of result it is (2026-07-28, basic/index).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultType {
    /// The request is done; also without any `resultType`, as before 2026-07-28.
    Complete,
    /// The server needs input first: see [`input`](crate::input).
    InputRequired,
    /// The server works on it in the background (tasks extension).
    Task,
    /// Anything else, for whoever knows it.
    Other,
}

impl ResultType {
    /// The kind with this name.
    pub(crate) fn of(name: &str) -> Self {
        match name {
            "complete" => Self::Complete,
            "input_required" => Self::InputRequired,
            "task" => Self::Task,
            _ => Self::Other,
        }
    }
}

/// Which kind a raw `result` is.
pub fn result_type(result: Json<'_>) -> ResultType {
    // Most results do not mention it: one search, as long as no key could hide in escapes.
    let bytes = result.get().as_bytes();
    if memchr::memmem::find(bytes, b"esultType").is_none()
        && memchr::memmem::find(bytes, b"\\u").is_none()
    {
        return ResultType::Complete;
    }
    if !result.get().starts_with('{') {
        return ResultType::Complete;
    }
    // What another parser could read otherwise is no kind that we know.
    let Ok([kind]) = members(result, &["resultType"]) else { return ResultType::Other };
    let Some(kind) = kind.filter(|kind| !kind.is_null()) else { return ResultType::Complete };
    text(kind).map_or(ResultType::Other, |name| ResultType::of(&name))
}

/// How long and by whom a result may be kept (2026-07-28, server/utilities/caching).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// Milliseconds, for results that do not tell.
    pub ttl_ms: u64,
    /// The result depends on who asked: `private` whatever the server says.
    pub private: bool,
}

/// Nothing is known of the result: it is stale at once and nobody else's.
impl Default for Cache {
    fn default() -> Self {
        Self { ttl_ms: 0, private: true }
    }
}

/// Whether complete results of this method must tell how they may be kept.
pub fn is_cacheable(method: &str) -> bool {
    matches!(
        method,
        "server/discover"
            | "tools/list"
            | "prompts/list"
            | "resources/list"
            | "resources/templates/list"
            | "resources/read"
    )
}

/// The edits of a whole message that make its `result`, a part of it, one for a modern client.
///
/// Adds `resultType`, `server_info` (JSON text) and, for a complete result of a cacheable method,
/// `ttlMs` and `cacheScope`, each where it is missing. Results that are no objects stay.
pub fn to_modern(
    message: &[u8],
    result: Json<'_>,
    method: &str,
    server_info: &str,
    cache: Cache,
) -> Vec<Edit<'static>> {
    let text = result.get();
    let mut edits = match entries(text).find(|entry| entry.is("_meta")) {
        // Of another kind it is not ours to mend.
        Some(meta) if !meta.value().starts_with('{') => Vec::new(),
        _ => meta_edits(message, text, &[Change::default(SERVER_INFO, server_info)]),
    };
    edits.extend(change(message, text, &modern_members(result_type(result), method, cache)));
    edits.into_iter().map(Edit::into_owned).collect()
}

/// The members that a modern client expects of a result, besides `_meta`.
fn modern_members(kind: ResultType, method: &str, cache: Cache) -> Vec<Change<'static>> {
    let mut members = vec![Change::default("resultType", "\"complete\"")];
    if kind == ResultType::Complete && is_cacheable(method) {
        members.push(Change::default("ttlMs", cache.ttl_ms.to_string()));
        members.push(if cache.private {
            Change::set("cacheScope", "\"private\"")
        } else {
            Change::default("cacheScope", "\"public\"")
        });
    }
    members
}

/// What [`to_modern`] adds, for a message that passes through a
/// [`Scanner`](crate::scan::Scanner): a `_meta` that stands there is left as it is, and so is any
/// `cacheScope` that is no string.
pub fn modern_additions(method: &str, server_info: &str, cache: Cache) -> Vec<Addition> {
    let mut additions = vec![
        Addition::new("resultType", "\"complete\""),
        Addition::new("_meta", format!(r#"{{"{SERVER_INFO}":{server_info}}}"#)),
    ];
    if is_cacheable(method) {
        additions.push(Addition::new("ttlMs", cache.ttl_ms.to_string()));
        additions.push(if cache.private {
            Addition::replacing("cacheScope", "\"private\"")
        } else {
            Addition::new("cacheScope", "\"public\"")
        });
    }
    additions
}

/// The edits of a whole message that make its `result`, a part of it, one for a legacy client: without
/// `resultType`.
pub fn to_legacy(message: &[u8], result: Json<'_>) -> Vec<Edit<'static>> {
    change(message, result.get(), &[Change::remove("resultType")])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;
    use crate::Message;
    use crate::message::Outcome;
    use crate::scan::tests::json;
    use crate::splice::splice;

    const INFO: &str = r#"{"name":"f"}"#;

    fn edited(message: &str, edits: impl Fn(&[u8], Json<'_>) -> Vec<Edit<'static>>) -> String {
        let Ok(Message::Response { outcome: Outcome::Result(result), .. }) =
            Message::parse(message.as_bytes())
        else {
            panic!("{message} has no result");
        };
        let out = splice(message.as_bytes(), &mut edits(message.as_bytes(), result));
        String::from_utf8(out.to_vec()).unwrap()
    }

    fn wrapped(result: &str) -> String {
        format!(r#"{{"jsonrpc":"2.0","result":{result},"id":1}}"#)
    }

    #[test]
    fn modern_clients_get_what_they_require() {
        let info = r#""_meta":{"io.modelcontextprotocol/serverInfo":{"name":"f"}}"#;
        let done = r#""resultType":"complete""#;
        let kept = Cache { ttl_ms: 5, private: false };
        let own = Cache { ttl_ms: 5, private: true };
        for (method, cache, before, after) in [
            ("ping", own, "{}".into(), format!("{{{info},{done}}}")),
            ("tools/call", own, r#"{"a":1.0 }"#.into(), format!(r#"{{"a":1.0,{info},{done} }}"#)),
            (
                "tools/list",
                own,
                r#"{"tools":[]}"#.into(),
                format!(r#"{{"tools":[],{info},{done},"ttlMs":5,"cacheScope":"private"}}"#),
            ),
            (
                "tools/list",
                kept,
                r#"{"tools":[]}"#.into(),
                format!(r#"{{"tools":[],{info},{done},"ttlMs":5,"cacheScope":"public"}}"#),
            ),
            (
                "resources/read",
                own,
                format!(r#"{{"cacheScope":"public",{done},"ttlMs":9,{info}}}"#),
                format!(r#"{{"cacheScope":"private",{done},"ttlMs":9,{info}}}"#),
            ),
            (
                "resources/read",
                kept,
                format!(r#"{{"cacheScope":"private",{done},"ttlMs":9,"_meta":7}}"#),
                format!(r#"{{"cacheScope":"private",{done},"ttlMs":9,"_meta":7}}"#),
            ),
            (
                "resources/read",
                own,
                format!(r#"{{"resultType":"input_required",{info}}}"#),
                format!(r#"{{"resultType":"input_required",{info}}}"#),
            ),
            (
                "tools/call",
                own,
                r#"{"_meta":{"a":1},"resultType":"task"}"#.into(),
                r#"{"_meta":{"a":1,"io.modelcontextprotocol/serverInfo":{"name":"f"}},"resultType":"task"}"#.into(),
            ),
            ("tools/list", own, "null".into(), "null".into()),
            ("tools/list", own, "[1]".into(), "[1]".into()),
        ] {
            let out = edited(&wrapped(&before), |message, result| {
                to_modern(message, result, method, INFO, cache)
            });
            assert_eq!(out, wrapped(&after), "{method} {before}");
        }
    }

    #[test]
    fn legacy_clients_get_no_result_type() {
        for (before, after) in [
            (r#"{"resultType":"complete"}"#, "{}"),
            (r#"{"resultType":"complete","a":1}"#, r#"{"a":1}"#),
            (r#"{"a":{"resultType":1}, "resultType":"complete"}"#, r#"{"a":{"resultType":1}}"#),
            ("null", "null"),
        ] {
            assert_eq!(edited(&wrapped(before), to_legacy), wrapped(after), "{before}");
        }
    }

    #[test]
    fn kinds_of_results_are_told_apart() {
        for (result, kind) in [
            ("{}", ResultType::Complete),
            ("null", ResultType::Complete),
            (r#"{"resultType":"complete"}"#, ResultType::Complete),
            (r#"{"resultType":null}"#, ResultType::Complete),
            (r#"{"a":{"resultType":"task"}}"#, ResultType::Complete),
            (r#"{"resultType":"input_required"}"#, ResultType::InputRequired),
            (r#"{"result\u0054ype":"input_required"}"#, ResultType::InputRequired),
            (r#"{"resultType":"task"}"#, ResultType::Task),
            (r#"{"resultType":"vendor/x"}"#, ResultType::Other),
            (r#"{"resultType":7}"#, ResultType::Other),
            (r#"{"resultType":"complete","resultType":"task"}"#, ResultType::Other),
            (r#"{"ResultType":"complete"}"#, ResultType::Other),
        ] {
            assert_eq!(result_type(serde_json::from_str(result).unwrap()), kind, "{result}");
        }
    }

    proptest! {
        #[test]
        fn only_what_is_missing_is_added(
            members in prop::collection::vec(("[a-z]{1,9}|ttlMs|cacheScope", json()), 0..5),
            pretty in any::<bool>(),
        ) {
            let before: Map<String, Value> = members.into_iter().collect();
            let value = Value::from(before.clone());
            let text = if pretty { format!("{value:#}") } else { value.to_string() };

            let out = edited(&wrapped(&text), |message, result| {
                to_modern(message, result, "tools/list", INFO, Cache { ttl_ms: 3, private: false })
            });

            let Value::Object(mut after) = serde_json::from_str::<Value>(&out).unwrap()["result"].take()
                else { panic!("{out}") };
            prop_assert!(after.remove("resultType").is_some() && after.remove("_meta").is_some());
            for (key, default) in [("ttlMs", Value::from(3)), ("cacheScope", Value::from("public"))] {
                if !before.contains_key(key) {
                    prop_assert_eq!(after.remove(key), Some(default));
                }
            }
            prop_assert_eq!(after, before);
        }
    }
}
