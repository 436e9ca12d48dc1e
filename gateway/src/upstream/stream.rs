//! The event stream of a session over HTTP+SSE: every answer comes on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Method, Uri};
use mcp::message::Id;
use mcp::tool::ProgressParams;
use mcp::{Message, sse};
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;

use super::Upstream;
use super::client::{Body, HttpClient, Template};
use super::exchange::{MAX_EVENT, STEPS};
use super::fault::Fault;
use super::leg::is_stream;
use super::own::within;
use super::unasked::Unasked;

/// Messages that wait for one call. The reader never waits for a call to be read.
const SPOOL: usize = 64;
/// Largest progress notification: 64 of them are less than an answer.
const MAX_PROGRESS: usize = 64 * 1024;

/// One open stream.
#[derive(Debug)]
pub(crate) struct EventStream {
    /// Where messages are posted.
    pub(crate) post: Template,
    calls: Arc<Calls>,
    ended: watch::Receiver<bool>,
    _reader: AbortOnDropHandle<()>,
}

/// Calls that wait for something on the stream; `None` once it ended.
#[derive(Debug)]
struct Calls(Mutex<Option<HashMap<u64, Waiting>>>);

/// Who waits for an answer.
#[derive(Debug)]
struct Waiting {
    messages: mpsc::Sender<Bytes>,
    /// A client's call, not a request of our own.
    is_call: bool,
}

