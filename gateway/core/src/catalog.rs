//! What a server offers, as it said it. Performs no I/O.

use std::collections::HashSet;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use mcp::splice::{Edit, splice};
use mcp::tool::text;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::hex;

/// The tools of one server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    tools: Vec<Tool>,
    names: HashSet<Box<str>>,
}

/// A tool as its server defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// The server's own name for it.
    pub name: Box<str>,
    /// Whether a call may be sent twice: annotated read-only or idempotent.
    pub replayable: bool,
    /// Of the definition, whatever the order of its members.
    pub hash: DefinitionHash,
    definition: Bytes,
    name_at: Range<usize>,
    description_at: Option<Range<usize>>,
    has_title: bool,
}

/// What is read of a definition. The parts that may be replaced stay raw.
#[derive(Deserialize)]
struct Definition<'a> {
    #[serde(borrow)]
    name: &'a RawValue,
    #[serde(borrow, default, deserialize_with = "even_null")]
    description: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "even_null")]
    title: Option<&'a RawValue>,
    #[serde(borrow, default)]
    annotations: Option<&'a RawValue>,
}

/// A field that is `null` is there all the same: a second one beside it would make two.
fn even_null<'de, D: Deserializer<'de>>(field: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(field).map(Some)
}

/// Hints about a tool's behaviour. They are only hints: what is not understood says nothing.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Hints {
    title: Option<String>,
    read_only_hint: Option<bool>,
    idempotent_hint: Option<bool>,
}

/// A tool's definition that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// No object with a `name`.
    #[error("a tool's definition cannot be read: {0}")]
    Definition(#[from] serde_json::Error),
    /// `name` is not a string, or empty.
    #[error("a tool's name is not a string of at least one character")]
    Name,
    /// Two tools of one name.
    #[error("two tools are called {0}")]
    Duplicate(Box<str>),
}

impl Catalog {
    /// Adds a definition as the server sent it.
    ///
    /// # Errors
    /// A definition that has no usable name or one that is taken; the catalog stays as it was.
    pub fn add(&mut self, definition: &RawValue) -> Result<(), CatalogError> {
        let tool = Tool::parse(definition)?;
        if !self.names.insert(tool.name.clone()) {
            return Err(CatalogError::Duplicate(tool.name));
        }
        self.tools.push(tool);
        Ok(())
    }

    /// The tools, in the server's order.
    pub fn tools(&self) -> &[Tool] {
        &self.tools
    }

    /// Of all definitions, whatever their order.
    pub fn hash(&self) -> DefinitionHash {
        let mut all: Vec<(&str, DefinitionHash)> =
            self.tools.iter().map(|tool| (&*tool.name, tool.hash)).collect();
        all.sort_unstable();
        let mut context = Context::new(&SHA256);
        for (name, DefinitionHash(hash)) in all {
            context.update(name.as_bytes());
            context.update(&hash);
        }
        DefinitionHash::of(context)
    }

    /// All definitions as a JSON array, to be stored.
    pub fn to_json(&self) -> Vec<u8> {
        let definitions: Vec<&[u8]> = self.tools.iter().map(|tool| &*tool.definition).collect();
        [b"[".as_slice(), &definitions.join(&b","[..]), b"]"].concat()
    }

    /// What [`Self::to_json`] stored.
    ///
    /// # Errors
    /// No array of definitions, or one of them cannot be used.
    pub fn from_json(json: &[u8]) -> Result<Self, CatalogError> {
        let definitions: Vec<&RawValue> = serde_json::from_slice(json)?;
        let mut catalog = Self::default();
        definitions.into_iter().try_for_each(|definition| catalog.add(definition))?;
        Ok(catalog)
    }
}

/// Tells definitions apart: the first half of a SHA-256. Somebody who makes a tool do something else
/// must not be able to keep it, so it is no mere checksum.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DefinitionHash([u8; 16]);

impl DefinitionHash {
    fn of(context: Context) -> Self {
        let mut hash = [0; 16];
        for (to, from) in hash.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Self(hash)
    }

    /// Of a definition. Members are sorted: the order they come in may be another each time.
    fn of_definition(definition: &[u8]) -> Result<Self, serde_json::Error> {
        let mut context = Context::new(&SHA256);
        digest(serde_json::from_slice(definition)?, MAX_DEPTH, &mut context)?;
        Ok(Self::of(context))
    }
}

/// Below this depth definitions are compared as they are written: each level is read once more.
const MAX_DEPTH: usize = 32;

