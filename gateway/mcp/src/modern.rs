//! The envelope that every request of 2026-07-28 carries in its `_meta` (basic/index, `_meta`).
//! Performs no I/O.

use std::borrow::Cow;

use bytes::Bytes;
use serde::de::Error;

use crate::json::Json;
use crate::members::members;
use crate::object::{Change, change, entries, raw, unescape};
use crate::splice::{Edit, splice};
use crate::tool::text;

/// The revision of the modern era that we speak.
pub const VERSION: &str = "2026-07-28";

/// All revisions we speak, newest first: `data.supported` of -32022.
pub const SUPPORTED: &[&str] = &[VERSION, "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// Of requests: the revision. Required.
pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// Of requests: what the client can do. Required.
pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// Of requests: who asks.
pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// Of requests: the least severe log message that is wanted.
pub const LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// Of results: who answers.
pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";
/// Of notifications: the id of the `subscriptions/listen` they are sent for.
pub const SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";

/// What we read of a request's `_meta`, of either era. An explicit `null` counts as absent.
#[derive(Debug, Default)]
pub struct Meta<'a> {
    /// The revision of this request.
    pub protocol_version: Option<Cow<'a, str>>,
    /// Raw capabilities of the client, an object.
    pub client_capabilities: Option<Json<'a>>,
    /// Raw name and version of the client.
    pub client_info: Option<Json<'a>>,
    /// The least severe log message that is wanted.
    pub log_level: Option<Cow<'a, str>>,
    /// Raw progress token, a string or a number.
    pub progress_token: Option<Json<'a>>,
    /// W3C trace context (SEP-414).
    pub traceparent: Option<Cow<'a, str>>,
    /// W3C trace state.
    pub tracestate: Option<Cow<'a, str>>,
}

impl<'a> Meta<'a> {
    /// Reads the `_meta` of `params`. Without one everything is absent.
    ///
    /// # Errors
    /// `params` or `_meta` are no objects, a member has the wrong type, or keys that another parser
    /// could take for others: see [`members`].
    pub fn parse(params: Option<Json<'a>>) -> Result<Self, serde_json::Error> {
        let Some(params) = params.filter(given) else { return Ok(Self::default()) };
        let [meta] = members(params, &["_meta"])?;
        let Some(meta) = meta.filter(given) else { return Ok(Self::default()) };
        let names = [
            PROTOCOL_VERSION,
            CLIENT_CAPABILITIES,
            CLIENT_INFO,
            LOG_LEVEL,
            "progressToken",
            "traceparent",
            "tracestate",
        ];
        let [version, capabilities, info, level, token, parent, state] =
            members(meta, &names)?.map(|member| member.filter(given));
        if capabilities.is_some_and(|raw| !raw.get().starts_with('{')) {
            return Err(wrong(CLIENT_CAPABILITIES, "an object"));
        }
        if token.is_some_and(|token| token.get().starts_with(['{', '[', 't', 'f'])) {
            return Err(wrong("progressToken", "a string or a number"));
        }
        Ok(Self {
            protocol_version: string(version, PROTOCOL_VERSION)?,
            client_capabilities: capabilities,
            client_info: info,
            log_level: string(level, LOG_LEVEL)?,
            progress_token: token,
            traceparent: parent.and_then(text),
            tracestate: state.and_then(text),
        })
    }

    /// A required member of the modern era that is not there: the request is answered with -32602
    /// and status 400.
    pub fn missing(&self) -> Option<&'static str> {
        if self.protocol_version.is_none() {
            Some(PROTOCOL_VERSION)
        } else if self.client_capabilities.is_none() {
            Some(CLIENT_CAPABILITIES)
        } else {
            None
        }
    }
}

fn given(json: &Json<'_>) -> bool {
    !json.is_null()
}

fn string<'a>(
    value: Option<Json<'a>>,
    name: &str,
) -> Result<Option<Cow<'a, str>>, serde_json::Error> {
    value.map(|value| text(value).ok_or_else(|| wrong(name, "a string"))).transpose()
}

fn wrong(name: &str, kind: &str) -> serde_json::Error {
    serde_json::Error::custom(format_args!("`{name}` must be {kind}"))
}

/// What we say of a client to a modern server.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// The revision we speak with the server.
    pub protocol_version: &'a str,
    /// JSON text of the client's capabilities.
    pub client_capabilities: &'a str,
    /// JSON text of who asks; `None` leaves what the request says.
    pub client_info: Option<&'a str>,
    /// The level of log messages; `None` leaves what the request says.
    pub log_level: Option<&'a str>,
}

impl Envelope<'_> {
    fn members(&self) -> Vec<Change<'_>> {
        let mut members = vec![
            Change::set(PROTOCOL_VERSION, quoted(self.protocol_version)),
            Change::set(CLIENT_CAPABILITIES, self.client_capabilities),
        ];
        members.extend(self.client_info.map(|info| Change::set(CLIENT_INFO, info)));
        members.extend(self.log_level.map(|level| Change::set(LOG_LEVEL, quoted(level))));
        members
    }
}

/// The text as a JSON string.
pub fn quoted(text: &str) -> String {
    // Strings always serialise.
    serde_json::to_string(text).unwrap_or_default()
}

/// `params` with the envelope in its `_meta`; see [`envelope_edits`].
pub fn envelope(params: Option<Json<'_>>, with: &Envelope<'_>) -> Bytes {
    let params = params.filter(given).map_or("{}", Json::get);
    let mut edits = meta_edits(params.as_bytes(), params, &with.members());
    splice(params.as_bytes(), &mut edits)
}

