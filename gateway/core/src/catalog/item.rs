//! A prompt, a resource or a template of resources as its server defines it. Performs no I/O.

use std::ops::Range;

use bytes::Bytes;
use mcp::json::Json;
use mcp::tool::text;
use serde::Deserialize;

use super::definition::{Definition, even_null, quoted};
use super::{CatalogError, Listed};

/// A prompt as its server defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// The server's own name for it.
    pub name: Box<str>,
    definition: Definition,
    name_at: Range<usize>,
    has_title: bool,
}

impl Prompt {
    pub(super) fn parse(raw: Json<'_>) -> Result<Self, CatalogError> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow)]
            name: Json<'a>,
            #[serde(borrow, default, deserialize_with = "even_null")]
            title: Option<Json<'a>>,
        }
        let definition = Definition::new(raw);
        let (name, name_at, has_title) = {
            let unreadable = |error| CatalogError::Definition(Listed::Prompt, error);
            let fields: Fields<'_> =
                serde_json::from_slice(definition.bytes()).map_err(unreadable)?;
            let (name, at) = key(Listed::Prompt, fields.name, &definition)?;
            (name, at, fields.title.is_some())
        };
        Ok(Self { name, definition, name_at, has_title })
    }

    /// As the server sent it.
    pub const fn definition(&self) -> &Bytes {
        self.definition.bytes()
    }

    /// The definition under another name, and with a title for people if it has none.
    pub(crate) fn render(&self, name: &str, title: Option<&str>) -> Bytes {
        if *name == *self.name {
            return self.definition.bytes().clone();
        }
        let title = title.filter(|_| !self.has_title).map(quoted);
        let title = title.map(|title| format!(",\"title\":{title}")).unwrap_or_default();
        self.definition.with(&[(&self.name_at, quoted(name) + &title)])
    }
}

/// A resource or a template of resources as its server defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The server's own `uri` or `uriTemplate`.
    pub uri: Box<str>,
    definition: Definition,
    uri_at: Range<usize>,
}

impl Located {
    pub(super) fn resource(raw: Json<'_>) -> Result<Self, CatalogError> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(borrow)]
            uri: Json<'a>,
        }
        Self::parse(Listed::Resource, raw, |json| {
            serde_json::from_slice(json).map(|Fields { uri }| uri)
        })
    }

    pub(super) fn template(raw: Json<'_>) -> Result<Self, CatalogError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Fields<'a> {
            #[serde(borrow)]
            uri_template: Json<'a>,
        }
        Self::parse(Listed::Template, raw, |json| {
            serde_json::from_slice(json).map(|Fields { uri_template }| uri_template)
        })
    }

    fn parse(
        listed: Listed,
        raw: Json<'_>,
        uri_of: impl for<'a> Fn(&'a [u8]) -> serde_json::Result<Json<'a>>,
    ) -> Result<Self, CatalogError> {
        let definition = Definition::new(raw);
        let (uri, uri_at) = {
            let raw = uri_of(definition.bytes())
                .map_err(|error| CatalogError::Definition(listed, error))?;
            key(listed, raw, &definition)?
        };
        Ok(Self { uri, definition, uri_at })
    }

    /// As the server sent it.
    pub const fn definition(&self) -> &Bytes {
        self.definition.bytes()
    }

    /// The definition with another URI or template.
    pub(crate) fn render(&self, uri: &str) -> Bytes {
        self.definition.with(&[(&self.uri_at, quoted(uri))])
    }
}

/// What an item of a list is known by, and where it stands.
pub(super) fn key(
    listed: Listed,
    raw: Json<'_>,
    definition: &Definition,
) -> Result<(Box<str>, Range<usize>), CatalogError> {
    let key = text(raw).filter(|key| !key.is_empty()).map(|key| Box::from(&*key));
    key.zip(definition.at(raw)).ok_or(CatalogError::Key(listed))
}
