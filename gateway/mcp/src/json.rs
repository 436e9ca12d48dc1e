//! JSON values as they stand in a message, read once. Performs no I/O.
//!
//! `serde_json`'s `RawValue` can only be had by reading its text, so that what stands four levels deep
//! is read four times on its way. A [`Json`] found in another one is not read again.

use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::object::entries;

mod read;

use read::Reader;
pub(crate) use read::{end_of_string, is_space};

/// Deepest nesting of objects and arrays that is accepted.
///
/// 64: tool arguments seen in the wild stay under 12; parsers behind us often recurse, and their
/// usual limit is 128.
pub const MAX_DEPTH: u16 = 64;

/// The text of one JSON value, which is known to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<'a>(&'a str);

/// Why text is not a [`Json`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotJson {
    /// The byte at this offset cannot stand there.
    #[error("malformed JSON at byte {0}")]
    Malformed(usize),
    /// It may be JSON, but nests deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

impl<'a> Json<'a> {
    /// Takes text that is one value, with space around it or without.
    ///
    /// # Errors
    /// See [`NotJson`].
    pub fn parse(text: &'a str) -> Result<Self, NotJson> {
        Self::read(text, |_, _| {})
    }

    /// The same, and shows the members of the value on the way, if it is an object: the JSON text of
    /// each key, and the value. What was shown counts for nothing if the text turns out to be wrong.
    pub(crate) fn read(
        text: &'a str,
        mut member: impl FnMut(&'a str, Self),
    ) -> Result<Self, NotJson> {
        Reader::of(text).document(|(key, colon), (value, end)| {
            if let (Some(key), Some(value)) = (text.get(key..colon), text.get(value..end)) {
                member(key, Self(value));
            }
        })?;
        Ok(Self(text.trim_matches(is_space_char)))
    }

    /// A part of another value.
    pub(crate) const fn part(text: &'a str) -> Self {
        Self(text)
    }

    /// The text, without space around it.
    pub const fn get(self) -> &'a str {
        self.0
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        self.0.starts_with('{')
    }

    /// The value of the first member of an object that is called `name`.
    pub fn member(self, name: &str) -> Option<Self> {
        entries(self.0).find(|entry| entry.is(name)).map(|entry| Self(entry.value()))
    }
}

/// A [`Json`] that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonBuf(Box<str>);

impl JsonBuf {
    /// What is kept.
    pub fn as_json(&self) -> Json<'_> {
        Json(&self.0)
    }
}

impl From<Json<'_>> for JsonBuf {
    fn from(json: Json<'_>) -> Self {
        Self(json.0.into())
    }
}

impl<'a> From<&'a RawValue> for Json<'a> {
    fn from(raw: &'a RawValue) -> Self {
        Self(raw.get())
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Json<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&RawValue>::deserialize(deserializer).map(Self::from)
    }
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(self.0).map_err(S::Error::custom)?;
        raw.serialize(serializer)
    }
}

const fn is_space_char(char: char) -> bool {
    char.is_ascii() && is_space(char as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;
    use crate::scan::tests::json;

    fn is_json(text: &str) -> bool {
        serde_json::from_str::<IgnoredAny>(text).is_ok()
    }

    #[test]
    fn what_is_json_is_told_from_what_is_not() {
        for text in [
            "",
            " ",
            "{",
            "}",
            "[",
            "]",
            "{}",
            " [ ] ",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{\"a\":1 \"b\":2}",
            "[1 2]",
            "[1}",
            "{\"a\":1]",
            "1 2",
            "tru",
            "true",
            "truex",
            "null",
            "nul",
            "-",
            "-0",
            "01",
            "1.",
            "1.5",
            "1.e1",
            "1e",
            "1e+",
            "1E-5",
            "+1",
            ".5",
            "\"",
            "\"a",
            "\"\\\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\\u123\"",
            "\"\\ud800\"",
            "\"a\nb\"",
            "\"12345678\u{1}\"",
            "\"é\u{7f}\"",
            "\"1234567\\\"\"",
            "[[[]]]",
            "[[]",
            "{\"a\":{\"b\":[{}]}}",
            "\u{feff}1",
            "1\u{a0}",
        ] {
            assert_eq!(Json::parse(text).is_ok(), is_json(text), "{text:?}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));

        assert!(Json::parse(&nested(64)).is_ok());
        assert_eq!(Json::parse(&nested(65)), Err(NotJson::TooDeep));
        assert!(Json::parse(&format!("\"{}\"", "[".repeat(100))).is_ok());
        assert!(Json::parse(&format!("[{}[]]", "[],".repeat(100))).is_ok());
        assert_eq!(Json::parse(&"[{\"\":".repeat(50)), Err(NotJson::TooDeep));
    }

    proptest! {
        #[test]
        fn what_others_write_is_read(value in json(), pretty in any::<bool>()) {
            let text = if pretty { format!("\n{value:#} ") } else { value.to_string() };
            let mut members = Vec::new();

            let found = Json::read(&text, |key, value| members.push((key, value.get())));

            prop_assert_eq!(found.map(Json::get), Ok(text.trim()));
            let expected: Vec<_> =
                entries(&text).map(|entry| (entry.key(), entry.value())).collect();
            prop_assert_eq!(members, expected);
        }

        #[test]
        fn what_is_taken_is_what_others_take(text in "[\\[\\]{}\",:a\\\\ /u0-2\\-.eE+tfn\u{1}é]{0,40}") {
            prop_assert_eq!(Json::parse(&text).is_ok(), is_json(&text));
        }

        #[test]
        fn strings_end_where_they_end(text in "\"[a\"\\\\\u{0}-\u{22}é\u{10000}]{0,40}\"") {
            prop_assert_eq!(Json::parse(&text).is_ok(), is_json(&text));
        }

        #[test]
        fn one_wrong_byte_is_seen(value in json(), at in any::<prop::sample::Index>(), with in any::<char>()) {
            let mut text: Vec<char> = value.to_string().chars().collect();
            let at = at.index(text.len());
            text[at] = with;
            let text = String::from_iter(text);

            prop_assert_eq!(Json::parse(&text).is_ok(), is_json(&text), "{}", text);
        }
    }
}
