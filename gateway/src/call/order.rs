//! What a client asked for, and how the server is asked.

use std::borrow::Cow;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use mcp::header::{self, ParamHeaders};
use mcp::input;
use mcp::json::Json;
use mcp::logging::Level;
use mcp::modern::{self, Envelope};
use mcp::object::{Change, change};
use mcp::result::{Cache, modern_additions};
use mcp::scan::Addition;
use mcp::splice::{Edit, splice};
use mcp::{Era, Message};

use crate::client::Client;
use crate::upstream::implementation;

/// Where something stands in the client's message.
pub(crate) type Place = (usize, usize);

/// Who we are, as JSON.
pub(crate) static US: LazyLock<String> = LazyLock::new(implementation);

const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");

/// What a call is made of.
#[derive(Debug)]
pub(crate) struct Order {
    /// The client's message.
    pub(crate) message: Bytes,
    pub(crate) method: Cow<'static, str>,
    /// JSON text of the client's id.
    pub(crate) id: Bytes,
    /// Where the id stands in the message.
    pub(crate) id_at: Place,
    /// Names and URIs that the server has otherwise: where they stand, and JSON text of the server's.
    pub(crate) renames: Vec<(Place, Bytes)>,
    /// What the request names, as the server calls it: for servers of 2026-07-28.
    pub(crate) named: Option<Box<str>>,
    /// Arguments that such a server wants as headers.
    pub(crate) headers: Option<Arc<ParamHeaders>>,
    /// The client's progress token, if it wants progress, and where it stands.
    pub(crate) token: Option<(Bytes, Place)>,
    /// Whether the request may be sent twice.
    pub(crate) replayable: bool,
    /// The client's trace context, as it stood in the head of its request.
    pub(crate) trace: Trace,
}

/// Headers of a trace context (W3C); none of most requests.
pub(crate) type Trace = Vec<(HeaderName, HeaderValue)>;

/// The trace context of a request.
pub(crate) fn trace_of(headers: &HeaderMap) -> Trace {
    const NAMES: [HeaderName; 2] =
        [HeaderName::from_static("traceparent"), HeaderName::from_static("tracestate")];
    let found = NAMES.into_iter().map(|name| (headers.get(&name).cloned(), name));
    found.filter_map(|(value, name)| Some((name, value?))).collect()
}

/// What a client answered to what a modern server asked before it went on.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Key and JSON text of each answer.
    pub(super) responses: Vec<(String, Bytes)>,
    /// JSON text of what the server wants back.
    pub(super) state: Option<Bytes>,
}

impl Order {
    /// The message as a server of that era gets it. `id` becomes its id and progress token.
    pub(super) fn compose(
        &self,
        id: u64,
        era: Era,
        client: &Client,
        level: Option<Level>,
        round: Option<&Round>,
    ) -> Bytes {
        let number = id.to_string();
        let mut edits = Vec::with_capacity(4);
        edits.push(Edit::at(self.id_at, number.as_bytes()));
        edits.extend(self.renames.iter().map(|(at, name)| Edit::at(*at, name)));
        if let Some((_, at)) = &self.token {
            edits.push(Edit::at(*at, number.as_bytes()));
        }
        match (client.era(), era) {
            (Era::Legacy, Era::Legacy) | (Era::Modern, Era::Modern) => {}
            (Era::Modern, Era::Legacy) => {
                let params = self.params();
                edits.extend(modern::strip_edits(&self.message, params));
                if let Some(params) = params {
                    let retry = [Change::remove("inputResponses"), Change::remove("requestState")];
                    edits.extend(change(&self.message, params.get(), &retry));
                }
            }
            (Era::Legacy, Era::Modern) => {
                let envelope = Envelope {
                    protocol_version: modern::VERSION,
                    client_capabilities: client.capabilities(),
                    client_info: Some(&US),
                    log_level: level.map(Level::as_str),
                };
                edits.extend(modern::envelope_edits(&self.message, self.params(), &envelope));
            }
        }
        if let Some(Round { responses, state }) = round {
            let responses: Vec<(&str, &str)> = responses
                .iter()
                .filter_map(|(key, answer)| Some((key.as_str(), std::str::from_utf8(answer).ok()?)))
                .collect();
            let state = state.as_deref().and_then(|state| serde_json::from_slice(state).ok());
            if let Some(params) = self.params() {
                edits.extend(input::retry_edits(&self.message, params, &responses, state));
            }
        }
        splice(&self.message, &mut edits)
    }

    /// What the head of the request has besides what all requests have.
    pub(super) fn head(&self, era: Era) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = self.trace.clone();
        if era == Era::Legacy {
            return headers;
        }
        // 2026-07-28, basic/transports/streamable-http.
        headers.extend(HeaderValue::from_str(&self.method).ok().map(|method| (METHOD, method)));
        if let Some(named) = &self.named {
            let name = HeaderValue::from_str(&header::encode(named));
            headers.extend(name.ok().map(|name| (NAME, name)));
        }
        if let Some(wanted) = self.headers.as_deref().filter(|wanted| !wanted.is_empty()) {
            let arguments = self
                .params()
                .and_then(|params| mcp::object::member(params.get(), "arguments"))
                .and_then(mcp::object::raw);
            headers.extend(wanted.values(arguments).filter_map(|(name, value)| {
                let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
                Some((name, HeaderValue::from_str(&value).ok()?))
            }));
        }
        headers
    }

    /// What an answer that is too large to hold gets on its way to a modern client.
    pub(super) fn additions(&self, client: &Client) -> Vec<Addition> {
        if client.era() == Era::Legacy {
            return Vec::new();
        }
        modern_additions(&self.method, &US, Cache::default())
    }

    /// The raw parameters of the client's message.
    pub(crate) fn params(&self) -> Option<Json<'_>> {
        match Message::parse(&self.message) {
            Ok(Message::Request { params, .. }) => params,
            _ => None,
        }
    }
}
