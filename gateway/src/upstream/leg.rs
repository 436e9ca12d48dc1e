//! A leg: one session with a server, over either transport.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use mcp::error::{INTERNAL_ERROR, METHOD_NOT_FOUND, error_response};
use mcp::lifecycle::{Empty, Implementation, InitializeRequest, ServerHello};
use mcp::message::Outcome;
use mcp::{Message, ProtocolVersion};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::client::{Sending, Template};
use super::exchange::{Exchange, Item, SessionUse};
use super::fault::Fault;
use super::stream::EventStream;
use super::{Link, Upstream};

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// How long a message that expects no answer may take to be accepted.
pub(crate) const NOTIFY: Duration = Duration::from_secs(2);

/// One session with a server.
#[derive(Debug)]
pub(crate) struct Leg {
    link: LegLink,
    hello: Hello,
    /// Ids and progress tokens of our requests: never used twice in a session.
    next_id: AtomicU64,
}

/// What the server said of itself.
#[derive(Debug, Clone)]
pub(super) struct Hello {
    pub(super) version: ProtocolVersion,
    pub(super) server_name: String,
    pub(super) server_version: String,
}

impl Default for Hello {
    /// Before it said anything.
    fn default() -> Self {
        let (server_name, server_version) = Default::default();
        Self { version: ProtocolVersion::V2024_11_05, server_name, server_version }
    }
}

#[derive(Debug)]
enum LegLink {
    /// What requests have in common: protocol version and, if the server keeps one, session id.
    Streamable {
        post: Template,
        other: Template,
    },
    Sse(EventStream),
}

impl Leg {
    /// Begins a session: `initialize`, then `notifications/initialized`.
    pub(crate) async fn open(upstream: &Arc<Upstream>, link: Link) -> Result<Arc<Self>, Fault> {
        let leg = match link {
            Link::Streamable => Self::open_streamable(upstream).await?,
            Link::Sse => Self::open_sse(upstream).await?,
        };
        Ok(Arc::new(leg))
    }

    async fn open_streamable(upstream: &Upstream) -> Result<Self, Fault> {
        let entry = upstream.entry();
        let mut other = upstream.template(&upstream.endpoint.streamable);
        let sending = upstream.send(&other.clone().posting(), Method::POST, initialize(0));
        let response = within(entry.timeouts.request, sending).await??;
        let session = response.headers().get(SESSION_ID).cloned();
        let answer = Exchange::head(response, 0)?;
        let hello = hello(&answer_to(0, answer, entry.timeouts.request).await?)?;
        other = other.with(PROTOCOL_VERSION, HeaderValue::from_static(hello.version.as_str()));
        if let Some(mut session) = session {
            session.set_sensitive(true);
            other = other.with(SESSION_ID, session);
        }
        let post = other.clone().posting();
        let link = LegLink::Streamable { post, other };
        let leg = Self { link, hello, next_id: AtomicU64::new(1) };
        leg.notify(upstream, Bytes::from_static(INITIALIZED), upstream.entry().timeouts.request)
            .await?;
        Ok(leg)
    }

    async fn open_sse(upstream: &Arc<Upstream>) -> Result<Self, Fault> {
        let request_timeout = upstream.entry().timeouts.request;
        let stream = EventStream::open(upstream).await?;
        let link = LegLink::Sse(stream);
        let mut leg = Self { link, hello: Hello::default(), next_id: AtomicU64::new(1) };
        let answer = leg.send(upstream, 0, initialize(0), Bytes::from_static(b"0"), false)?;
        leg.hello = hello(&answer_to(0, answer, request_timeout).await?)?;
        leg.notify(upstream, Bytes::from_static(INITIALIZED), upstream.entry().timeouts.request)
            .await?;
        Ok(leg)
    }

