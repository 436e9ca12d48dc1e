//! Completion of arguments. Performs no I/O.

use serde::de::Error;
use serde_json::value::RawValue;

use crate::members::members;
use crate::tool::text;

/// What an argument to complete belongs to.
#[derive(Debug, Clone, Copy)]
pub enum Reference<'a> {
    /// Raw name of a prompt.
    Prompt(&'a RawValue),
    /// Raw URI of a resource, or template of such.
    Resource(&'a RawValue),
}

impl<'a> Reference<'a> {
    /// Reads `ref` of the parameters of `completion/complete`.
    ///
    /// # Errors
    /// There is none of the two kinds, or keys that another parser could take for others: see
    /// [`members`].
    pub fn parse(params: &'a RawValue) -> Result<Self, serde_json::Error> {
        let [reference, _] = members(params.get(), &["ref", "_meta"])?;
        let reference = reference.ok_or_else(|| serde_json::Error::missing_field("ref"))?;
        let [kind, name, uri] = members(reference.get(), &["type", "name", "uri"])?;
        match (kind.and_then(text).as_deref(), name, uri) {
            (Some("ref/prompt"), Some(name), _) => Ok(Self::Prompt(name)),
            (Some("ref/resource"), _, Some(uri)) => Ok(Self::Resource(uri)),
            (Some("ref/prompt"), ..) => Err(serde_json::Error::missing_field("name")),
            (Some("ref/resource"), ..) => Err(serde_json::Error::missing_field("uri")),
            _ => Err(serde_json::Error::custom(
                "`ref.type` must be \"ref/prompt\" or \"ref/resource\"",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_prompts_or_resources() {
        let parse = |params: &'static str| Reference::parse(serde_json::from_str(params).unwrap());

        let prompt = parse(r#"{"ref":{"type":"ref/prompt","name":"p","title":"x"}}"#);
        assert!(matches!(prompt, Ok(Reference::Prompt(name)) if name.get() == "\"p\""));
        let resource = parse(r#"{"argument":{},"ref":{"uri":"a/{b}","type":"ref/resource"}}"#);
        assert!(matches!(resource, Ok(Reference::Resource(uri)) if uri.get() == "\"a/{b}\""));
        for wrong in [
            "{}",
            r#"{"ref":{}}"#,
            r#"{"ref":{"type":"ref/prompt","uri":"a"}}"#,
            r#"{"ref":{"type":"ref/tool","name":"a"}}"#,
            r#"{"ref":{"type":"ref/prompt","name":"a","name":"b"}}"#,
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
