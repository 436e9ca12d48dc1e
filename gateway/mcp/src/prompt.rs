//! Prompts on the wire. Performs no I/O.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::Error;
use serde_json::value::RawValue;

use crate::members::members;

/// One page of a server's `prompts/list` result.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PromptPage<'a> {
    /// Raw definitions.
    #[serde(borrow)]
    pub prompts: Vec<&'a RawValue>,
    /// Where the next page begins; absent on the last.
    #[serde(borrow, default)]
    pub next_cursor: Option<Cow<'a, str>>,
}

/// What we read of the parameters of `prompts/get`.
#[derive(Debug)]
pub struct GetParams<'a> {
    /// Raw `name`.
    pub name: &'a RawValue,
}

impl<'a> GetParams<'a> {
    /// Reads the parameters.
    ///
    /// # Errors
    /// No object, no `name`, or keys that another parser could take for others: see [`members`].
    pub fn parse(params: &'a RawValue) -> Result<Self, serde_json::Error> {
        let [name, _, _] = members(params.get(), &["name", "arguments", "_meta"])?;
        let name = name.ok_or_else(|| serde_json::Error::missing_field("name"))?;
        Ok(Self { name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_pages_are_read_raw() {
        let params = serde_json::from_str(r#"{"arguments":{},"name":"\u0061"}"#).unwrap();
        assert_eq!(GetParams::parse(params).unwrap().name.get(), r#""\u0061""#);
        for wrong in ["{}", "[]", r#"{"name":1,"Name":2}"#] {
            assert!(GetParams::parse(serde_json::from_str(wrong).unwrap()).is_err(), "{wrong}");
        }

        let page = r#"{"prompts":[{"name":"a","x":1.0}],"nextCursor":""}"#;
        let page: PromptPage<'_> = serde_json::from_str(page).unwrap();
        assert_eq!(page.prompts[0].get(), r#"{"name":"a","x":1.0}"#);
        assert_eq!(page.next_cursor.as_deref(), Some(""));
    }
}
