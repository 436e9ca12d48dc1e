//! A catalog as it is stored and sent. Performs no I/O.

use bytes::Bytes;
use mcp::json::Json;
use serde::Deserialize;

use super::{Catalog, CatalogError, Located, Prompt};

/// What is read. What a later version may add is no concern of this one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored<'a> {
    #[serde(borrow)]
    tools: Vec<Json<'a>>,
    #[serde(borrow, default)]
    prompts: Vec<Json<'a>>,
    #[serde(borrow, default)]
    resources: Vec<Json<'a>>,
    #[serde(borrow, default)]
    templates: Vec<Json<'a>>,
    #[serde(borrow, default)]
    capabilities: Option<Json<'a>>,
    #[serde(borrow, default)]
    instructions: Option<Json<'a>>,
    #[serde(borrow, default)]
    server_info: Option<Json<'a>>,
}

impl Catalog {
    /// Everything as a JSON object, to be stored.
    pub fn to_json(&self) -> Vec<u8> {
        let tools = self.tools.iter().map(|tool| tool.definition()).collect();
        let lists: [(&str, Vec<&Bytes>); 4] = [
            ("tools", tools),
            ("prompts", self.prompts.iter().map(Prompt::definition).collect()),
            ("resources", self.resources.iter().map(Located::definition).collect()),
            ("templates", self.templates.iter().map(Located::definition).collect()),
        ];
        let facts = [
            ("capabilities", &self.capabilities),
            ("instructions", &self.instructions),
            ("serverInfo", &self.server_info),
        ];
        let mut json = Vec::new();
        for (name, definitions) in lists {
            member(&mut json, name);
            json.push(b'[');
            for (at, definition) in definitions.into_iter().enumerate() {
                if at > 0 {
                    json.push(b',');
                }
                json.extend_from_slice(definition);
            }
            json.push(b']');
        }
        for (name, fact) in facts {
            if let Some(fact) = fact {
                member(&mut json, name);
                json.extend_from_slice(fact);
            }
        }
        json.push(b'}');
        json
    }

    /// What [`Self::to_json`] stored, or an earlier version did: the tools alone, as an array.
    ///
    /// # Errors
    /// Neither of them, or a definition that cannot be used.
    pub fn from_json(json: &[u8]) -> Result<Self, CatalogError> {
        let mut catalog = Self::default();
        if json.trim_ascii_start().starts_with(b"[") {
            let tools: Vec<Json<'_>> =
                serde_json::from_slice(json).map_err(CatalogError::Stored)?;
            tools.into_iter().try_for_each(|definition| catalog.add(definition))?;
            return Ok(catalog);
        }
        let stored: Stored<'_> = serde_json::from_slice(json).map_err(CatalogError::Stored)?;
        stored.tools.into_iter().try_for_each(|definition| catalog.add(definition))?;
        stored.prompts.into_iter().try_for_each(|definition| catalog.add_prompt(definition))?;
        stored.resources.into_iter().try_for_each(|definition| catalog.add_resource(definition))?;
        stored.templates.into_iter().try_for_each(|definition| catalog.add_template(definition))?;
        catalog.set_server(stored.capabilities, stored.instructions, stored.server_info);
        Ok(catalog)
    }
}

fn member(json: &mut Vec<u8>, name: &str) {
    json.push(if json.is_empty() { b'{' } else { b',' });
    json.extend_from_slice(format!("\"{name}\":").as_bytes());
}
