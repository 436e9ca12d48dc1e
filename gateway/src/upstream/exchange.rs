//! One request to a server and what comes back for it, as it comes.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Response, StatusCode, header};
use mcp::scan::Name;
use mcp::{Message, sse};
use tokio::sync::mpsc;

use super::client::{Body, Sending};
use super::fault::Fault;
use super::passing::{Mends, Passing};

/// Messages up to here are held whole; larger answers pass through as they are read.
pub(crate) const WHOLE: usize = 64 * 1024;
/// Steps, each a frame or an event, after which others have their turn.
pub(super) const STEPS: usize = 32;
/// Largest answer.
pub(crate) const MAX_RESPONSE: usize = 32 * 1024 * 1024;
/// Before a stream is opened again whose server does not say when; and at most.
const RETRY: Duration = Duration::from_secs(1);
const MAX_RETRY: Duration = Duration::from_secs(30);
/// Largest event on a stream.
pub(crate) const MAX_EVENT: usize = 8 * 1024 * 1024;

/// A part of what came back.
#[derive(Debug)]
pub(crate) enum Item {
    /// A whole message.
    Message(Bytes),
    /// Part of an answer too large to hold, its id already the client's.
    Chunk(Bytes),
    /// Part of such an answer that the client knows otherwise: the JSON text of a name.
    Name(Name, Bytes),
    /// The end of such an answer, and whether it was an error.
    End { error: bool },
    /// The JSON text of the id of a request of the server too large to hold.
    Unheard { id: Bytes },
}

/// Whether a request names a session, and what a refusal says of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionUse {
    /// It names none.
    None,
    /// A refusal is the session's end, whatever comes with it.
    First,
    /// The session is new: what comes with a refusal is the server's answer, if it is one.
    Again,
}

/// One request under way.
pub(crate) struct Exchange {
    stage: Stage,
    /// Our id of the request.
    id: u64,
    /// JSON text of the id the client chose, for answers that pass through.
    client_id: Bytes,
    /// What such answers need.
    mends: Mends,
    session: SessionUse,
    received: usize,
    ready: VecDeque<Item>,
    /// The last event that had an id, and when its server wants to be asked for what follows.
    last_event: Option<HeaderValue>,
    retry: Duration,
}

enum Stage {
    /// Nothing has come back yet.
    Head(Sending),
    /// A JSON body, held.
    Json { status: StatusCode, body: Body, held: Held },
    /// A JSON body too large to hold.
    Through { body: Body, passing: Box<Passing> },
    /// A stream of events.
    Events { body: Body, decoder: Box<sse::Decoder>, passing: Option<Box<Passing>> },
    /// HTTP+SSE: the answer comes on the session's stream once the POST is accepted.
    Elsewhere { accepted: Option<Sending>, messages: mpsc::Receiver<Bytes> },
    /// Nothing more will come.
    Done,
}

/// Bytes of a body; a body of one frame is never copied.
#[derive(Debug, Default)]
struct Held {
    first: Bytes,
    more: BytesMut,
}

impl Held {
    fn push(&mut self, frame: Bytes) {
        if self.first.is_empty() && self.more.is_empty() {
            self.first = frame;
        } else {
            if self.more.is_empty() {
                self.more.extend_from_slice(&self.first);
            }
            self.more.extend_from_slice(&frame);
        }
    }

    fn len(&self) -> usize {
        if self.more.is_empty() { self.first.len() } else { self.more.len() }
    }

    fn take(&mut self) -> Bytes {
        let more = self.more.split().freeze();
        let first = std::mem::take(&mut self.first);
        if more.is_empty() { first } else { more }
    }
}

impl Exchange {
    /// Over Streamable HTTP: the answer comes with the response.
    pub(crate) fn streamable(
        response: Sending,
        id: u64,
        client_id: Bytes,
        session: SessionUse,
    ) -> Self {
        Self::new(Stage::Head(response), id, client_id, session)
    }

    /// Whoever waits for the answer has another id now.
    pub(crate) fn answer_to(&mut self, client_id: Bytes) {
        self.client_id = client_id;
    }

    /// A response whose head is read.
    pub(crate) fn head(response: Response<Body>, id: u64) -> Result<Self, Fault> {
        let stage = classify(response, SessionUse::None)?;
        Ok(Self::new(stage, id, Bytes::from(id.to_string()), SessionUse::None))
    }

    /// Over HTTP+SSE: the answer comes on the session's stream.
    pub(crate) fn legacy(
        accepted: Sending,
        messages: mpsc::Receiver<Bytes>,
        id: u64,
        client_id: Bytes,
    ) -> Self {
        Self::new(
            Stage::Elsewhere { accepted: Some(accepted), messages },
            id,
            client_id,
            SessionUse::Again,
        )
    }

