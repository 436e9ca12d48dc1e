//! Resources on the wire. Performs no I/O.

use serde::de::Error;

use crate::json::Json;
use crate::members::members;

/// What we read of the parameters of `resources/read`, `resources/subscribe`, `resources/unsubscribe`
/// and `notifications/resources/updated`.
#[derive(Debug)]
pub struct UriParams<'a> {
    /// Raw `uri`.
    pub uri: Json<'a>,
}

impl<'a> UriParams<'a> {
    /// Reads the parameters.
    ///
    /// # Errors
    /// No object, no `uri`, or keys that another parser could take for others: see [`members`].
    pub fn parse(params: Json<'a>) -> Result<Self, serde_json::Error> {
        let [uri, _] = members(params, &["uri", "_meta"])?;
        Ok(Self { uri: uri.ok_or_else(|| serde_json::Error::missing_field("uri"))? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_read_raw() {
        let params = serde_json::from_str(r#"{"uri":"file:\/\/a"}"#).unwrap();
        let uri = UriParams::parse(params).unwrap().uri;
        assert_eq!(uri.get(), r#""file:\/\/a""#);
        for wrong in ["{}", "[]", r#"{"uri":"a","URI":"b"}"#] {
            assert!(UriParams::parse(serde_json::from_str(wrong).unwrap()).is_err(), "{wrong}");
        }
    }
}
