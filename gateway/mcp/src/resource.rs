//! Resources on the wire. Performs no I/O.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::Error;
use serde_json::value::RawValue;

use crate::members::members;

/// One page of a server's `resources/list` result.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourcePage<'a> {
    /// Raw descriptions.
    #[serde(borrow)]
    pub resources: Vec<&'a RawValue>,
    /// Where the next page begins; absent on the last.
    #[serde(borrow, default)]
    pub next_cursor: Option<Cow<'a, str>>,
}

/// One page of a server's `resources/templates/list` result.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplatePage<'a> {
    /// Raw descriptions.
    #[serde(borrow)]
    pub resource_templates: Vec<&'a RawValue>,
    /// Where the next page begins; absent on the last.
    #[serde(borrow, default)]
    pub next_cursor: Option<Cow<'a, str>>,
}

/// What we read of the parameters of `resources/read`, `resources/subscribe`, `resources/unsubscribe`
/// and `notifications/resources/updated`.
#[derive(Debug)]
pub struct UriParams<'a> {
    /// Raw `uri`.
    pub uri: &'a RawValue,
}

impl<'a> UriParams<'a> {
    /// Reads the parameters.
    ///
    /// # Errors
    /// No object, no `uri`, or keys that another parser could take for others: see [`members`].
    pub fn parse(params: &'a RawValue) -> Result<Self, serde_json::Error> {
        let [uri, _] = members(params.get(), &["uri", "_meta"])?;
        Ok(Self { uri: uri.ok_or_else(|| serde_json::Error::missing_field("uri"))? })
    }
}

/// `notifications/resources/updated` for a raw URI.
pub fn updated(uri: &RawValue) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{{"uri":{}}}}}"#,
        uri.get()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Message;

    #[test]
    fn uris_are_read_raw() {
        let params = serde_json::from_str(r#"{"uri":"file:\/\/a"}"#).unwrap();
        let uri = UriParams::parse(params).unwrap().uri;
        assert_eq!(uri.get(), r#""file:\/\/a""#);
        for wrong in ["{}", "[]", r#"{"uri":"a","URI":"b"}"#] {
            assert!(UriParams::parse(serde_json::from_str(wrong).unwrap()).is_err(), "{wrong}");
        }

        let updated = updated(uri);
        let Ok(Message::Notification { params: Some(params), .. }) =
            Message::parse(updated.as_bytes())
        else {
            panic!("{updated}")
        };
        assert_eq!(UriParams::parse(params).unwrap().uri.get(), uri.get());
    }

    #[test]
    fn pages_keep_what_they_hold() {
        let page = r#"{"resources":[{"uri":"a","x":1.0}]}"#;
        let page: ResourcePage<'_> = serde_json::from_str(page).unwrap();
        assert_eq!(page.resources[0].get(), r#"{"uri":"a","x":1.0}"#);
        assert!(page.next_cursor.is_none());

        let page = r#"{"resourceTemplates":[{"uriTemplate":"a"}],"nextCursor":"2"}"#;
        let page: TemplatePage<'_> = serde_json::from_str(page).unwrap();
        assert_eq!(page.resource_templates.len(), 1);
        assert_eq!(page.next_cursor.as_deref(), Some("2"));
    }
}
