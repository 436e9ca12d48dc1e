//! `initialize`, both sides of it. Performs no I/O.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::json::Json;

/// What we read of a client's `initialize`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitializeParams<'a> {
    /// The revision the client asks for.
    #[serde(borrow)]
    pub protocol_version: Cow<'a, str>,
    /// Raw capabilities of the client.
    #[serde(borrow, default)]
    pub capabilities: Option<Json<'a>>,
}

/// Name and version of a program.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Implementation<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
}

/// What we read of a server's answer to `initialize`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerHello<'a> {
    /// The revision of the session.
    #[serde(borrow)]
    pub protocol_version: Cow<'a, str>,
    /// Raw capabilities of the server.
    #[serde(borrow, default)]
    pub capabilities: Option<Json<'a>>,
    /// Raw text for the model, about the server.
    #[serde(borrow, default)]
    pub instructions: Option<Json<'a>>,
    /// Raw name and version of who answers.
    #[serde(borrow, default)]
    pub server_info: Option<Json<'a>>,
}

impl ServerHello<'_> {
    /// Name and version that the server gives itself; empty if it gives none.
    pub fn server(&self) -> (String, String) {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Server {
            name: String,
            version: String,
        }
        let server = self.server_info.and_then(|raw| serde_json::from_str(raw.get()).ok());
        let Server { name, version } = server.unwrap_or_default();
        (name, version)
    }
}