/// Values stay raw: a number may have more digits than any type of ours.
fn digest(value: &RawValue, depth: usize, to: &mut Context) -> Result<(), serde_json::Error> {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'[') if depth > 0 => {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            to.update(b"[");
            for item in items {
                digest(item, depth - 1, to)?;
                to.update(b",");
            }
            to.update(b"]");
        }
        Some(b'{') if depth > 0 => {
            let Members(mut members) = serde_json::from_str(text)?;
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            to.update(b"{");
            for (name, value) in members {
                to.update(Value::from(name).to_string().as_bytes());
                to.update(b":");
                digest(value, depth - 1, to)?;
                to.update(b",");
            }
            to.update(b"}");
        }
        // One string may be written in many ways.
        Some(b'"') => {
            let string: String = serde_json::from_str(text)?;
            to.update(Value::from(string).to_string().as_bytes());
        }
        _ => to.update(text.as_bytes()),
    }
    Ok(())
}

/// The members of an object in the order they stand.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        from.deserialize_map(Visitor)
    }
}

impl fmt::Display for DefinitionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for DefinitionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<DefinitionHash> for String {
    fn from(hash: DefinitionHash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for DefinitionHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        hex::decode(&text).map(Self).ok_or("a hash is 32 hexadecimal digits")
    }
}

impl Tool {
    fn parse(definition: &RawValue) -> Result<Self, CatalogError> {
        let definition = Bytes::copy_from_slice(definition.get().as_bytes());
        let parsed: Definition<'_> = serde_json::from_slice(&definition)?;
        let name = text(parsed.name).filter(|name| !name.is_empty()).ok_or(CatalogError::Name)?;
        let at = |raw: &RawValue| {
            let (start, end) = Edit::replace(&definition, raw.get().as_bytes(), b"")?.range();
            Some(start..end)
        };
        let hints: Hints = parsed
            .annotations
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
            .unwrap_or_default();
        Ok(Self {
            name: name.as_ref().into(),
            replayable: hints.read_only_hint == Some(true) || hints.idempotent_hint == Some(true),
            name_at: at(parsed.name).ok_or(CatalogError::Name)?,
            description_at: parsed.description.and_then(at),
            has_title: parsed.title.is_some() || hints.title.is_some(),
            hash: DefinitionHash::of_definition(&definition)?,
            definition: definition.clone(),
        })
    }

    /// The definition with these changes; nothing else is touched.
    pub(crate) fn render(&self, change: &Change<'_>) -> Bytes {
        let quote = |text: &str| Value::from(text).to_string();
        let edit = |range: &Range<usize>, with| {
            Edit::replace(&self.definition, self.definition.get(range.clone())?, with)
        };
        let description = change.description.map(quote);
        let title = change.title.filter(|_| !self.has_title).map(quote);
        let mut added = String::new();
        if let Some(description) = description.as_ref().filter(|_| self.description_at.is_none()) {
            added.push_str(&format!(",\"description\":{description}"));
        }
        if let Some(title) = title {
            added.push_str(&format!(",\"title\":{title}"));
        }
        let name = quote(change.name) + &added;
        let mut edits = Vec::new();
        if *change.name != *self.name || !added.is_empty() {
            edits.extend(edit(&self.name_at, name.as_bytes()));
        }
        if let (Some(description), Some(at)) = (&description, &self.description_at) {
            edits.extend(edit(at, description.as_bytes()));
        }
        if edits.is_empty() {
            self.definition.clone()
        } else {
            splice(&self.definition, &mut edits)
        }
    }
}

/// How clients see a tool differently from how its server defines it.
pub(crate) struct Change<'a> {
    pub(crate) name: &'a str,
    /// In place of the server's own, if any.
    pub(crate) description: Option<&'a str>,
    /// For people, if the server gives none.
    pub(crate) title: Option<&'a str>,
}

