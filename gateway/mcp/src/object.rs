//! The members of a JSON object where they stand, and changes to some of them. Performs no I/O.
//!
//! Everything here takes text that a parser has already accepted. Of other text it finds some
//! members or none, and never panics.

use std::borrow::Cow;

use crate::json::Json;

use crate::json::{end_of_string, is_space};
use crate::splice::{Edit, offset_in};

/// One member of an object, as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    key: &'a str,
    value: &'a str,
}

impl<'a> Entry<'a> {
    /// The JSON text of the key, quotes included.
    pub const fn key(&self) -> &'a str {
        self.key
    }

    /// The key, unescaped.
    pub fn name(&self) -> Option<Cow<'a, str>> {
        unescape(self.key)
    }

    /// Whether the key is `name`, however it is escaped.
    pub fn is(&self, name: &str) -> bool {
        self.name().is_some_and(|key| key == name)
    }

    /// The JSON text of the value.
    pub const fn value(&self) -> &'a str {
        self.value
    }
}

/// The members of the object `text`, in order. Text of another kind has none.
pub fn entries(text: &str) -> Entries<'_> {
    Entries { walk: Walk::into(text, b'{') }
}

/// The elements of the array `text`, in order. Text of another kind has none.
pub fn elements(text: &str) -> Elements<'_> {
    Elements { walk: Walk::into(text, b'[') }
}

/// The value of the first member called `name`.
pub fn member<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    entries(text).find(|entry| entry.is(name)).map(|entry| entry.value())
}

/// The value as raw JSON.
pub fn raw(text: &str) -> Option<Json<'_>> {
    serde_json::from_str(text).ok()
}

/// Iterator over the members of an object: see [`entries`].
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    walk: Walk<'a>,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        self.walk.skip(|byte| is_space(byte) || byte == b',');
        self.walk.peek().filter(|byte| *byte == b'"')?;
        let key = self.walk.value()?;
        self.walk.skip(|byte| is_space(byte) || byte == b':');
        let value = self.walk.value()?;
        Some(Entry { key, value })
    }
}

/// Iterator over the elements of an array: see [`elements`].
#[derive(Debug, Clone)]
pub struct Elements<'a> {
    walk: Walk<'a>,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.walk.skip(|byte| is_space(byte) || byte == b',');
        self.walk.peek().filter(|byte| *byte != b']')?;
        self.walk.value()
    }
}

/// What should become of one member.
#[derive(Debug, Clone)]
pub struct Change<'a> {
    name: &'a str,
    fate: Fate<'a>,
}

#[derive(Debug, Clone)]
enum Fate<'a> {
    Set(Cow<'a, str>),
    Default(Cow<'a, str>),
    Gone,
}

impl<'a> Change<'a> {
    /// Gives the member called `name` this value (JSON text), whether it is there or not.
    ///
    /// `name` is written as it is: it must need no escaping.
    pub fn set(name: &'a str, value: impl Into<Cow<'a, str>>) -> Self {
        Self { name, fate: Fate::Set(value.into()) }
    }

    /// Adds the member called `name` with this value (JSON text) if there is none.
    pub fn default(name: &'a str, value: impl Into<Cow<'a, str>>) -> Self {
        Self { name, fate: Fate::Default(value.into()) }
    }

    /// Removes the member called `name`, with one comma.
    pub const fn remove(name: &'a str) -> Self {
        Self { name, fate: Fate::Gone }
    }
}

/// The edits of `source` that make `changes` to the members of the object `text`, a part of it.
///
/// Of a member that stands several times the first is changed, and the others are removed. Text that
/// is no object, or no part of `source`, gives no edits.
pub fn change<'a>(source: &[u8], text: &str, changes: &[Change<'a>]) -> Vec<Edit<'a>> {
    let open = Walk::into(text, b'{').at;
    let Some(base) = offset_in(source, text.as_bytes()).filter(|_| open > 0) else {
        return Vec::new();
    };
    let at = |part: &str| offset_in(text.as_bytes(), part.as_bytes()).map(|start| base + start);
    let mut edits = Vec::new();
    let mut seen = vec![false; changes.len()];
    // Where the last member that stays ends, where the last member ends, and since where all are gone.
    let (mut kept, mut end, mut gone_from) = (None, base + open, None);
    for entry in entries(text) {
        let (Some(start), Some(value)) = (at(entry.key), at(entry.value)) else { continue };
        if let Some(from) = gone_from.take() {
            edits.push(Edit::at((from, start), b""));
        }
        let value_end = value + entry.value.len();
        let wanted = changes.iter().zip(&mut seen).find(|(change, _)| entry.is(change.name));
        let again = wanted.as_ref().is_some_and(|(_, seen)| **seen);
        let fate = wanted.map(|(change, seen)| {
            *seen = true;
            &change.fate
        });
        match (fate, kept) {
            (Some(Fate::Gone), None) => gone_from = Some(start),
            (Some(Fate::Gone), Some(_)) => edits.push(Edit::at((end, value_end), b"")),
            (Some(_), Some(_)) if again => edits.push(Edit::at((end, value_end), b"")),
            (Some(Fate::Set(with)), _) => {
                edits.push(Edit::owned((value, value_end), cow_bytes(with)));
                kept = Some(value_end);
            }
            (Some(Fate::Default(_)) | None, _) => kept = Some(value_end),
        }
        end = value_end;
    }
    if let Some(from) = gone_from {
        edits.push(Edit::at((from, end), b""));
    }
    for (change, seen) in changes.iter().zip(seen) {
        if let (Fate::Set(with) | Fate::Default(with), false) = (&change.fate, seen) {
            let text = format!("\"{}\":{with}", change.name);
            edits.push(Edit::member(end, text.into_bytes(), kept.is_none()));
        }
    }
    edits
}

