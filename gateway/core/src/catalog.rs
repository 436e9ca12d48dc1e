//! What a server offers, as it said it. Performs no I/O.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use bytes::Bytes;
use mcp::splice::{Edit, splice};
use mcp::tool::text;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

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
            definition: definition.clone(),
        })
    }

    /// The definition with these changes; nothing else is touched.
    pub(crate) fn render(&self, change: &Change<'_>) -> Bytes {
        let quote = |text: &str| serde_json::Value::from(text).to_string();
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