    const fn new(stage: Stage, id: u64, client_id: Bytes, session: SessionUse) -> Self {
        Self {
            stage,
            id,
            client_id,
            mends: Mends { additions: Vec::new(), names: None, share: None },
            session,
            received: 0,
            ready: VecDeque::new(),
            last_event: None,
            retry: RETRY,
        }
    }

    /// After which event, and when, the stream goes on elsewhere that ended here.
    pub(crate) fn resumable(&self) -> Option<(HeaderValue, Duration)> {
        Some((self.last_event.clone()?, self.retry))
    }

    /// The same, for a client that needs answers which pass through mended.
    pub(crate) fn mending(mut self, mends: Mends) -> Self {
        self.mends = mends;
        self
    }

    /// Whether a part of an answer was handed out, or the stream of events has begun: from then on
    /// the request can't be sent again unseen.
    pub(crate) const fn has_begun(&self) -> bool {
        self.received > 0
    }

    /// Whether the server has answered at all.
    pub(crate) const fn has_head(&self) -> bool {
        !matches!(self.stage, Stage::Head(_))
    }

    /// Bytes that have come, whatever they were.
    pub(crate) const fn received(&self) -> usize {
        self.received
    }

    /// Whether the connection still has something to say after the answer: reading to the end
    /// lets it be used again.
    pub(crate) const fn has_remainder(&self) -> bool {
        matches!(self.stage, Stage::Events { .. })
    }

    /// The next part. `None` when nothing more will come.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Item>, Fault>> {
        for _ in 0..STEPS {
            if let Some(item) = self.ready.pop_front() {
                return Poll::Ready(Ok(Some(item)));
            }
            if matches!(self.stage, Stage::Done) {
                return Poll::Ready(Ok(None));
            }
            if let Err(fault) = ready!(self.poll_stage(cx)) {
                self.stage = Stage::Done;
                return Poll::Ready(Err(fault));
            }
        }
        // A server that never pauses must not have the thread to itself.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Makes one step: fills `ready`, changes the stage, or both.
    fn poll_stage(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        match &mut self.stage {
            Stage::Head(response) => {
                let response = ready!(response.as_mut().poll(cx))?;
                self.stage = classify(response, self.session)?;
                Poll::Ready(Ok(()))
            }
            Stage::Json { .. } => self.poll_json(cx),
            Stage::Through { .. } => self.poll_through(cx),
            Stage::Events { .. } => self.poll_events(cx),
            Stage::Elsewhere { .. } => self.poll_elsewhere(cx),
            Stage::Done => Poll::Ready(Ok(())),
        }
    }

