//! A leg: one session with a server, over any transport, or what stands for one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use mcp::error::{INVALID_REQUEST, METHOD_NOT_FOUND, error_response};
use mcp::logging::{self, Level, Threshold};
use mcp::{Era, Message};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::beginning::{self, Beginning, SESSION_ID};
use super::client::{HttpClient, Sending, Template};
use super::exchange::{Exchange, Item, SessionUse};
use super::fault::Fault;
use super::hello::{
    Hello, INITIALIZED, NO_CAPABILITIES, discovered, hello, initialize, method_header, own_request,
};
use super::lodger::Lodger;
use super::own::{answer_to, request, within};
use super::passing::Mends;
use super::stream::EventStream;
use super::unasked::Unasked;
use super::{Link, Upstream};
use crate::home::Home;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// Messages under way on one leg that nobody waits for.
const MAX_ERRANDS: usize = 64;
/// Before a client's stream that ended is opened again: at first, and in the end.
const RELISTEN: Duration = Duration::from_secs(1);
const RELISTEN_LAST: Duration = Duration::from_secs(60);
/// How long a message that expects no answer may take to be accepted.
pub(crate) const NOTIFY: Duration = Duration::from_secs(2);
/// How long the head of a stream is waited for on which a server speaks unasked, so that nothing it
/// says to the first call is lost.
const HEAD: Duration = Duration::from_millis(200);
/// How long a server may take to say whether it speaks 2026-07-28. Servers of the legacy era refuse
/// at once, but for some that never answer what they do not know.
const PROBE: Duration = Duration::from_secs(2);

/// One session with a server, or what stands for one with a server that keeps none.
#[derive(Debug)]
pub(crate) struct Leg {
    link: LegLink,
    /// By which it reaches the server, or the pod that keeps its session.
    http: Arc<HttpClient>,
    hello: Hello,
    /// Ids and progress tokens of our requests: never used twice in a session.
    next_id: AtomicU64,
    unasked: Arc<Unasked>,
    /// Places for what is sent in passing.
    errands: Arc<Semaphore>,
    /// The log level that the server was told for a client which says it with its calls.
    level: Threshold,
    /// Reads the stream on which the server speaks unasked to the client whose leg it is.
    ear: OnceLock<AbortOnDropHandle<()>>,
}

#[derive(Debug)]
enum LegLink {
    /// What requests have in common: protocol version and, if the server keeps one, session id.
    Streamable {
        post: Template,
        other: Template,
    },
    Sse(EventStream),
    /// 2026-07-28: each request stands by itself.
    Modern {
        post: Template,
    },
}

/// A request on its way.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(crate) id: u64,
    pub(crate) body: Bytes,
    /// Answers that pass through get this for their id.
    pub(crate) client_id: Bytes,
    /// Whether a refusal is taken for the end of the session.
    pub(crate) may_be_lost: bool,
    /// What a modern server wants to see in the head.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// What an answer that passes through needs for its client.
    pub(crate) mends: Mends,
    /// Whether it is a client's, who can be asked in the middle of it.
    pub(crate) is_call: bool,
}

impl Outbound {
    /// A request of our own.
    pub(super) fn own(id: u64, body: Bytes, headers: Vec<(HeaderName, HeaderValue)>) -> Self {
        let client_id = Bytes::from(id.to_string());
        let mends = Mends::default();
        Self { id, body, client_id, may_be_lost: true, headers, mends, is_call: false }
    }
}

impl Leg {
    /// Begins a session: `initialize`, then `notifications/initialized`. One for a client says what
    /// that client can do and brings it what the server says unasked.
    pub(crate) async fn open(
        upstream: &Arc<Upstream>,
        link: Link,
        lodger: Option<&Lodger>,
    ) -> Result<Arc<Self>, Fault> {
        let mut beginning = Beginning::default();
        let leg = Self::open_somewhere(upstream, link, lodger, &mut beginning).await?;
        if lodger.is_some() {
            leg.lodge(upstream).await;
        }
        beginning.succeed();
        Ok(leg)
    }

