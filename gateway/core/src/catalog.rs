//! What a server offers, as it said it. Performs no I/O.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use bytes::Bytes;
use mcp::splice::{Edit, splice};
use mcp::tool::{Definition, text};
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
        let hints = parsed.annotations.unwrap_or_default();
        Ok(Self {
            name: name.as_ref().into(),
            replayable: hints.read_only_hint || hints.idempotent_hint,
            name_at: at(parsed.name).ok_or(CatalogError::Name)?,
            description_at: parsed.description.and_then(at),
            definition: definition.clone(),
        })
    }

    /// The definition under another name and description; nothing else is touched.
    pub(crate) fn render(&self, name: &str, description: Option<&str>) -> Bytes {
        let quote = |text: &str| serde_json::Value::from(text).to_string();
        let edit = |range: &Range<usize>, with| {
            Edit::replace(&self.definition, self.definition.get(range.clone())?, with)
        };
        let mut new_name = quote(name);
        let new_description = description.map(quote);
        let mut edits = Vec::new();
        match (&new_description, &self.description_at) {
            (Some(new), Some(at)) => edits.extend(edit(at, new.as_bytes())),
            (Some(new), None) => new_name = format!("{new_name},\"description\":{new}"),
            (None, _) => {}
        }
        let adds_description = new_description.is_some() && self.description_at.is_none();
        if *name != *self.name || adds_description {
            edits.extend(edit(&self.name_at, new_name.as_bytes()));
        }
        if edits.is_empty() {
            self.definition.clone()
        } else {
            splice(&self.definition, &mut edits)
        }
    }
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

    #[test]
    fn renaming_touches_the_name_alone() {
        let json = r#"{"x-vendor": 1.0, "name":"a\u0064d","inputSchema":{"name":"q"} }"#;
        let tool = Tool::parse(&raw(json)).unwrap();

        assert_eq!(&*tool.name, "add");
        assert_eq!(tool.render("add", None), json);
        assert_eq!(
            tool.render("calc_add", None),
            r#"{"x-vendor": 1.0, "name":"calc_add","inputSchema":{"name":"q"} }"#
        );
    }

    #[test]
    fn a_description_is_replaced_or_added() {
        let with = Tool::parse(&raw(r#"{"description":"old","name":"a"}"#)).unwrap();
        let without = Tool::parse(&raw(r#"{"name":"a","title":"A"}"#)).unwrap();

        assert_eq!(
            with.render("b", Some("new \"x\"")),
            r#"{"description":"new \"x\"","name":"b"}"#
        );
        assert_eq!(with.render("a", Some("new")), r#"{"description":"new","name":"a"}"#);
        assert_eq!(
            without.render("a", Some("new")),
            r#"{"name":"a","description":"new","title":"A"}"#
        );
    }

    #[test]
    fn definitions_without_a_name_and_duplicates_are_refused() {
        let mut catalog = Catalog::default();
        catalog.add(&raw(r#"{"name":"a"}"#)).unwrap();

        for json in [r#"{"name":"a"}"#, r#"{"name":""}"#, r#"{"name":1}"#, "{}", "[]", "7"] {
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
        ] {
            let tool = Tool::parse(&raw(&format!(r#"{{"name":"a","annotations":{hints}}}"#)));
            assert_eq!(tool.unwrap().replayable, replayable, "{hints}");
        }
    }
}
