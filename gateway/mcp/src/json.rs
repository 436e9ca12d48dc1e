//! JSON values as they stand in a message, read once. Performs no I/O.
//!
//! `serde_json`'s `RawValue` can only be had by reading its text, so that what stands four levels deep
//! is read four times on its way. A [`Json`] found in another one is not read again.

use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::object::{elements, entries};

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
        let reader = Reader { bytes: text.as_bytes(), at: 0 };
        reader.document(|(key, colon), (value, end)| {
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

    /// The elements of an array, in order. Values of other kinds have none.
    pub fn elements(self) -> impl Iterator<Item = Self> {
        elements(self.0).map(Self)
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

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

const fn is_space_char(char: char) -> bool {
    char.is_ascii() && is_space(char as u8)
}

/// What an open bracket is of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Array,
    Object,
}

/// Brackets that are open, the last one in the lowest bit.
#[derive(Default)]
struct Open {
    depth: u16,
    objects: u64,
}

impl Open {
    fn push(&mut self, kind: Kind) -> Result<(), NotJson> {
        if self.depth == MAX_DEPTH {
            return Err(NotJson::TooDeep);
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u64::from(kind == Kind::Object);
        Ok(())
    }

    const fn pop(&mut self) {
        self.depth -= 1;
        self.objects >>= 1;
    }

    const fn last(&self) -> Option<Kind> {
        match (self.depth, self.objects & 1) {
            (0, _) => None,
            (_, 0) => Some(Kind::Array),
            _ => Some(Kind::Object),
        }
    }
}

/// From where to before where.
type Span = (usize, usize);

/// Reads JSON text (RFC 8259) that is known to be UTF-8.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    /// One value and nothing else. Tells where the members of an object stand: key and value.
    fn document(mut self, mut member: impl FnMut(Span, Span)) -> Result<(), NotJson> {
        let mut open = Open::default();
        // Of the member of the outermost object that is being read.
        let (mut key, mut value) = ((0, 0), 0);
        self.space();
        loop {
            // A value is due, or the end of what was just opened.
            if open.depth == 1 {
                value = self.at;
            }
            match self.take() {
                Some(b'"') => self.string()?,
                Some(b'{') => {
                    open.push(Kind::Object)?;
                    self.space();
                    if self.peek() != Some(b'}') {
                        let found = self.key()?;
                        if open.depth == 1 {
                            key = found;
                        }
                        continue;
                    }
                    self.at += 1;
                    open.pop();
                }
                Some(b'[') => {
                    open.push(Kind::Array)?;
                    self.space();
                    if self.peek() != Some(b']') {
                        continue;
                    }
                    self.at += 1;
                    open.pop();
                }
                Some(b'-' | b'0'..=b'9') => {
                    self.at -= 1;
                    self.number()?;
                }
                Some(b't') => self.word(b"rue")?,
                Some(b'f') => self.word(b"alse")?,
                Some(b'n') => self.word(b"ull")?,
                _ => return Err(self.before()),
            }
            // What follows a value, until the next one is due.
            loop {
                if open.depth == 1 && open.last() == Some(Kind::Object) {
                    member(key, (value, self.at));
                }
                self.space();
                match (open.last(), self.take()) {
                    (None, None) => return Ok(()),
                    (Some(Kind::Object), Some(b',')) => {
                        self.space();
                        let found = self.key()?;
                        if open.depth == 1 {
                            key = found;
                        }
                        break;
                    }
                    (Some(Kind::Array), Some(b',')) => {
                        self.space();
                        break;
                    }
                    (Some(Kind::Object), Some(b'}')) | (Some(Kind::Array), Some(b']')) => {
                        open.pop();
                    }
                    (_, Some(_)) => return Err(self.before()),
                    (Some(_), None) => return Err(NotJson::Malformed(self.at)),
                }
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn space(&mut self) {
        while self.peek().is_some_and(is_space) {
            self.at += 1;
        }
    }

    /// The byte that was taken last is wrong; or, if there was none, it is missing.
    const fn before(&self) -> NotJson {
        NotJson::Malformed(self.at.saturating_sub(1))
    }

    /// A key and its colon, up to where the value is due. Tells where the key stands.
    fn key(&mut self) -> Result<Span, NotJson> {
        let start = self.at;
        self.expect(b'"')?;
        self.string()?;
        let end = self.at;
        self.space();
        self.expect(b':')?;
        self.space();
        Ok((start, end))
    }

    fn expect(&mut self, byte: u8) -> Result<(), NotJson> {
        if self.peek() != Some(byte) {
            return Err(NotJson::Malformed(self.at));
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, rest: &[u8]) -> Result<(), NotJson> {
        if !self.bytes.get(self.at..).is_some_and(|bytes| bytes.starts_with(rest)) {
            return Err(NotJson::Malformed(self.at));
        }
        self.at += rest.len();
        Ok(())
    }

    /// The rest of a string whose quote was taken.
    fn string(&mut self) -> Result<(), NotJson> {
        loop {
            self.plain();
            match self.take() {
                Some(b'"') => return Ok(()),
                Some(b'\\') => self.escape()?,
                Some(_) => return Err(self.before()),
                None => return Err(NotJson::Malformed(self.at)),
            }
        }
    }

    /// Skips what stands for itself.
    fn plain(&mut self) {
        self.at = end_of_plain(self.bytes, self.at);
    }

    fn escape(&mut self) -> Result<(), NotJson> {
        match self.take() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => {
                let digits = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk::<4>);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return Err(NotJson::Malformed(self.at));
                }
                self.at += 4;
                Ok(())
            }
            _ => Err(self.before()),
        }
    }

    fn number(&mut self) -> Result<(), NotJson> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.take() {
            Some(b'0') => {}
            Some(b'1'..=b'9') => self.digits(),
            _ => return Err(self.before()),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digit()?;
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digit()?;
            self.digits();
        }
        Ok(())
    }

    fn digit(&mut self) -> Result<(), NotJson> {
        match self.take() {
            Some(b'0'..=b'9') => Ok(()),
            _ => Err(self.before()),
        }
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }
}

/// Where something stands that is not for itself in a string: a quote, a backslash or a control; looked
/// for eight bytes at a time.
fn end_of_plain(bytes: &[u8], mut at: usize) -> usize {
    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let special = special(u64::from_le_bytes(*eight));
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let stands = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(stands).unwrap_or(rest.len())
}

/// Index of the quote that ends the string whose text begins at `at`, or the end of the bytes. For text
/// that was read before.
pub(crate) fn end_of_string(bytes: &[u8], mut at: usize) -> usize {
    loop {
        at = end_of_plain(bytes, at);
        match bytes.get(at) {
            Some(b'"') | None => return at.min(bytes.len()),
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

/// The highest bit of each byte that is a quote, a backslash or a control; above the lowest of them
/// there may be others.
const fn special(eight: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    const fn zeros(bytes: u64) -> u64 {
        bytes.wrapping_sub(ONES) & !bytes
    }
    let controls = eight.wrapping_sub(ONES * b' ' as u64) & !eight;
    let quotes = zeros(eight ^ ONES * b'"' as u64);
    let backslashes = zeros(eight ^ ONES * b'\\' as u64);
    (controls | quotes | backslashes) & ONES * 0x80
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
