//! Notification streams of 2026-07-28 (basic/patterns/subscriptions). Performs no I/O.

use std::borrow::Cow;

use bytes::Bytes;
use serde::de::Error;
use serde::{Deserialize, Serialize};

use crate::json::Json;
use crate::list::List;
use crate::members::members;
use crate::modern::{SUBSCRIPTION_ID, request_meta_edits};
use crate::object::Change;
use crate::splice::{Edit, splice};

/// Most URIs, and most tasks, that one stream may be about. 1024: more than any list of resources that
/// a person could follow, and each costs the gateway an entry.
pub const MAX_ENTRIES: usize = 1024;

/// What a `subscriptions/listen` asks to be told, or is granted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Filter<'a> {
    /// `notifications/tools/list_changed`
    #[serde(skip_serializing_if = "is_false")]
    pub tools_list_changed: bool,
    /// `notifications/prompts/list_changed`
    #[serde(skip_serializing_if = "is_false")]
    pub prompts_list_changed: bool,
    /// `notifications/resources/list_changed`
    #[serde(skip_serializing_if = "is_false")]
    pub resources_list_changed: bool,
    /// `notifications/resources/updated` of these URIs.
    #[serde(borrow, skip_serializing_if = "Vec::is_empty")]
    pub resource_subscriptions: Vec<Cow<'a, str>>,
    /// `notifications/tasks` of these tasks (extension).
    #[serde(borrow, skip_serializing_if = "Vec::is_empty")]
    pub task_ids: Vec<Cow<'a, str>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}

impl<'a> Filter<'a> {
    /// Reads `notifications` of the params of `subscriptions/listen`, or of its acknowledgment.
    ///
    /// # Errors
    /// There is none, it has the wrong shape, or more than [`MAX_ENTRIES`] of a kind.
    pub fn parse(params: Json<'a>) -> Result<Self, serde_json::Error> {
        let [filter, _] = members(params, &["notifications", "_meta"])?;
        let filter = filter.ok_or_else(|| serde_json::Error::missing_field("notifications"))?;
        let filter: Self = serde_json::from_str(filter.get())?;
        if filter.resource_subscriptions.len().max(filter.task_ids.len()) > MAX_ENTRIES {
            return Err(serde_json::Error::custom(format_args!(
                "more than {MAX_ENTRIES} subscriptions on one stream"
            )));
        }
        Ok(filter)
    }

    /// Whether changes of this list are wanted.
    pub const fn wants(&self, list: List) -> bool {
        match list {
            List::Tools => self.tools_list_changed,
            List::Prompts => self.prompts_list_changed,
            List::Resources => self.resources_list_changed,
        }
    }

    /// As JSON: `notifications` of the params.
    pub fn to_json(&self) -> String {
        // Booleans and strings always serialise.
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

/// The first message of a stream: what of the filter is honoured. `id` is the JSON text of the
/// `subscriptions/listen` request's id.
pub fn acknowledged(id: &str, honoured: &Filter<'_>) -> Bytes {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{"_meta":{{"{SUBSCRIPTION_ID}":{id}}},"notifications":{}}}}}"#,
        honoured.to_json()
    )
    .into()
}

/// The last message of a stream that we end: its answer. `id` as in [`acknowledged`].
pub fn closed(id: &str) -> Bytes {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"result":{{"resultType":"complete","_meta":{{"{SUBSCRIPTION_ID}":{id}}}}}}}"#
    )
    .into()
}

/// The notification with the id of the stream it is sent on, whatever id it had. `params` is a part of
/// it; `id` as in [`acknowledged`].
pub fn stamp(notification: &[u8], params: Option<Json<'_>>, id: &str) -> Bytes {
    splice(notification, &mut stamp_edits(notification, params, id))
}

/// The edits that [`stamp`] makes.
pub fn stamp_edits(notification: &[u8], params: Option<Json<'_>>, id: &str) -> Vec<Edit<'static>> {
    request_meta_edits(notification, params, &[Change::set(SUBSCRIPTION_ID, id)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Message;

    fn read(params: &str) -> Result<Filter<'_>, serde_json::Error> {
        Filter::parse(serde_json::from_str(params).unwrap())
    }

    #[test]
    fn filters_are_read_and_written() {
        let text =
            r#"{"toolsListChanged":true,"resourceSubscriptions":["a","\"b"],"taskIds":["t"]}"#;
        let params = format!(r#"{{"_meta":{{}},"notifications":{text}}}"#);

        let filter = read(&params).unwrap();

        assert!(filter.wants(List::Tools) && !filter.wants(List::Prompts));
        assert_eq!(filter.resource_subscriptions, ["a", "\"b"]);
        assert_eq!(filter.to_json(), text);
        assert_eq!(read(r#"{"notifications":{"vendor/x":1}}"#).unwrap(), Filter::default());
    }

    #[test]
    fn filters_of_another_shape_or_size_are_refused() {
        let many = format!(
            r#"{{"notifications":{{"resourceSubscriptions":[{}]}}}}"#,
            vec!["\"\""; MAX_ENTRIES + 1].join(",")
        );
        for wrong in [
            "{}",
            "[]",
            r#"{"notifications":{"toolsListChanged":1}}"#,
            r#"{"notifications":{"resourceSubscriptions":"a"}}"#,
            r#"{"notifications":{},"Notifications":{}}"#,
            &many,
        ] {
            assert!(read(wrong).is_err(), "{}", &wrong[..wrong.len().min(80)]);
        }
    }

    #[test]
    fn every_message_of_a_stream_carries_its_id() {
        assert_eq!(
            acknowledged("\"a\"", &Filter { prompts_list_changed: true, ..Filter::default() }),
            concat!(
                r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":"#,
                r#"{"io.modelcontextprotocol/subscriptionId":"a"},"notifications":{"promptsListChanged":true}}}"#
            )
        );
        assert!(
            matches!(Message::parse(&closed("1.50")), Ok(Message::Response { id, .. }) if id.as_json() == "1.50")
        );
        for (before, after) in [
            (
                r#"{"jsonrpc":"2.0","method":"m"}"#,
                r#"{"jsonrpc":"2.0","method":"m","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":7}}}"#,
            ),
            (
                r#"{"method":"m","params":{"uri":"a"},"jsonrpc":"2.0"}"#,
                r#"{"method":"m","params":{"uri":"a","_meta":{"io.modelcontextprotocol/subscriptionId":7}},"jsonrpc":"2.0"}"#,
            ),
            (
                r#"{"params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"x","a":1}},"jsonrpc":"2.0","method":"m"}"#,
                r#"{"params":{"_meta":{"io.modelcontextprotocol/subscriptionId":7,"a":1}},"jsonrpc":"2.0","method":"m"}"#,
            ),
        ] {
            let Ok(Message::Notification { params, .. }) = Message::parse(before.as_bytes()) else {
                panic!("{before}")
            };
            assert_eq!(stamp(before.as_bytes(), params, "7"), after);
        }
    }
}
