//! The members of a JSON object that we read, each raw. Performs no I/O.
//!
//! Some parsers take keys that differ in case for the same (Go's does), and of two the last. What we
//! decide by must be what the server reads, so such keys are refused, as duplicates are.

use serde::de::Error;

use crate::json::{Json, NotJson};
use crate::object::{entries, unescape};

/// Values of members, each at the place of its name.
pub type Members<'a, const N: usize> = Result<[Option<Json<'a>>; N], serde_json::Error>;

/// The values of the members called `names`, in that order; an explicit `null` is a value.
///
/// # Errors
/// A value that is no object, a name that stands twice, or one that differs in case only.
pub fn members<'a, const N: usize>(object: Json<'a>, names: &[&'static str; N]) -> Members<'a, N> {
    let mut found = Found::new(names);
    entries(object.get()).for_each(|entry| found.note(entry.key(), Json::part(entry.value())));
    found.of(object)
}

/// Text that is one value, and its members likewise.
pub(crate) fn read<'a, const N: usize>(
    text: &'a str,
    names: &[&'static str; N],
) -> Result<(Json<'a>, Members<'a, N>), NotJson> {
    let mut found = Found::new(names);
    let value = Json::read(text, |key, value| found.note(key, value))?;
    Ok((value, found.of(value)))
}

struct Found<'a, 'n, const N: usize> {
    names: &'n [&'static str; N],
    values: [Option<Json<'a>>; N],
    wrong: Option<serde_json::Error>,
}

impl<'a, 'n, const N: usize> Found<'a, 'n, N> {
    const fn new(names: &'n [&'static str; N]) -> Self {
        Self { names, values: [None; N], wrong: None }
    }

    /// `key` is JSON text.
    fn note(&mut self, key: &'a str, value: Json<'a>) {
        let Some(key) = unescape(key) else { return };
        match self.names.iter().zip(&mut self.values).find(|(name, _)| **name == key) {
            Some((_, place @ None)) => *place = Some(value),
            Some((name, Some(_))) => self.wrong = Some(serde_json::Error::duplicate_field(name)),
            None => {
                if let Some(name) = self.names.iter().find(|name| folds_to(&key, name)) {
                    let message = format_args!("`{key}` must be written `{name}`");
                    self.wrong = Some(serde_json::Error::custom(message));
                }
            }
        }
    }

    fn of(self, value: Json<'a>) -> Members<'a, N> {
        match self.wrong {
            Some(wrong) => Err(wrong),
            None if !value.is_object() => Err(serde_json::Error::custom("expected an object")),
            None => Ok(self.values),
        }
    }
}

/// Whether a parser that folds case takes `key` for `name`. Two letters outside ASCII fold into it:
/// the long s and the sign for kelvin.
fn folds_to(key: &str, name: &str) -> bool {
    if key.is_ascii() {
        return key.eq_ignore_ascii_case(name);
    }
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

        let [a, b, c] = members(Json::parse(text).unwrap(), &["a", "b", "c"]).unwrap();

        assert_eq!(a.map(Json::get), Some("[1, 2]"));
        assert_eq!(b.map(Json::get), Some("null"));
        assert!(c.is_none());
    }

    #[test]
    fn an_error_quotes_nothing_that_it_was_given() {
        let error =
            members(Json::parse(r#" "secret" "#).unwrap(), &["name"]).expect_err("a string");

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
            "[]",
        ] {
            let value = Json::parse(text).unwrap();
            assert!(members(value, &["name", "parks"]).is_err(), "{text}");
        }
    }
}