/// The edits of a whole message that put the envelope into its `_meta`, replacing what stands there
/// and keeping every other member byte for byte. Params or `_meta` are made where there are none;
/// params that are an array or a scalar are left for the server to refuse.
///
/// `params` must be a part of `message` that [`Meta::parse`] accepts: it refuses keys that stand twice.
pub fn envelope_edits(
    message: &[u8],
    params: Option<Json<'_>>,
    with: &Envelope<'_>,
) -> Vec<Edit<'static>> {
    request_meta_edits(message, params, &with.members())
}

/// The edits of a whole message that set members of its `params._meta`.
pub(crate) fn request_meta_edits(
    message: &[u8],
    params: Option<Json<'_>>,
    members: &[Change<'_>],
) -> Vec<Edit<'static>> {
    match params {
        Some(params) if given(&params) => owned(meta_edits(message, params.get(), members)),
        _ => {
            let Ok(whole) = std::str::from_utf8(message) else { return Vec::new() };
            let params = splice(b"{}", &mut meta_edits(b"{}", "{}", members));
            let params = String::from_utf8_lossy(&params);
            owned(change(message, whole, &[Change::set("params", params)]))
        }
    }
}

/// The edits that set members of the `_meta` of the object `text`, a part of `source`.
pub(crate) fn meta_edits<'a>(source: &[u8], text: &str, members: &[Change<'a>]) -> Vec<Edit<'a>> {
    let meta = entries(text).find(|entry| entry.is("_meta"));
    if let Some(meta) = meta.filter(|meta| meta.value().starts_with('{')) {
        return change(source, meta.value(), members);
    }
    let made = splice(b"{}", &mut change(b"{}", "{}", members));
    let made = String::from_utf8_lossy(&made).into_owned();
    change(source, text, &[Change::set("_meta", made)])
}

fn owned(edits: Vec<Edit<'_>>) -> Vec<Edit<'static>> {
    edits.into_iter().map(Edit::into_owned).collect()
}

/// The edits of a whole message that remove the members of the modern envelope from its `_meta`, each
/// with one comma, and nothing else: a modern client's request for a legacy server.
pub fn strip_edits(message: &[u8], params: Option<Json<'_>>) -> Vec<Edit<'static>> {
    const GONE: [Change<'static>; 4] = [
        Change::remove(PROTOCOL_VERSION),
        Change::remove(CLIENT_CAPABILITIES),
        Change::remove(CLIENT_INFO),
        Change::remove(LOG_LEVEL),
    ];
    let meta = params.and_then(|params| entries(params.get()).find(|entry| entry.is("_meta")));
    meta.map(|meta| change(message, meta.value(), &GONE)).unwrap_or_default()
}

/// What a server may ask a client for, as far as a capability must be declared for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Form,
    Url,
    Sampling,
    SamplingTools,
    Roots,
}

impl Need {
    fn of(method: &str, params: Option<Json<'_>>) -> Option<Self> {
        let params = params.map_or("", Json::get);
        match method {
            "elicitation/create" => {
                let mode = entries(params).find(|entry| entry.is("mode"));
                // Without a mode it is a form (client/elicitation).
                match mode.and_then(|mode| unescape(mode.value())).as_deref() {
                    None | Some("form") => Some(Self::Form),
                    Some("url") => Some(Self::Url),
                    Some(_) => None,
                }
            }
            "sampling/createMessage" => {
                let tools = |name: Cow<'_, str>| matches!(&*name, "tools" | "toolChoice");
                let wants = entries(params)
                    .any(|entry| entry.value() != "null" && entry.name().is_some_and(tools));
                Some(if wants { Self::SamplingTools } else { Self::Sampling })
            }
            "roots/list" => Some(Self::Roots),
            _ => None,
        }
    }

    const fn capability(self) -> &'static str {
        match self {
            Self::Form => r#"{"elicitation":{"form":{}}}"#,
            Self::Url => r#"{"elicitation":{"url":{}}}"#,
            Self::Sampling => r#"{"sampling":{}}"#,
            Self::SamplingTools => r#"{"sampling":{"tools":{}}}"#,
            Self::Roots => r#"{"roots":{}}"#,
        }
    }
}

/// Whether a client with these raw capabilities may be sent this request of a server. Of methods that
/// the protocol does not define nothing is known: `false`.
pub fn declares(capabilities: Option<Json<'_>>, method: &str, params: Option<Json<'_>>) -> bool {
    let (Some(capabilities), Some(need)) = (capabilities, Need::of(method, params)) else {
        return false;
    };
    let has = |of: &str, name: &str| {
        crate::object::member(of, name).filter(|value| *value != "null").and_then(raw).is_some()
    };
    let all = capabilities.get();
    let inner = |name: &str| crate::object::member(all, name).unwrap_or_default();
    match need {
        Need::Form => {
            // An empty capability means forms only.
            has(all, "elicitation")
                && (has(inner("elicitation"), "form") || !has(inner("elicitation"), "url"))
        }
        Need::Url => has(inner("elicitation"), "url"),
        Need::Sampling => has(all, "sampling"),
        Need::SamplingTools => has(inner("sampling"), "tools"),
        Need::Roots => has(all, "roots"),
    }
}

/// The capabilities, as JSON, that a client must declare to be sent this request of a server:
/// `data.requiredCapabilities` of -32021. `None` if the protocol asks for none.
pub fn required_capability(method: &str, params: Option<Json<'_>>) -> Option<&'static str> {
    Need::of(method, params).map(Need::capability)
}

/// Whether a client declares an extension, such as `io.modelcontextprotocol/tasks`.
pub fn declares_extension(capabilities: Option<Json<'_>>, extension: &str) -> bool {
    capabilities
        .and_then(|all| crate::object::member(all.get(), "extensions"))
        .and_then(|extensions| crate::object::member(extensions, extension))
        .is_some_and(|settings| settings != "null")
}

#[cfg(test)]
mod tests;
