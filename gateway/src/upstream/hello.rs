//! How we and servers make each other's acquaintance, in either era.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use mcp::ProtocolVersion;
use mcp::json::{Json, JsonBuf};
use mcp::lifecycle::{Implementation, ServerHello};
use mcp::modern::{self, Envelope};
use serde::Deserialize;

use super::fault::Fault;
use super::own::{request, result_of};

/// We ourselves can do nothing that a server could ask for.
pub(super) const NO_CAPABILITIES: &[u8] = b"{}";

pub(super) const INITIALIZED: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

const METHOD: HeaderName = HeaderName::from_static("mcp-method");

/// What a server said of itself.
#[derive(Debug, Clone)]
pub(super) struct Hello {
    /// Of the legacy era; of a modern server the newest of them.
    pub(super) version: ProtocolVersion,
    /// Whether a modern server knows a revision of the legacy era, too.
    pub(super) speaks_legacy: bool,
    pub(super) server_name: String,
    pub(super) server_version: String,
    pub(super) capabilities: Option<JsonBuf>,
    pub(super) instructions: Option<JsonBuf>,
    pub(super) server_info: Option<JsonBuf>,
}

impl Default for Hello {
    /// Before it said anything.
    fn default() -> Self {
        let (server_name, server_version) = Default::default();
        Self {
            version: ProtocolVersion::V2024_11_05,
            speaks_legacy: true,
            server_name,
            server_version,
            capabilities: None,
            instructions: None,
            server_info: None,
        }
    }
}

/// Who we are, as JSON.
pub(crate) fn implementation() -> String {
    let own = Implementation { name: "fairway", version: env!("CARGO_PKG_VERSION") };
    serde_json::to_string(&own).unwrap_or_default()
}

/// `initialize` for a client that can do so much, as JSON.
pub(super) fn initialize(id: u64, capabilities: &[u8]) -> Bytes {
    let params = format!(
        r#"{{"protocolVersion":"{}","capabilities":{},"clientInfo":{}}}"#,
        ProtocolVersion::LATEST,
        String::from_utf8_lossy(capabilities),
        implementation(),
    );
    request(id, "initialize", &params)
}

/// A request of our own to a modern server.
pub(super) fn own_request(id: u64, method: &str, params: &str) -> Bytes {
    request_of("{}", id, method, params)
}

/// The same, as of a client that can do so much, as JSON.
pub(super) fn request_of(capabilities: &str, id: u64, method: &str, params: &str) -> Bytes {
    let us = implementation();
    let envelope = Envelope {
        protocol_version: modern::VERSION,
        client_capabilities: capabilities,
        client_info: Some(&us),
        log_level: None,
    };
    let params = Json::parse(params).ok();
    let params = modern::envelope(params, &envelope);
    request(id, method, &String::from_utf8_lossy(&params))
}

/// The head of a request to a modern server that names nothing.
pub(super) fn method_header(method: &'static str) -> Vec<(HeaderName, HeaderValue)> {
    vec![(METHOD, HeaderValue::from_static(method))]
}

/// What the server said of itself, and the protocol version it chose.
pub(super) fn hello(answer: &[u8]) -> Result<Hello, Fault> {
    let result = result_of(answer)?;
    let hello: ServerHello<'_> =
        serde_json::from_str(result.get()).map_err(|error| Fault::misshapen(&error))?;
    let version = ProtocolVersion::from_wire(&hello.protocol_version)
        .ok_or_else(|| Fault::Garbage("an unknown protocol version".to_owned()))?;
    let (name, version_text) = hello.server();
    Ok(Hello {
        version,
        speaks_legacy: true,
        server_name: shortened(&name, MAX_NAME),
        server_version: shortened(&version_text, MAX_NAME),
        capabilities: hello.capabilities.and_then(short),
        instructions: hello.instructions.and_then(short),
        server_info: hello.server_info.and_then(short),
    })
}

/// What a server of 2026-07-28 said of itself.
pub(super) fn discovered(answer: &[u8]) -> Result<Hello, Fault> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Discovered<'a> {
        supported_versions: Vec<String>,
        #[serde(borrow, default)]
        capabilities: Option<Json<'a>>,
        #[serde(borrow, default)]
        instructions: Option<Json<'a>>,
        #[serde(borrow, default, rename = "_meta")]
        meta: Option<Json<'a>>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Named {
        name: String,
        version: String,
    }
    let found: Discovered<'_> =
        serde_json::from_str(result_of(answer)?.get()).map_err(|error| Fault::misshapen(&error))?;
    if !found.supported_versions.iter().any(|version| version == modern::VERSION) {
        return Err(Fault::Garbage("no protocol version that we speak".to_owned()));
    }
    let server = found.meta.and_then(|meta| mcp::object::member(meta.get(), modern::SERVER_INFO));
    let Named { name, version } =
        server.and_then(|server| serde_json::from_str(server).ok()).unwrap_or_default();
    let legacy = |name: &String| ProtocolVersion::from_wire(name);
    Ok(Hello {
        version: ProtocolVersion::LATEST,
        speaks_legacy: found.supported_versions.iter().find_map(legacy).is_some(),
        server_name: shortened(&name, MAX_NAME),
        server_version: shortened(&version, MAX_NAME),
        capabilities: found.capabilities.and_then(short),
        instructions: found.instructions.and_then(short),
        server_info: server.and_then(mcp::object::raw).and_then(short),
    })
}

/// Of the name and version of a server, in characters: they are shown in a status.
const MAX_NAME: usize = 128;
/// Of its capabilities, its instructions and of what it says of itself, in bytes: each session is
/// told, and each leg keeps them.
const MAX_TEXT: usize = 64 * 1024;

fn short(json: Json<'_>) -> Option<JsonBuf> {
    (json.get().len() <= MAX_TEXT).then(|| json.into())
}

fn shortened(text: &str, limit: usize) -> String {
    text.chars().take(limit).collect()
}