    fn poll_json(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let Stage::Json { status, body, held } = &mut self.stage else {
            return Poll::Ready(Ok(()));
        };
        match ready!(body.poll_data(cx)) {
            Some(frame) => {
                let frame = frame?;
                self.received += frame.len();
                held.push(frame);
                if held.len() <= WHOLE {
                    return Poll::Ready(Ok(()));
                }
                let start = held.take();
                let ok = status.is_success();
                let stage = std::mem::replace(&mut self.stage, Stage::Done);
                let (Stage::Json { body, .. }, true) = (stage, ok) else {
                    return Poll::Ready(Err(Fault::Garbage("an error of over 64 KiB".to_owned())));
                };
                let mut passing = Box::new(Passing::new(&self.mends));
                passing.feed(start, self.id, &self.client_id, &mut self.ready)?;
                self.stage = Stage::Through { body, passing };
            }
            None => {
                let (status, message) = (*status, held.take());
                self.stage = Stage::Done;
                if !status.is_success() && !answers_us(&message) {
                    return Poll::Ready(Err(refused(status, self.session)));
                }
                self.ready.push_back(Item::Message(message));
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_through(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let Stage::Through { body, passing } = &mut self.stage else { return Poll::Ready(Ok(())) };
        match ready!(body.poll_data(cx)) {
            Some(frame) => {
                let frame = frame?;
                self.received += frame.len();
                if self.received > MAX_RESPONSE {
                    return Poll::Ready(Err(Fault::TooLarge(MAX_RESPONSE >> 20)));
                }
                passing.feed(frame, self.id, &self.client_id, &mut self.ready)?;
            }
            None => {
                passing.finish(&mut self.ready)?;
                self.stage = Stage::Done;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_events(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let Stage::Events { body, decoder, passing } = &mut self.stage else {
            return Poll::Ready(Ok(()));
        };
        let item = decoder.next().map_err(|error| match error {
            sse::DecodeError::TooLarge { .. } => Fault::TooLarge(MAX_EVENT >> 20),
            other => Fault::Garbage(other.to_string()),
        })?;
        match item {
            Some(sse::Item::Event(event)) => {
                if let Some(id) = &event.id {
                    // An empty one means that there is nothing to come back to.
                    let id = (!id.is_empty()).then(|| HeaderValue::from_bytes(id).ok());
                    self.last_event = id.flatten();
                }
                if let Some(millis) = event.retry {
                    self.retry = Duration::from_millis(millis).min(MAX_RETRY);
                }
                if event.dispatched && !event.data.is_empty() {
                    self.ready.push_back(Item::Message(event.data));
                }
            }
            Some(sse::Item::DataStart(_)) => {
                *passing = Some(Box::new(Passing::new(&self.mends)));
            }
            Some(sse::Item::DataChunk(chunk)) => {
                if let Some(passing) = passing {
                    passing.feed(chunk, self.id, &self.client_id, &mut self.ready)?;
                }
            }
            Some(sse::Item::DataEnd(_)) => {
                if let Some(mut passing) = passing.take() {
                    passing.finish(&mut self.ready)?;
                }
            }
            None => match ready!(body.poll_data(cx)) {
                Some(frame) => {
                    let frame = frame?;
                    // Some servers label a JSON body as a stream of events.
                    let mislabelled = self.received == 0
                        && frame.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{');
                    self.received += frame.len();
                    if mislabelled {
                        self.relabel(frame);
                    } else {
                        decoder.push(frame);
                    }
                }
                None if passing.is_some() => {
                    return Poll::Ready(Err(Fault::Closed("in the middle of an event".to_owned())));
                }
                None => self.stage = Stage::Done,
            },
        }
        Poll::Ready(Ok(()))
    }

    fn relabel(&mut self, start: Bytes) {
        if let Stage::Events { body, .. } = std::mem::replace(&mut self.stage, Stage::Done) {
            let mut held = Held::default();
            held.push(start);
            self.stage = Stage::Json { status: StatusCode::OK, body, held };
        }
    }

    fn poll_elsewhere(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let Stage::Elsewhere { accepted, messages } = &mut self.stage else {
            return Poll::Ready(Ok(()));
        };
        if let Some(post) = accepted
            && let Poll::Ready(response) = post.as_mut().poll(cx)
        {
            *accepted = None;
            let response = response?;
            if !response.status().is_success() {
                return Poll::Ready(Err(refused(response.status(), SessionUse::Again)));
            }
            // Read past: what is accepted has no body to speak of.
            let _ = response.into_body().poll_data(cx);
        }
        match ready!(messages.poll_recv(cx)) {
            Some(message) => {
                self.received += message.len();
                self.ready.push_back(Item::Message(message));
                Poll::Ready(Ok(()))
            }
            None => Poll::Ready(Err(Fault::Closed("its stream of events ended".to_owned()))),
        }
    }
}

/// What kind of answer a response head announces.
fn classify(response: Response<Body>, session: SessionUse) -> Result<Stage, Fault> {
    let status = response.status();
    let media_type = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .map(|value| value.trim().to_ascii_lowercase());
    match media_type.as_deref() {
        // A JSON-RPC error may come with an error status.
        _ if session == SessionUse::First && ends_session(status) => Err(Fault::SessionLost),
        Some("application/json") => {
            Ok(Stage::Json { status, body: response.into_body(), held: Held::default() })
        }
        Some("text/event-stream") if status.is_success() => Ok(Stage::Events {
            body: response.into_body(),
            decoder: Box::new(sse::Decoder::new(MAX_EVENT)),
            passing: None,
        }),
        _ if !status.is_success() => Err(refused(status, session)),
        _ if status == StatusCode::ACCEPTED || status == StatusCode::NO_CONTENT => {
            Err(Fault::Garbage(format!("HTTP {status} instead of an answer")))
        }
        // What it is instead is the server's text, which may repeat the credential it was shown.
        Some(_) => Err(Fault::Garbage("another content type than JSON or events".to_owned())),
        None => Err(Fault::Garbage("no content type".to_owned())),
    }
}

/// A 404 to a session is its end (2025-11-25, transports); the reference server says 400, and may
/// name our id as if it had read the request.
fn ends_session(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST)
}

fn refused(status: StatusCode, session: SessionUse) -> Fault {
    match status {
        _ if session != SessionUse::None && ends_session(status) => Fault::SessionLost,
        _ => Fault::Status(status),
    }
}

/// Our ids are numbers. A server that refuses a request unread answers nobody: it has no id, or
/// one that it made up.
fn answers_us(message: &[u8]) -> bool {
    let Ok(Message::Response { id, .. }) = Message::parse(message) else { return false };
    id.as_json().trim_matches('"').parse::<u64>().is_ok()
}
