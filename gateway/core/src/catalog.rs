//! What a server offers, as it said it. Performs no I/O.

mod definition;
mod hash;
mod item;
mod stored;
#[cfg(test)]
mod tests;
mod tool;

use std::collections::HashSet;
use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use mcp::json::Json;
use serde::Deserialize;

pub use hash::DefinitionHash;
pub(crate) use hash::fingerprint;
pub use item::{Located, Prompt};
pub(crate) use tool::Change;
pub use tool::Tool;

/// What one server offers, and what it says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    tools: Vec<Tool>,
    prompts: Vec<Prompt>,
    resources: Vec<Located>,
    templates: Vec<Located>,
    taken: Taken,
    capabilities: Option<Bytes>,
    instructions: Option<Bytes>,
    server_info: Option<Bytes>,
    advertised: Advertised,
}

/// What the items of each list are known by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Taken {
    tools: HashSet<Box<str>>,
    prompts: HashSet<Box<str>>,
    resources: HashSet<Box<str>>,
    templates: HashSet<Box<str>>,
}

/// Which lists the server says it has, whatever is in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Advertised {
    prompts: bool,
    resources: bool,
}

/// A definition that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// No object with what items of that list are known by.
    #[error("a {0}'s definition cannot be read: {1}")]
    Definition(Listed, #[source] serde_json::Error),
    /// It is not a string, or empty.
    #[error("a {0}'s {key} is not a string of at least one character", key = .0.key())]
    Key(Listed),
    /// Two items of one list.
    #[error("two {0}s have the {key} {1}", key = .0.key())]
    Duplicate(Listed, Box<str>),
    /// What was stored cannot be read.
    #[error("the list that was stored cannot be read: {0}")]
    Stored(#[source] serde_json::Error),
}

/// The lists of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// `tools/list`
    Tool,
    /// `prompts/list`
    Prompt,
    /// `resources/list`
    Resource,
    /// `resources/templates/list`
    Template,
}

impl Listed {
    /// The field that names an item.
    const fn key(self) -> &'static str {
        match self {
            Self::Tool | Self::Prompt => "name",
            Self::Resource => "uri",
            Self::Template => "uriTemplate",
        }
    }
}

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tool => "tool",
            Self::Prompt => "prompt",
            Self::Resource => "resource",
            Self::Template => "resource template",
        })
    }
}

impl Catalog {
    /// Adds a tool as the server sent it.
    ///
    /// # Errors
    /// A definition that has no usable name or one that is taken; the catalog stays as it was.
    pub fn add(&mut self, definition: Json<'_>) -> Result<(), CatalogError> {
        let tool = Tool::parse(definition)?;
        take(Listed::Tool, &tool.name, &mut self.taken.tools)?;
        self.tools.push(tool);
        Ok(())
    }

    /// Adds a prompt as the server sent it.
    ///
    /// # Errors
    /// A definition that has no usable name or one that is taken; the catalog stays as it was.
    pub fn add_prompt(&mut self, definition: Json<'_>) -> Result<(), CatalogError> {
        let prompt = Prompt::parse(definition)?;
        take(Listed::Prompt, &prompt.name, &mut self.taken.prompts)?;
        self.prompts.push(prompt);
        Ok(())
    }

    /// Adds a resource as the server sent it.
    ///
    /// # Errors
    /// A definition that has no usable `uri` or one that is taken; the catalog stays as it was.
    pub fn add_resource(&mut self, definition: Json<'_>) -> Result<(), CatalogError> {
        let resource = Located::resource(definition)?;
        take(Listed::Resource, &resource.uri, &mut self.taken.resources)?;
        self.resources.push(resource);
        Ok(())
    }

    /// Adds a template of resources as the server sent it.
    ///
    /// # Errors
    /// A definition that has no usable `uriTemplate` or one that is taken; the catalog stays as it
    /// was.
    pub fn add_template(&mut self, definition: Json<'_>) -> Result<(), CatalogError> {
        let template = Located::template(definition)?;
        take(Listed::Template, &template.uri, &mut self.taken.templates)?;
        self.templates.push(template);
        Ok(())
    }