fn cow_bytes<'a>(text: &Cow<'a, str>) -> Cow<'a, [u8]> {
    match text {
        Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
        Cow::Owned(text) => Cow::Owned(text.clone().into_bytes()),
    }
}

/// A place in JSON text.
#[derive(Debug, Clone)]
struct Walk<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Walk<'a> {
    /// After the `bracket` that `text` begins with. Without one there is nothing to walk.
    fn into(text: &'a str, bracket: u8) -> Self {
        let mut walk = Self { text, at: 0 };
        walk.skip(is_space);
        if walk.peek() == Some(bracket) {
            walk.at += 1;
            walk
        } else {
            Self { text: "", at: 0 }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip(&mut self, means_nothing: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&means_nothing) {
            self.at += 1;
        }
    }

    fn value(&mut self) -> Option<&'a str> {
        let start = self.at;
        self.at = end_of_value(self.text.as_bytes(), start).filter(|end| *end > start)?;
        self.text.get(start..self.at)
    }
}

/// Index after the value that begins at `at`.
fn end_of_value(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes.get(at..)?;
    match rest.first()? {
        b'"' => Some((end_of_string(bytes, at + 1) + 1).min(bytes.len())),
        b'{' | b'[' => end_of_nested(bytes, at),
        _ => {
            let ends = |byte: &u8| is_space(*byte) || matches!(byte, b',' | b'}' | b']' | b':');
            Some(at + rest.iter().position(ends).unwrap_or(rest.len()))
        }
    }
}