impl Calls {
    fn with<T>(&self, act: impl FnOnce(&mut Option<HashMap<u64, Waiting>>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Passes a question of the server to the call it must belong to: the only one under way. The
    /// stream does not say which. False if there is none, or more than one.
    fn ask(&self, question: &Bytes) -> bool {
        self.with(|calls| {
            let calls = calls.iter().flat_map(HashMap::values);
            let mut open = calls.filter(|call| call.is_call && !call.messages.is_closed());
            let (Some(call), None) = (open.next(), open.next()) else { return false };
            call.messages.capacity() > 1 && call.messages.try_send(question.clone()).is_ok()
        })
    }

    fn deliver(&self, id: u64, message: Bytes, last: bool) {
        self.with(|calls| {
            let Some(calls) = calls else { return };
            let Some(Waiting { messages: call, .. }) = calls.get(&id) else { return };
            // A call that is not read loses progress; the last place is the answer's.
            if last || call.capacity() > 1 {
                let _ = call.try_send(message);
            }
            if last {
                calls.remove(&id);
            }
        });
    }
}

impl EventStream {
    /// Opens the stream and waits until the server says where to post.
    pub(crate) async fn open(
        upstream: &Arc<Upstream>,
        http: &Arc<HttpClient>,
        unasked: Arc<Unasked>,
    ) -> Result<Self, Fault> {
        let entry = upstream.entry();
        let base = &upstream.endpoint.sse;
        let listen = upstream.template(base).listening();
        let sending = upstream.send(http, &listen, &Method::GET, Bytes::new(), &[]);
        let response = within(entry.timeouts.request, sending).await??;
        if !response.status().is_success() {
            return Err(Fault::Status(response.status()));
        }
        if !is_stream(response.headers()) {
            return Err(Fault::Garbage("no event stream".to_owned()));
        }
        let mut reader = Reader {
            body: response.into_body(),
            // An event is held whole, because only its id, which may come last, says whose it is.
            decoder: sse::Decoder::with_stream_above(MAX_EVENT, MAX_EVENT),
        };
        let post = within(entry.timeouts.request, reader.endpoint(base)).await??;
        let post = upstream.template(&post).posting();
        let calls = Arc::new(Calls(Mutex::new(Some(HashMap::new()))));
        let (end, ended) = watch::channel(false);
        let task = reader.run(Arc::clone(&calls), unasked, end);
        Ok(Self { post, calls, ended, _reader: AbortOnDropHandle::new(tokio::spawn(task)) })
    }

    /// Messages for the request of that id, a client's call or one of our own. `None` once the
    /// stream has ended.
    pub(crate) fn expect(&self, id: u64, is_call: bool) -> Option<mpsc::Receiver<Bytes>> {
        let (call, messages) = mpsc::channel(SPOOL);
        self.calls.with(|calls| {
            let calls = calls.as_mut()?;
            // Calls that were given up are swept when there are many.
            if calls.len() >= SPOOL {
                calls.retain(|_, call| !call.messages.is_closed());
            }
            calls.insert(id, Waiting { messages: call, is_call });
            Some(messages)
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.ended.borrow()
    }

    pub(crate) fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.ended.clone();
        async move {
            // An error means that the reader is gone.
            let _ = ended.wait_for(|ended| *ended).await;
        }
    }
}

struct Reader {
    body: Body,
    decoder: sse::Decoder,
}

impl Reader {
    async fn endpoint(&mut self, base: &Uri) -> Result<Uri, Fault> {
        while let Some(event) = self.next().await? {
            if event.event.as_deref() == Some(b"endpoint") {
                return resolve(base, &String::from_utf8_lossy(&event.data)).ok_or_else(|| {
                    Fault::Garbage("an endpoint at another origin than its own".to_owned())
                });
            }
        }
        Err(Fault::Closed("its stream of events ended".to_owned()))
    }

    async fn next(&mut self) -> Result<Option<sse::Event>, Fault> {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<sse::Event>, Fault>> {
        for _ in 0..STEPS {
            match self.decoder.next().map_err(|error| Fault::Garbage(error.to_string()))? {
                Some(sse::Item::Event(event)) if event.dispatched => {
                    return Poll::Ready(Ok(Some(event)));
                }
                Some(_) => {}
                None => match ready!(self.body.poll_data(cx)) {
                    Some(frame) => self.decoder.push(frame?),
                    None => return Poll::Ready(Ok(None)),
                },
            }
        }
        // A server that never pauses must not have the thread to itself.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    async fn run(mut self, calls: Arc<Calls>, unasked: Arc<Unasked>, end: watch::Sender<bool>) {
        while let Ok(Some(event)) = self.next().await {
            // Events come without a pause as long as there are some: others have their turn.
            tokio::task::yield_now().await;
            match Message::parse(&event.data) {
                Ok(Message::Response { id, .. }) => {
                    if let Some(id) = own_id(id) {
                        calls.deliver(id, event.data.clone(), true);
                    }
                }
                Ok(Message::Notification { method, params: Some(params) })
                    if method == "notifications/progress" =>
                {
                    let progress: Result<ProgressParams<'_>, _> =
                        serde_json::from_str(params.get());
                    let token = progress.ok().and_then(|progress| {
                        progress.progress_token.get().trim_matches('"').parse().ok()
                    });
                    // What a call does not read is held: only an answer may be large.
                    if let Some(token) = token.filter(|_| event.data.len() <= MAX_PROGRESS) {
                        calls.deliver(token, event.data.clone(), false);
                    }
                }
                // What a call does not read is held, as above.
                Ok(Message::Request { .. })
                    if unasked.is_lodged()
                        && event.data.len() <= MAX_PROGRESS
                        && calls.ask(&event.data) => {}
                Ok(message) => unasked.hear(&event.data, &message),
                Err(_) => {}
            }
        }
        // First, so that a call which sees its end sees that of the stream, too.
        end.send_replace(true);
        calls.with(Option::take);
    }
}

fn own_id(id: Id<'_>) -> Option<u64> {
    id.as_json().trim_matches('"').parse().ok()
}

/// Where an `endpoint` event points. It must stay at the origin of the stream: anything else would
/// send the credential elsewhere.
fn resolve(base: &Uri, endpoint: &str) -> Option<Uri> {
    let endpoint = endpoint.trim();
    let absolute = if endpoint.starts_with("http://") || endpoint.starts_with("https://") {
        endpoint.to_owned()
    } else {
        let (scheme, authority) = (base.scheme_str()?, base.authority()?);
        if endpoint.starts_with("//") {
            format!("{scheme}:{endpoint}")
        } else if endpoint.starts_with('/') {
            format!("{scheme}://{authority}{endpoint}")
        } else if endpoint.starts_with('?') {
            format!("{scheme}://{authority}{}{endpoint}", base.path())
        } else {
            let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            format!("{scheme}://{authority}{folder}/{endpoint}")
        }
    };
    let uri: Uri = absolute.parse().ok()?;
    (uri.scheme() == base.scheme() && uri.authority() == base.authority()).then_some(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_resolve_at_their_origin_only() {
        let base: Uri = "http://host:1/a/sse".parse().unwrap();
        for (endpoint, expected) in [
            ("/messages/?s=1", Some("http://host:1/messages/?s=1")),
            ("messages?s=1", Some("http://host:1/a/messages?s=1")),
            ("?s=1", Some("http://host:1/a/sse?s=1")),
            ("http://host:1/m", Some("http://host:1/m")),
            ("http://other:1/m", None),
            ("https://host:1/m", None),
            ("//other/m", None),
        ] {
            let resolved = resolve(&base, endpoint).map(|uri| uri.to_string());
            assert_eq!(resolved.as_deref(), expected, "{endpoint}");
        }
    }
}