    /// Keeps what the server says of itself, in place of what it said before: `capabilities`,
    /// `instructions` and `serverInfo` as they stand in its answer.
    pub fn set_server(
        &mut self,
        capabilities: Option<Json<'_>>,
        instructions: Option<Json<'_>>,
        server_info: Option<Json<'_>>,
    ) {
        let keep = |raw: Option<Json<'_>>| {
            raw.filter(|raw| !raw.is_null()).map(|raw| Bytes::copy_from_slice(raw.get().as_bytes()))
        };
        self.advertised = capabilities.map(Advertised::read).unwrap_or_default();
        self.capabilities = keep(capabilities);
        self.instructions = keep(instructions);
        self.server_info = keep(server_info);
    }

    /// The tools, in the server's order.
    pub fn tools(&self) -> &[Tool] {
        &self.tools
    }

    /// The prompts, in the server's order.
    pub fn prompts(&self) -> &[Prompt] {
        &self.prompts
    }

    /// The resources, in the server's order.
    pub fn resources(&self) -> &[Located] {
        &self.resources
    }

    /// The templates of resources, in the server's order.
    pub fn templates(&self) -> &[Located] {
        &self.templates
    }

    /// The server's `capabilities`, an object as JSON.
    pub const fn capabilities(&self) -> Option<&Bytes> {
        self.capabilities.as_ref()
    }

    /// The server's `instructions`, a string as JSON.
    pub const fn instructions(&self) -> Option<&Bytes> {
        self.instructions.as_ref()
    }

    /// The server's `serverInfo`, an object as JSON.
    pub const fn server_info(&self) -> Option<&Bytes> {
        self.server_info.as_ref()
    }

    /// Whether the server has prompts or says that it may.
    pub const fn has_prompts(&self) -> bool {
        !self.prompts.is_empty() || self.advertised.prompts
    }

    /// Whether the server has resources or says that it may.
    pub const fn has_resources(&self) -> bool {
        !self.resources.is_empty() || !self.templates.is_empty() || self.advertised.resources
    }

    /// Of the definitions of all tools, whatever their order: what is looked at and accepted.
    pub fn hash(&self) -> DefinitionHash {
        let mut all: Vec<(&str, DefinitionHash)> =
            self.tools.iter().map(|tool| (&*tool.name, tool.hash)).collect();
        all.sort_unstable();
        let mut context = Context::new(&SHA256);
        for (name, hash) in all {
            context.update(name.as_bytes());
            hash.add_to(&mut context);
        }
        DefinitionHash::of(context)
    }

    /// Of everything that is stored, whatever the order of each list.
    pub fn whole_hash(&self) -> DefinitionHash {
        let mut context = Context::new(&SHA256);
        self.hash().add_to(&mut context);
        let lists = [
            self.prompts.iter().map(Prompt::definition).collect::<Vec<_>>(),
            self.resources.iter().map(Located::definition).collect(),
            self.templates.iter().map(Located::definition).collect(),
            self.capabilities().into_iter().collect(),
            self.instructions().into_iter().collect(),
            self.server_info().into_iter().collect(),
        ];
        for list in lists {
            let hash = |json: &Bytes| DefinitionHash::of_definition(json).ok();
            let mut hashes: Vec<_> = list.into_iter().filter_map(hash).collect();
            hashes.sort_unstable();
            for hash in hashes {
                hash.add_to(&mut context);
            }
            context.update(b";");
        }
        DefinitionHash::of(context)
    }
}

fn take(listed: Listed, key: &str, taken: &mut HashSet<Box<str>>) -> Result<(), CatalogError> {
    if taken.insert(key.into()) { Ok(()) } else { Err(CatalogError::Duplicate(listed, key.into())) }
}

impl Advertised {
    fn read(capabilities: Json<'_>) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Fields<'a> {
            #[serde(borrow)]
            prompts: Option<Json<'a>>,
            #[serde(borrow)]
            resources: Option<Json<'a>>,
        }
        let Fields { prompts, resources } =
            serde_json::from_str(capabilities.get()).unwrap_or_default();
        Self { prompts: prompts.is_some(), resources: resources.is_some() }
    }
}
