//! The members of a JSON object that we read, each raw. Performs no I/O.
//!
//! Some parsers take keys that differ in case for the same (Go's does), and of two the last. What we
//! decide by must be what the server reads, so such keys are refused, as duplicates are.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The values of the members called `names`, in that order; an explicit `null` is a value.
///
/// # Errors
/// Text that is no JSON object, a name that stands twice, or one that differs in case only.
pub fn members<'a, const N: usize>(
    text: &'a str,
    names: &[&'static str; N],
) -> Result<[Option<&'a RawValue>; N], serde_json::Error> {
    // serde would quote another value, which may be a secret, in its error.
    if text.trim_start().starts_with('"') {
        return Err(serde_json::Error::custom("expected an object, not a string"));
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let values = deserializer.deserialize_map(Members(names))?;
    deserializer.end()?;
    Ok(values)
}

struct Members<'n, const N: usize>(&'n [&'static str; N]);

impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = [None; N];
        while let Some(at) = map.next_key_seed(Name(self.0))? {
            match at.and_then(|at| values.get_mut(at).zip(self.0.get(at))) {
                Some((value @ None, _)) => *value = Some(map.next_value()?),
                Some((Some(_), name)) => return Err(A::Error::duplicate_field(name)),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(values)
    }
}

/// A key: which of the names it is, if any.
struct Name<'n>(&'n [&'static str]);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        if let Some(at) = self.0.iter().position(|name| *name == key) {
            return Ok(Some(at));
        }
        match self.0.iter().find(|name| folds_to(key, name)) {
            Some(name) => Err(E::custom(format_args!("`{key}` must be written `{name}`"))),
            None => Ok(None),
        }
    }
}

/// Whether a parser that folds case takes `key` for `name`. Two letters outside ASCII fold into it:
/// the long s and the sign for kelvin.
fn folds_to(key: &str, name: &str) -> bool {
    let folded = key.chars().map(|letter| match letter {
        'ſ' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    });
    folded.eq(name.chars().map(|letter| letter.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_by_their_exact_names() {
        let text = r#"{"b":null, "x":{"a":1}, "\u0061": [1, 2] }"#;

        let [a, b, c] = members(text, &["a", "b", "c"]).unwrap();

        assert_eq!(a.map(RawValue::get), Some("[1, 2]"));
        assert_eq!(b.map(RawValue::get), Some("null"));
        assert!(c.is_none());
    }

    #[test]
    fn an_error_quotes_nothing_that_it_was_given() {
        let error = members(r#" "secret" "#, &["name"]).expect_err("a string");

        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn what_another_parser_could_read_otherwise_is_refused() {
        for text in [
            r#"{"name":1,"name":2}"#,
            r#"{"name":1,"Name":2}"#,
            r#"{"NAME":1}"#,
            r#"{"parkſ":1}"#,
            r#"{"par\u212as":1}"#,
            r#"{"name":1,"n\u0041me":2}"#,
            r#"{"name":1} x"#,
            "[]",
            "",
        ] {
            assert!(members(text, &["name", "parks"]).is_err(), "{text}");
        }
    }
}