/// Brackets of the two kinds match each other in valid JSON.
fn end_of_nested(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match bytes.get(at)? {
            b'"' => at = end_of_string(bytes, at + 1),
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

/// The text of a JSON string; `None` when `json` is not one.
pub(crate) fn unescape(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if !has_escape(inner.as_bytes()) {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(json).ok().map(Cow::Owned)
}

/// Names and methods are short, and a look at each byte is then over before memchr has begun.
fn has_escape(text: &[u8]) -> bool {
    const SHORT: usize = 32;
    if text.len() < SHORT { text.contains(&b'\\') } else { memchr::memchr(b'\\', text).is_some() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::*;
    use crate::scan::tests::json;
    use crate::splice::splice;

    fn changed(text: &str, changes: &[Change<'_>]) -> String {
        let source = format!("[7, {text}]");
        let part = &source[4..source.len() - 1];
        let out = splice(source.as_bytes(), &mut change(source.as_bytes(), part, changes));
        let out = String::from_utf8(out.to_vec()).unwrap();
        out[4..out.len() - 1].to_owned()
    }

    #[test]
    fn entries_are_found_where_they_stand() {
        let text = " { \"a\" : {\"}\":[\"]\"]} ,\"\\u0062\":\"\\\"\" , \"c\":-1.5e3,\"d\":[ ] }";

        let found: Vec<_> =
            entries(text).map(|entry| (entry.name().unwrap(), entry.value())).collect();

        assert_eq!(
            found,
            [
                ("a".into(), r#"{"}":["]"]}"#),
                ("b".into(), "\"\\\"\""),
                ("c".into(), "-1.5e3"),
                ("d".into(), "[ ]")
            ]
        );
        assert_eq!(elements("[1, [2,3],\"]\" ]").collect::<Vec<_>>(), ["1", "[2,3]", "\"]\""]);
        assert_eq!(entries("[]").count() + entries("\"{}\"").count() + entries("").count(), 0);
    }

    #[test]
    fn removing_takes_one_comma() {
        for (text, expected) in [
            (r#"{"a":1}"#, "{}"),
            (r#"{"a":1,"k":2}"#, r#"{"k":2}"#),
            (r#"{ "a" : 1 , "k":2 }"#, r#"{ "k":2 }"#),
            (r#"{"k":2,"a":1}"#, r#"{"k":2}"#),
            (r#"{"k":2 , "a":1 }"#, r#"{"k":2 }"#),
            (r#"{"a":1,"b":{},"k":2}"#, r#"{"k":2}"#),
            (r#"{"a":1,"k":2,"b":3}"#, r#"{"k":2}"#),
            (r#"{"k":2,"a":1,"b":3}"#, r#"{"k":2}"#),
            (r#"{"k":2,"a":1,"l":3}"#, r#"{"k":2,"l":3}"#),
            (r#"{ "a":1, "b":3 }"#, "{  }"),
            (r#"{"\u0061":1,"k":2,"a":3}"#, r#"{"k":2}"#),
            ("{}", "{}"),
            ("[]", "[]"),
        ] {
            assert_eq!(changed(text, &[Change::remove("a"), Change::remove("b")]), expected);
        }
    }

    #[test]
    fn setting_replaces_or_appends() {
        let changes = [Change::set("a", "9"), Change::default("b", "8"), Change::remove("c")];
        for (text, expected) in [
            ("{}", r#"{"a":9,"b":8}"#),
            (r#"{"c":1}"#, r#"{"a":9,"b":8}"#),
            (r#"{"c":1,"c":2}"#, r#"{"a":9,"b":8}"#),
            (r#"{"x":1, "c":1 }"#, r#"{"x":1,"a":9,"b":8 }"#),
            (r#"{"b":1,"a":{"a":2}}"#, r#"{"b":1,"a":9}"#),
            (r#"{"a":1,"a":2}"#, r#"{"a":9,"b":8}"#),
        ] {
            assert_eq!(changed(text, &changes), expected, "{text}");
        }
    }

    #[test]
    fn two_changes_of_one_empty_object_are_separated() {
        let text = "{}";
        let mut edits = change(text.as_bytes(), text, &[Change::set("a", "1")]);
        edits.extend(change(text.as_bytes(), text, &[Change::set("b", "2")]));

        assert_eq!(splice(text.as_bytes(), &mut edits), r#"{"a":1,"b":2}"#);
    }

    proptest! {
        #[test]
        fn changes_do_what_they_say_and_nothing_else(
            members in prop::collection::vec(("[abcx-z]", json()), 0..7),
            pretty in any::<bool>(),
        ) {
            let object: Map<String, Value> = members.into_iter().collect();
            let text = if pretty { format!("{:#}", Value::from(object.clone())) }
                else { Value::from(object.clone()).to_string() };
            let changes = [Change::set("a", "[1]"), Change::remove("b"), Change::default("c", "{}")];
            let mut expected = object;
            expected.insert("a".into(), Value::from(vec![1]));
            expected.remove("b");
            expected.entry("c").or_insert_with(|| Value::Object(Map::new()));

            let result: Value = serde_json::from_str(&changed(&text, &changes)).unwrap();

            prop_assert_eq!(result, Value::from(expected));
        }

        #[test]
        fn garbage_never_panics(text in "[\\[\\]{}\",:a\\\\ 1é]{0,40}") {
            for entry in entries(&text) {
                prop_assert!(text.contains(entry.value()));
            }
            prop_assert!(elements(&text).count() <= text.len());
            let changes = [Change::set("a", "1"), Change::remove("")];
            let mut edits = change(text.as_bytes(), &text, &changes);
            splice(text.as_bytes(), &mut edits);
        }
    }
}