/// A short fingerprint to tell whether something changed; no security rests on it.
pub(crate) fn fingerprint(value: impl Hash) -> u64 {
    // `DefaultHasher::new` has fixed keys: the same definition has the same print in every process,
    // so that a client which reconnects elsewhere is not told of a change that is none.
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        serde_json::from_str(json).unwrap()
    }

    fn parse(json: &str) -> Tool {
        Tool::parse(&raw(json)).unwrap()
    }

    const fn named(name: &str) -> Change<'_> {
        Change { name, description: None, title: None }
    }

    #[test]
    fn renaming_touches_the_name_alone() {
        let json = r#"{"x-vendor": 1.0, "name":"a\u0064d","inputSchema":{"name":"q"} }"#;
        let tool = parse(json);

        assert_eq!(&*tool.name, "add");
        assert_eq!(tool.render(&named("add")), json);
        assert_eq!(
            tool.render(&named("calc_add")),
            r#"{"x-vendor": 1.0, "name":"calc_add","inputSchema":{"name":"q"} }"#
        );
    }

    #[test]
    fn a_description_is_replaced_or_added() {
        for (json, name, expected) in [
            (r#"{"description":"old","name":"a"}"#, "b", r#"{"description":"n\"w","name":"b"}"#),
            (r#"{"description":"old","name":"a"}"#, "a", r#"{"description":"n\"w","name":"a"}"#),
            (r#"{"description":null,"name":"a"}"#, "a", r#"{"description":"n\"w","name":"a"}"#),
            (r#"{"name":"a","x":1}"#, "a", r#"{"name":"a","description":"n\"w","x":1}"#),
        ] {
            let change = Change { description: Some("n\"w"), ..named(name) };
            assert_eq!(parse(json).render(&change), expected, "{json}");
        }
    }

    #[test]
    fn a_title_is_added_where_there_is_none() {
        for (json, expected) in [
            (r#"{"name":"a.b"}"#, r#"{"name":"a_b","title":"a.b"}"#),
            (r#"{"name":"a.b","title":"A"}"#, r#"{"name":"a_b","title":"A"}"#),
            (r#"{"name":"a.b","title":null}"#, r#"{"name":"a_b","title":null}"#),
            (
                r#"{"name":"a.b","annotations":{"title":"A"}}"#,
                r#"{"name":"a_b","annotations":{"title":"A"}}"#,
            ),
        ] {
            let change = Change { title: Some("a.b"), ..named("a_b") };
            assert_eq!(parse(json).render(&change), expected, "{json}");
        }
    }

    #[test]
    fn the_hash_is_of_what_a_definition_says() {
        let hash = |json: &str| parse(json).hash;
        let one = hash(r#"{"name":"a","inputSchema":{"x":1,"y":[1,2]}}"#);

        assert_eq!(one, hash(r#"{ "inputSchema":{"y":[1,2],"x":1}, "name":"\u0061"}"#));
        for other in [
            r#"{"name":"a","inputSchema":{"x":1,"y":[2,1]}}"#,
            r#"{"name":"a","inputSchema":{"x":1,"y":[12]}}"#,
            r#"{"name":"a","inputSchema":{"x":"1","y":[1,2]}}"#,
            r#"{"name":"a","inputSchema":{"x":1,"y":[1,2]},"description":""}"#,
            r#"{"name":"a","inputSchema":{"x":1e400,"y":[1,2]}}"#,
        ] {
            assert_ne!(one, hash(other), "{other}");
        }
        // As deep as may be.
        let deep = format!(r#"{{"name":"a","x":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
        assert_ne!(one, hash(&deep));
    }

    #[test]
    fn a_catalog_is_stored_as_it_was() {
        let mut catalog = Catalog::default();
        catalog.add(&raw(r#"{ "name":"a", "x":1.0 }"#)).unwrap();
        catalog.add(&raw(r#"{"name":"b"}"#)).unwrap();

        let read = Catalog::from_json(&catalog.to_json()).unwrap();

        assert_eq!(read, catalog);
        assert_eq!(read.hash(), catalog.hash());
        assert_eq!(Catalog::from_json(b"[]").unwrap(), Catalog::default());
        assert!(Catalog::from_json(b"{}").is_err());
    }

    #[test]
    fn definitions_without_a_name_and_duplicates_are_refused() {
        let mut catalog = Catalog::default();
        catalog.add(&raw(r#"{"name":"a"}"#)).unwrap();

        for json in [
            r#"{"name":"a"}"#,
            r#"{"name":"\u0061"}"#,
            r#"{"name":""}"#,
            r#"{"name":1}"#,
            r#"{"name":null}"#,
            r#"{"name":"b","name":"c"}"#,
            "{}",
            "[]",
            "7",
        ] {
            assert!(catalog.add(&raw(json)).is_err(), "{json}");
        }
        assert_eq!(catalog.tools().len(), 1);
    }

    #[test]
    fn hints_tell_whether_a_call_may_be_sent_twice() {
        for (hints, replayable) in [
            (r#"{"readOnlyHint":true}"#, true),
            (r#"{"idempotentHint":true,"readOnlyHint":false}"#, true),
            (r#"{"title":"x"}"#, false),
            (r#"{"readOnlyHint":null,"idempotentHint":true}"#, true),
            (r#"{"readOnlyHint":"yes"}"#, false),
            ("null", false),
            ("[]", false),
        ] {
            let tool = parse(&format!(r#"{{"name":"a","annotations":{hints}}}"#));
            assert_eq!(tool.replayable, replayable, "{hints}");
        }
    }
}
