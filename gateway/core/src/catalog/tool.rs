//! A tool as its server defines it. Performs no I/O.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use mcp::header::ParamHeaders;
use mcp::json::Json;
use mcp::tool::text;
use serde::Deserialize;

use super::definition::{Definition, even_null, quoted};
use super::item::key;
use super::{CatalogError, DefinitionHash, Listed};

/// A tool as its server defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// The server's own name for it.
    pub name: Box<str>,
    /// Whether a call may be sent twice: annotated read-only or idempotent.
    pub replayable: bool,
    /// Arguments that a server of 2026-07-28 wants repeated as headers; none of most tools.
    pub headers: Option<Arc<ParamHeaders>>,
    /// Of the definition, whatever the order of its members.
    pub hash: DefinitionHash,
    definition: Definition,
    name_at: Range<usize>,
    description_at: Option<Range<usize>>,
    has_title: bool,
    /// The resources that hosts show with it, and where they are named.
    shown_with: Vec<(Box<str>, Range<usize>)>,
}

/// What is read of a definition. The parts that may be replaced stay raw.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    name: Json<'a>,
    #[serde(borrow, default, deserialize_with = "even_null")]
    description: Option<Json<'a>>,
    #[serde(borrow, default, deserialize_with = "even_null")]
    title: Option<Json<'a>>,
    #[serde(borrow, default)]
    annotations: Option<Json<'a>>,
    #[serde(borrow, default, rename = "_meta")]
    meta: Option<Json<'a>>,
}

/// Hints about a tool's behaviour. They are only hints: what is not understood says nothing.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Hints {
    title: Option<String>,
    read_only_hint: Option<bool>,
    idempotent_hint: Option<bool>,
}

/// Where the extension for MCP Apps names the resource that a host shows with a tool: there, and
/// in its first drafts.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta<'a> {
    #[serde(borrow)]
    ui: Option<Json<'a>>,
    #[serde(borrow, rename = "ui/resourceUri")]
    draft: Option<Json<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Ui<'a> {
    #[serde(borrow)]
    resource_uri: Option<Json<'a>>,
}

impl Tool {
    pub(super) fn parse(raw: Json<'_>) -> Result<Self, CatalogError> {
        let definition = Definition::new(raw);
        let unreadable = |error| CatalogError::Definition(Listed::Tool, error);
        let hash = DefinitionHash::of_definition(definition.bytes()).map_err(unreadable)?;
        let fields: Fields<'_> = serde_json::from_slice(definition.bytes()).map_err(unreadable)?;
        let (name, name_at) = key(Listed::Tool, fields.name, &definition)?;
        let hints: Hints = fields
            .annotations
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
            .unwrap_or_default();
        Ok(Self {
            name,
            headers: ParamHeaders::of_tool(raw)
                .ok()
                .filter(|headers| !headers.is_empty())
                .map(Arc::new),
            replayable: hints.read_only_hint == Some(true) || hints.idempotent_hint == Some(true),
            hash,
            name_at,
            description_at: fields.description.and_then(|raw| definition.at(raw)),
            has_title: fields.title.is_some() || hints.title.is_some(),
            shown_with: fields.meta.map(|meta| shown_with(meta, &definition)).unwrap_or_default(),
            definition: definition.clone(),
        })
    }

    /// As the server sent it.
    pub(super) const fn definition(&self) -> &Bytes {
        self.definition.bytes()
    }

    /// The resources that hosts show with it.
    pub(crate) fn shown_with(&self) -> impl Iterator<Item = &str> {
        self.shown_with.iter().map(|(uri, _)| &**uri)
    }

    /// The definition with these changes; nothing else is touched.
    pub(crate) fn render(&self, change: &Change<'_>) -> Bytes {
        let description = change.description.map(quoted);
        let title = change.title.filter(|_| !self.has_title).map(quoted);
        let mut added = String::new();
        if let Some(description) = description.as_ref().filter(|_| self.description_at.is_none()) {
            added.push_str(&format!(",\"description\":{description}"));
        }
        if let Some(title) = title {
            added.push_str(&format!(",\"title\":{title}"));
        }
        let mut changes = Vec::new();
        if *change.name != *self.name || !added.is_empty() {
            changes.push((&self.name_at, quoted(change.name) + &added));
        }
        if let (Some(description), Some(at)) = (description, &self.description_at) {
            changes.push((at, description));
        }
        if let Some(wrap) = change.wrap {
            changes.extend(self.shown_with.iter().map(|(uri, at)| (at, quoted(&wrap(uri)))));
        }
        self.definition.with(&changes)
    }
}

fn shown_with(meta: Json<'_>, definition: &Definition) -> Vec<(Box<str>, Range<usize>)> {
    let meta: Meta<'_> = serde_json::from_str(meta.get()).unwrap_or_default();
    let ui: Option<Ui<'_>> = meta.ui.and_then(|ui| serde_json::from_str(ui.get()).ok());
    let named = [ui.and_then(|ui| ui.resource_uri), meta.draft];
    let place = |raw| Some((text(raw)?.as_ref().into(), definition.at(raw)?));
    named.into_iter().flatten().filter_map(place).collect()
}

/// How clients see a tool differently from how its server defines it.
#[derive(Clone, Copy)]
pub(crate) struct Change<'a> {
    pub(crate) name: &'a str,
    /// In place of the server's own, if any.
    pub(crate) description: Option<&'a str>,
    /// For people, if the server gives none.
    pub(crate) title: Option<&'a str>,
    /// What becomes of the URIs it names.
    pub(crate) wrap: Option<&'a dyn Fn(&str) -> String>,
}