    /// An id for the next request.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// What the server said of itself.
    pub(super) const fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Whether the server keeps a session for this leg.
    pub(crate) fn has_session(&self) -> bool {
        match &self.link {
            LegLink::Streamable { post, .. } => post.holds(&SESSION_ID),
            LegLink::Sse(_) => true,
        }
    }

    /// Whether the server speaks unasked on this leg.
    pub(crate) const fn is_stream(&self) -> bool {
        matches!(self.link, LegLink::Sse(_))
    }

    /// Whether the leg can't be used any more.
    pub(crate) fn is_closed(&self) -> bool {
        match &self.link {
            LegLink::Streamable { .. } => false,
            LegLink::Sse(stream) => stream.is_closed(),
        }
    }

    /// Returns when the leg can't be used any more.
    pub(crate) async fn closed(&self) {
        match &self.link {
            LegLink::Streamable { .. } => std::future::pending().await,
            LegLink::Sse(stream) => stream.closed().await,
        }
    }

    /// Sends a request. Answers that pass through get `client_id` for their id. With `may_be_lost`
    /// a refusal is taken for the end of the session.
    pub(crate) fn send(
        &self,
        upstream: &Upstream,
        id: u64,
        body: Bytes,
        client_id: Bytes,
        may_be_lost: bool,
    ) -> Result<Exchange, Fault> {
        match &self.link {
            LegLink::Streamable { .. } => {
                let session = match self.has_session() {
                    false => SessionUse::None,
                    true if may_be_lost => SessionUse::First,
                    true => SessionUse::Again,
                };
                Ok(Exchange::streamable(self.post(upstream, body), id, client_id, session))
            }
            LegLink::Sse(stream) => {
                let messages = stream.expect(id).ok_or(Fault::SessionLost)?;
                Ok(Exchange::legacy(self.post(upstream, body), messages, id, client_id))
            }
        }
    }

    /// Sends a message that expects no answer and waits until it is accepted.
    pub(crate) async fn notify(
        &self,
        upstream: &Upstream,
        body: Bytes,
        limit: Duration,
    ) -> Result<(), Fault> {
        let response = within(limit, self.post(upstream, body)).await??;
        let status = response.status();
        response.into_body().release().await;
        if status.is_success() { Ok(()) } else { Err(Fault::Status(status)) }
    }

    /// Ends the session, if the server keeps one.
    pub(crate) async fn close(&self, upstream: &Upstream) {
        let LegLink::Streamable { other, .. } = &self.link else { return };
        if other.holds(&SESSION_ID) {
            // The server may have forgotten the session or never end one: both are fine.
            let _ = within(NOTIFY, upstream.send(other, Method::DELETE, Bytes::new())).await;
        }
    }

    /// Opens the stream on which the server speaks unasked. `None` if it offers none.
    pub(crate) async fn listen(&self, upstream: &Upstream) -> Result<Option<Exchange>, Fault> {
        let LegLink::Streamable { other, .. } = &self.link else { return Ok(None) };
        let sending = upstream.send(&other.clone().listening(), Method::GET, Bytes::new());
        // A server that says nothing, or something else than a stream, is none the worse for it.
        let Ok(response) = within(NOTIFY, sending).await else { return Ok(None) };
        let response = response?;
        if !response.status().is_success() || !is_stream(response.headers()) {
            return Ok(None);
        }
        Exchange::head(response, 0).map(Some)
    }

    /// Answers a request of the server, without waiting until that is taken.
    pub(crate) fn decline(self: &Arc<Self>, upstream: &Arc<Upstream>, id: &str, method: &str) {
        upstream.tell(self, declined(id, method));
    }

    fn post(&self, upstream: &Upstream, body: Bytes) -> Sending {
        let template = match &self.link {
            LegLink::Streamable { post, .. } => post,
            LegLink::Sse(stream) => &stream.post,
        };
        upstream.send(template, Method::POST, body)
    }
}

const INITIALIZED: &[u8] = br#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

