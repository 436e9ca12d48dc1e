//! Lists: where a page begins, and the news that one changed. Performs no I/O.

use std::borrow::Cow;

use serde::de::Error;

use crate::json::Json;
use crate::members::members;
use crate::tool::text;

/// The lists whose changes are announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum List {
    /// `tools/list`
    Tools,
    /// `prompts/list`
    Prompts,
    /// `resources/list`, and the templates.
    Resources,
}

impl List {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tools, Self::Prompts, Self::Resources];

    /// The whole notification that the list changed.
    pub const fn changed(self) -> &'static str {
        match self {
            Self::Tools => crate::tool::LIST_CHANGED,
            Self::Prompts => r#"{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}"#,
            Self::Resources => {
                r#"{"jsonrpc":"2.0","method":"notifications/resources/list_changed"}"#
            }
        }
    }

    /// The list whose change a notification with this method announces.
    pub fn of_notification(method: &str) -> Option<Self> {
        match method {
            "notifications/tools/list_changed" => Some(Self::Tools),
            "notifications/prompts/list_changed" => Some(Self::Prompts),
            "notifications/resources/list_changed" => Some(Self::Resources),
            _ => None,
        }
    }
}

/// Where the page begins that a list request asks for; `None` for the first. An empty cursor is one.
///
/// # Errors
/// It is no string, or there are keys that another parser could take for others: see [`members`].
pub fn cursor(params: Option<Json<'_>>) -> Result<Option<Cow<'_, str>>, serde_json::Error> {
    let Some(params) = params.filter(|params| !params.is_null()) else { return Ok(None) };
    let [cursor, _] = members(params, &["cursor", "_meta"])?;
    match cursor.filter(|cursor| !cursor.is_null()) {
        None => Ok(None),
        Some(cursor) => match text(cursor) {
            Some(cursor) => Ok(Some(cursor)),
            None => Err(serde_json::Error::custom("`cursor` must be a string")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Message;

    #[test]
    fn changes_are_announced_and_recognised() {
        for list in List::ALL {
            let Ok(Message::Notification { method, .. }) =
                Message::parse(list.changed().as_bytes())
            else {
                panic!("{list:?}")
            };
            assert_eq!(List::of_notification(&method), Some(list));
        }
        assert_eq!(List::of_notification("notifications/progress"), None);
    }

    #[test]
    fn cursors_are_strings_and_may_be_empty() {
        let read = |params: &'static str| cursor(Some(serde_json::from_str(params).unwrap()));

        assert_eq!(read(r#"{"cursor":""}"#).unwrap().as_deref(), Some(""));
        assert_eq!(read(r#"{"cursor":"\u0061"}"#).unwrap().as_deref(), Some("a"));
        assert_eq!(read(r#"{"cursor":null}"#).unwrap(), None);
        assert_eq!(read("{}").unwrap(), None);
        assert_eq!(cursor(None).unwrap(), None);
        assert!(read(r#"{"cursor":7}"#).is_err());
        assert!(read(r#"{"cursor":"a","Cursor":"b"}"#).is_err());
    }
}
