//! `initialize`, both sides of it. Performs no I/O.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// What we read of a client's `initialize`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InitializeParams<'a> {
    /// The revision the client asks for.
    #[serde(borrow)]
    pub protocol_version: Cow<'a, str>,
}

/// Our answer to `initialize`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InitializeResult<'a> {
    /// The revision of this session.
    pub protocol_version: &'a str,
    /// What the session can do.
    pub capabilities: Capabilities,
    /// Who answers.
    pub server_info: Implementation<'a>,
}

/// Capabilities of a server, as far as we offer them.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Capabilities {
    /// Tools can be listed and called.
    pub tools: ListChanged,
}

/// A feature whose list may change under an open session.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListChanged {
    /// Whether changes are announced.
    pub list_changed: bool,
}

/// Name and version of a program.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Implementation<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
}

/// What we send to a server to begin a session. Declares no client capability.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InitializeRequest<'a> {
    /// The revision we ask for.
    pub protocol_version: &'a str,
    /// Empty: nothing a server may ask of us.
    pub capabilities: Empty,
    /// Who asks.
    pub client_info: Implementation<'a>,
}

/// `{}`
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Empty {}

/// What we read of a server's answer to `initialize`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerHello<'a> {
    /// The revision of the session.
    #[serde(borrow)]
    pub protocol_version: Cow<'a, str>,
    /// Who answers; what is not understood of it says nothing.
    #[serde(borrow, default)]
    server_info: Option<&'a RawValue>,
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