    /// At the first of the server's pods that is there, where it has several.
    async fn open_somewhere(
        upstream: &Arc<Upstream>,
        link: Link,
        lodger: Option<&Lodger>,
        beginning: &mut Beginning,
    ) -> Result<Arc<Self>, Fault> {
        for http in upstream.ways().await {
            let is_pod = !Arc::ptr_eq(&http, &upstream.http);
            let opened = Self::open_over(upstream, link, http, lodger, beginning).await;
            if !is_pod || !matches!(opened, Err(Fault::SessionLost)) {
                return opened;
            }
        }
        Err(Fault::Unreachable("none of its pods takes connections".to_owned()))
    }

    async fn open_over(
        upstream: &Arc<Upstream>,
        link: Link,
        http: Arc<HttpClient>,
        lodger: Option<&Lodger>,
        beginning: &mut Beginning,
    ) -> Result<Arc<Self>, Fault> {
        let unasked = Unasked::new(upstream, lodger);
        let capabilities = lodger.map_or(NO_CAPABILITIES, |lodger| &lodger.capabilities);
        let leg = match link {
            Link::Streamable => {
                Self::open_streamable(upstream, http, capabilities, unasked, beginning).await?
            }
            Link::Sse => Self::open_sse(upstream, http, capabilities, unasked).await?,
        };
        let leg = Arc::new(leg);
        leg.unasked.opened(&leg);
        Ok(leg)
    }

    /// Finds out what a server of 2026-07-28 offers.
    pub(crate) async fn discover(upstream: &Arc<Upstream>) -> Result<Arc<Self>, Fault> {
        let version = HeaderValue::from_static(mcp::modern::VERSION);
        let post = upstream.template(&upstream.endpoint.streamable);
        let link = LegLink::Modern { post: post.with(PROTOCOL_VERSION, version).posting() };
        let unasked = Unasked::new(upstream, None);
        let mut leg = Self::new(link, upstream.http.clone(), unasked);
        let body = own_request(0, "server/discover", "{}");
        let limit = upstream.entry().timeouts.request.min(PROBE);
        let asked = Outbound::own(0, body, method_header("server/discover"));
        let answer = leg.send(upstream, Outbound { may_be_lost: false, ..asked })?;
        leg.hello = discovered(&answer_to(0, answer, limit).await?)?;
        let leg = Arc::new(leg);
        leg.unasked.opened(&leg);
        Ok(leg)
    }

    fn new(link: LegLink, http: Arc<HttpClient>, unasked: Arc<Unasked>) -> Self {
        let (hello, next_id) = (Hello::default(), AtomicU64::new(1));
        let errands = Arc::new(Semaphore::new(MAX_ERRANDS));
        let (level, ear) = (Threshold::default(), OnceLock::new());
        Self { link, http, hello, next_id, unasked, errands, level, ear }
    }

    async fn open_streamable(
        upstream: &Arc<Upstream>,
        http: Arc<HttpClient>,
        capabilities: &[u8],
        unasked: Arc<Unasked>,
        beginning: &mut Beginning,
    ) -> Result<Self, Fault> {
        let request_timeout = upstream.entry().timeouts.request;
        let body = initialize(0, capabilities);
        let (response, common) = beginning.ask(upstream, &http, body).await?;
        let answer = Exchange::head(response, 0)?;
        let hello = hello(&answer_to(0, answer, request_timeout).await?)?;
        let version = HeaderValue::from_static(hello.version.as_str());
        let other = common.with(PROTOCOL_VERSION, version);
        let post = other.clone().posting();
        let mut leg = Self::new(LegLink::Streamable { post, other }, http, unasked);
        leg.hello = hello;
        leg.notify(upstream, Bytes::from_static(INITIALIZED), request_timeout).await?;
        Ok(leg)
    }