fn initialize(id: u64) -> Bytes {
    let params = InitializeRequest {
        protocol_version: ProtocolVersion::LATEST.as_str(),
        capabilities: Empty {},
        client_info: Implementation { name: "fairway", version: env!("CARGO_PKG_VERSION") },
    };
    request(id, "initialize", &serde_json::to_string(&params).unwrap_or_default())
}

/// The answer to a request of a server. We declare no capability, so it may ask nothing of us but
/// `ping`.
pub(crate) fn declined(id: &str, method: &str) -> Bytes {
    if method == "ping" {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#).into()
    } else {
        error_response(Some(id), METHOD_NOT_FOUND, "not a method of this client")
    }
}

/// Whether a response is a stream of events.
pub(crate) fn is_stream(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.starts_with("text/event-stream"))
}

/// A request of our own.
pub(crate) fn request(id: u64, method: &str, params: &str) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#).into()
}

/// What the server said of itself, and the protocol version it chose.
fn hello(answer: &[u8]) -> Result<Hello, Fault> {
    let result = result_of(answer)?;
    let hello: ServerHello<'_> =
        serde_json::from_str(result).map_err(|error| Fault::Garbage(error.to_string()))?;
    let version = ProtocolVersion::from_wire(&hello.protocol_version)
        .ok_or_else(|| Fault::Garbage("an unknown protocol version".to_owned()))?;
    let shortened = |text: String| text.chars().take(MAX_NAME).collect();
    let (name, text) = hello.server();
    Ok(Hello { version, server_name: shortened(name), server_version: shortened(text) })
}

/// Of the name and version of a server, in characters: they are shown in a status.
const MAX_NAME: usize = 128;

/// The raw `result` of an answer.
pub(crate) fn result_of(answer: &[u8]) -> Result<&str, Fault> {
    match Message::parse(answer) {
        Ok(Message::Response { outcome: Outcome::Result(result), .. }) => Ok(result.get()),
        Ok(Message::Response { outcome: Outcome::Error(error), .. }) => {
            Err(Fault::Refused(code(error)))
        }
        Ok(_) => Err(Fault::Garbage("no answer".to_owned())),
        Err(error) => Err(Fault::Garbage(error.to_string())),
    }
}

/// The code of an error. Its text is the server's and may repeat the credential that it was shown:
/// it goes into no log and to no client.
fn code(error: &RawValue) -> i64 {
    #[derive(Deserialize)]
    struct Coded {
        code: i64,
    }
    serde_json::from_str::<Coded>(error.get()).map_or_else(|_| INTERNAL_ERROR.into(), |e| e.code)
}

/// Waits for the answer to a request of our own, whole.
pub(crate) async fn answer_to(
    id: u64,
    mut exchange: Exchange,
    limit: Duration,
) -> Result<Bytes, Fault> {
    let mut large = bytes::BytesMut::new();
    within(limit, async {
        loop {
            match std::future::poll_fn(|cx| exchange.poll_next(cx)).await? {
                Some(Item::Message(message)) => {
                    let own = matches!(
                        Message::parse(&message),
                        Ok(Message::Response { id: answered, .. })
                            if mcp::tool::is_own(answered, id)
                    );
                    if own {
                        return Ok(message);
                    }
                    if Message::parse(&message).is_err() {
                        return Err(Fault::Garbage("a body that is no message".to_owned()));
                    }
                }
                Some(Item::Chunk(chunk)) => large.extend_from_slice(&chunk),
                Some(Item::End { .. }) => return Ok(large.split().freeze()),
                None => return Err(Fault::Closed("no answer came".to_owned())),
            }
        }
    })
    .await?
}

/// Bounds the time of a step.
pub(crate) async fn within<T>(limit: Duration, step: impl Future<Output = T>) -> Result<T, Fault> {
    timeout(limit, step).await.map_err(|_| Fault::Silent(limit.as_secs().max(1)))
}