    async fn open_sse(
        upstream: &Arc<Upstream>,
        http: Arc<HttpClient>,
        capabilities: &[u8],
        unasked: Arc<Unasked>,
    ) -> Result<Self, Fault> {
        let request_timeout = upstream.entry().timeouts.request;
        let stream = EventStream::open(upstream, &http, unasked.clone()).await?;
        let mut leg = Self::new(LegLink::Sse(stream), http, unasked);
        let begin = Outbound::own(0, initialize(0, capabilities), Vec::new());
        let answer = leg.send(upstream, Outbound { may_be_lost: false, ..begin })?;
        leg.hello = hello(&answer_to(0, answer, request_timeout).await?)?;
        leg.notify(upstream, Bytes::from_static(INITIALIZED), upstream.entry().timeouts.request)
            .await?;
        Ok(leg)
    }

    /// Brings a new session to where its client is: the log level, and an ear for the server.
    async fn lodge(self: &Arc<Self>, upstream: &Arc<Upstream>) {
        // First: what is said on it as soon as the server is told what is to be heard must not be missed.
        let news = self.listen(upstream).await.ok().flatten();
        let level = self.home().and_then(|home| home.level());
        if let Some(level) = level.filter(|_| self.offers("logging")) {
            let id = self.next_id();
            let body = logging::set_level(id, level);
            if let Ok(answer) = self.send(upstream, Outbound::own(id, body, Vec::new())) {
                // A server that does not take it says what it likes.
                let _ = answer_to(id, answer, NOTIFY).await;
            }
        }
        let subscribed = self.home().map(|home| home.subscriptions(&upstream.id()));
        for uri in subscribed.into_iter().flatten() {
            let id = self.next_id();
            let params = format!(r#"{{"uri":{}}}"#, mcp::modern::quoted(&uri));
            let body = request(id, "resources/subscribe", &params);
            if let Ok(answer) = self.send(upstream, Outbound::own(id, body, Vec::new())) {
                // What the server does not have any more changes no more.
                let _ = answer_to(id, answer, NOTIFY).await;
            }
        }
        let unasked = self.unasked.clone();
        let ear = match &self.link {
            LegLink::Streamable { .. } => {
                let Some(news) = news else { return };
                tokio::spawn(hear(news, unasked))
            }
            LegLink::Sse(stream) => {
                let closed = stream.closed();
                tokio::spawn(async move {
                    closed.await;
                    revive(&unasked).await;
                })
            }
            LegLink::Modern { .. } => return,
        };
        // A leg is lodged once.
        let _ = self.ear.set(AbortOnDropHandle::new(ear));
    }

    /// An id for the next request.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// A place for a message that nobody waits for.
    pub(super) fn errand(&self) -> Option<OwnedSemaphorePermit> {
        self.errands.clone().try_acquire_owned().ok()
    }

    /// What the server has to be told before a call of a client that wants log messages of this
    /// level; nothing if it knows.
    pub(crate) fn levelled(&self, level: Level) -> Option<Bytes> {
        let is_news = self.offers("logging") && self.level.replace(level) != Some(level);
        is_news.then(|| logging::set_level(self.next_id(), level))
    }

    /// What the server said of itself.
    pub(super) const fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Whether the server says that it has a feature.
    pub(super) fn offers(&self, feature: &str) -> bool {
        let capabilities = self.hello.capabilities.as_ref();
        capabilities.is_some_and(|all| all.as_json().member(feature).is_some())
    }

    /// Whether the server says that it announces when a list changes.
    pub(super) fn announces(&self, feature: &str) -> bool {
        let capabilities = self.hello.capabilities.as_ref();
        capabilities
            .and_then(|all| all.as_json().member(feature)?.member("listChanged"))
            .is_some_and(|announces| announces.get() == "true")
    }

    /// Which era the server is spoken to in.
    pub(crate) const fn era(&self) -> Era {
        match self.link {
            LegLink::Modern { .. } => Era::Modern,
            LegLink::Streamable { .. } | LegLink::Sse(_) => Era::Legacy,
        }
    }

    /// The client whose leg it is, if it can be spoken to unasked.
    pub(crate) fn home(&self) -> Option<&Arc<Home>> {
        self.unasked.home()
    }

    /// The client whose leg it is, likewise.
    pub(super) fn lodger(&self) -> Option<&Lodger> {
        self.unasked.lodger()
    }

    /// Whether it is a client's own.
    pub(crate) fn is_lodged(&self) -> bool {
        self.unasked.is_lodged()
    }

    /// What the server asks besides its answers, for a call whose client has no stream.
    pub(crate) fn attend(&self) -> mpsc::Receiver<Bytes> {
        self.unasked.attend()
    }

    /// Hears a message that came with a call and is not of it.
    pub(crate) fn hear(&self, bytes: &Bytes, message: &Message<'_>) {
        self.unasked.hear(bytes, message);
    }

    /// Whether the server keeps a session for this leg.
    pub(crate) fn has_session(&self) -> bool {
        match &self.link {
            LegLink::Streamable { post, .. } => post.holds(&SESSION_ID),
            LegLink::Sse(_) => true,
            LegLink::Modern { .. } => false,
        }
    }

    /// Whether the server speaks unasked on this leg.
    pub(crate) const fn is_stream(&self) -> bool {
        matches!(self.link, LegLink::Sse(_))
    }

    /// Whether the leg can't be used any more.
    pub(crate) fn is_closed(&self) -> bool {
        match &self.link {
            LegLink::Streamable { .. } | LegLink::Modern { .. } => false,
            LegLink::Sse(stream) => stream.is_closed(),
        }
    }

    /// Returns when the leg can't be used any more.
    pub(crate) async fn closed(&self) {
        match &self.link {
            LegLink::Streamable { .. } | LegLink::Modern { .. } => std::future::pending().await,
            LegLink::Sse(stream) => stream.closed().await,
        }
    }

    /// Sends a request.
    pub(crate) fn send(&self, upstream: &Upstream, out: Outbound) -> Result<Exchange, Fault> {
        let Outbound { id, body, client_id, may_be_lost, headers, mends, is_call } = out;
        let exchange = match &self.link {
            LegLink::Streamable { .. } => {
                let session = match self.has_session() {
                    false => SessionUse::None,
                    true if may_be_lost => SessionUse::First,
                    true => SessionUse::Again,
                };
                let sending = self.post(upstream, body, &headers);
                Exchange::streamable(sending, id, client_id, session)
            }
            LegLink::Modern { .. } => {
                let sending = self.post(upstream, body, &headers);
                Exchange::streamable(sending, id, client_id, SessionUse::None)
            }
            LegLink::Sse(stream) => {
                let messages = stream.expect(id, is_call).ok_or(Fault::SessionLost)?;
                Exchange::legacy(self.post(upstream, body, &headers), messages, id, client_id)
            }
        };
        Ok(exchange.mending(mends))
    }

    /// Opens the stream again on which the answer to a request was to come, after an event.
    pub(crate) fn resume(
        &self,
        upstream: &Upstream,
        event: &HeaderValue,
        id: u64,
        client_id: Bytes,
    ) -> Result<Exchange, Fault> {
        let LegLink::Streamable { other, .. } = &self.link else { return Err(Fault::SessionLost) };
        let listening = other.clone().listening();
        let headers = vec![(LAST_EVENT_ID, event.clone())];
        let sending = upstream.send(&self.http, &listening, &Method::GET, Bytes::new(), &headers);
        Ok(Exchange::streamable(sending, id, client_id, SessionUse::Again))
    }

    /// Sends a message that expects no answer and waits until it is accepted.
    pub(crate) async fn notify(
        &self,
        upstream: &Upstream,
        body: Bytes,
        limit: Duration,
    ) -> Result<(), Fault> {
        let response = within(limit, self.post(upstream, body, &[])).await??;
        let status = response.status();
        response.into_body().release().await;
        if status.is_success() { Ok(()) } else { Err(Fault::Status(status)) }
    }

    /// Ends the session, if the server keeps one.
    pub(crate) async fn close(&self, upstream: &Upstream) {
        if let LegLink::Streamable { other, .. } = &self.link {
            beginning::end(upstream, &self.http, other).await;
        }
    }

    /// Opens the stream on which the server speaks unasked. `None` if it offers none. Some servers send
    /// the head of a stream with the first event on it: they are heard, but not waited for.
    pub(crate) async fn listen(&self, upstream: &Upstream) -> Result<Option<Exchange>, Fault> {
        let LegLink::Streamable { other, .. } = &self.link else { return Ok(None) };
        let listening = other.clone().listening();
        let mut sending = upstream.send(&self.http, &listening, &Method::GET, Bytes::new(), &[]);
        let Ok(response) = timeout(HEAD, &mut sending).await else {
            return Ok(Some(Exchange::streamable(sending, 0, Bytes::new(), SessionUse::None)));
        };
        // A server that says something else than a stream is none the worse for it.
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

    /// Answers a request of the server that was too large to be read.
    pub(crate) fn leave_unheard(self: &Arc<Self>, upstream: &Arc<Upstream>, id: &[u8]) {
        let id = std::str::from_utf8(id).ok();
        upstream.tell(self, error_response(id, INVALID_REQUEST, "the request is too large"));
    }

    fn post(
        &self,
        upstream: &Upstream,
        body: Bytes,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Sending {
        let template = match &self.link {
            LegLink::Streamable { post, .. } | LegLink::Modern { post } => post,
            LegLink::Sse(stream) => &stream.post,
        };
        upstream.send(&self.http, template, &Method::POST, body, headers)
    }
}

/// Hears what a server says unasked, on one stream after the other: proxies end those that say
/// nothing for long. A client's leg lives on without any: what concerns a call comes with the call.
async fn hear(mut news: Exchange, unasked: Arc<Unasked>) {
    let mut pause = RELISTEN;
    loop {
        let began = Instant::now();
        hear_out(news, &unasked).await;
        // A server that ends each at once is asked ever more rarely.
        pause = if began.elapsed() > RELISTEN_LAST { RELISTEN } else { pause };
        news = loop {
            sleep(pause).await;
            let Some((upstream, leg)) = unasked.place() else { return };
            // One that is away is looked for by its supervisor.
            if !upstream.standing.is_available() {
                continue;
            }
            pause = (pause * 2).min(RELISTEN_LAST);
            match leg.listen(&upstream).await {
                Ok(Some(next)) => break next,
                // It did offer a stream: it does not know the session any more.
                Ok(None) | Err(Fault::SessionLost) => return upstream.revive(&leg).await,
                Err(_) => {}
            }
        };
    }
}

/// Has the leg opened again, if it is still there.
async fn revive(unasked: &Unasked) {
    if let Some((upstream, leg)) = unasked.place() {
        upstream.revive(&leg).await;
    }
}

async fn hear_out(mut news: Exchange, unasked: &Unasked) {
    while let Ok(Some(item)) = std::future::poll_fn(|cx| news.poll_next(cx)).await {
        // A server that never pauses must not have the thread to itself.
        tokio::task::yield_now().await;
        match item {
            Item::Message(bytes) => {
                if let Ok(message) = Message::parse(&bytes) {
                    unasked.hear(&bytes, &message);
                }
            }
            Item::Unheard { id } => {
                if let Some((upstream, leg)) = unasked.place() {
                    leg.leave_unheard(&upstream, &id);
                }
            }
            Item::Chunk(_) | Item::Name(..) | Item::End { .. } => {}
        }
    }
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
