//! A call as an HTTP response: JSON if the answer comes soon, else a stream of events.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http_body::Frame;
use mcp::sse;
use tokio::time::{Sleep, sleep, timeout};

use super::reply;
use crate::call::{Call, Event};

/// How long we wait for an answer before we commit to a stream of events (DESIGN §4).
const SOON: Duration = Duration::from_secs(5);
/// How often a silent stream shows that it lives (PROTOCOL 29).
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The answer of a call. `streams` tells whether the client takes a stream of events.
pub(super) async fn respond(mut call: Box<Call>, streams: bool) -> Response {
    loop {
        let next = std::future::poll_fn(|cx| call.poll_event(cx));
        let event = if streams { timeout(SOON, next).await.ok() } else { Some(next.await) };
        return match event {
            Some(Event::Answer(message) | Event::Cancelled(message)) => reply::message(message),
            Some(Event::Chunk(chunk)) => through(call, chunk),
            Some(Event::Notification(message)) if streams => {
                reply::events(Body::new(Events::new(call, Some(message))))
            }
            // For a client that takes no events notifications are dropped.
            Some(Event::Notification(_)) => continue,
            Some(Event::End | Event::Broken) => reply::broken_off(),
            None => reply::events(Body::new(Events::new(call, None))),
        };
    }
}

/// A large answer passes through as one body of JSON.
fn through(call: Box<Call>, first: Bytes) -> Response {
    reply::message_body(Body::new(Through { call, first: Some(first) }))
}

struct Through {
    call: Box<Call>,
    first: Option<Bytes>,
}

/// The answer broke off. The transfer is aborted: no one may take what came for the whole.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
pub(super) struct BrokenOff;

impl http_body::Body for Through {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        loop {
            if this.call.is_over() {
                return Poll::Ready(None);
            }
            match ready!(this.call.poll_event(cx)) {
                Event::Chunk(chunk) => return Poll::Ready(Some(Ok(Frame::data(chunk)))),
                Event::End => return Poll::Ready(None),
                Event::Notification(_) => {}
                Event::Answer(_) | Event::Cancelled(_) | Event::Broken => {
                    return Poll::Ready(Some(Err(BrokenOff)));
                }
            }
        }
    }
}

/// A call as a stream of events.
struct Events {
    call: Box<Call>,
    first: Option<Bytes>,
    /// In the middle of an event whose data comes in parts.
    open: bool,
    keep_alive: Pin<Box<Sleep>>,
}

impl Events {
    fn new(call: Box<Call>, first: Option<Bytes>) -> Self {
        Self { call, first, open: false, keep_alive: Box::pin(sleep(KEEP_ALIVE)) }
    }
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(message(&first)))));
        }
        if this.call.is_over() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(event) = this.call.poll_event(cx) {
            this.keep_alive = Box::pin(sleep(KEEP_ALIVE));
            return Poll::Ready(match encode(event, &mut this.open) {
                Ok(Some(bytes)) => Some(Ok(Frame::data(bytes))),
                Ok(None) => None,
                Err(error) => Some(Err(error)),
            });
        }
        ready!(this.keep_alive.as_mut().poll(cx));
        this.keep_alive = Box::pin(sleep(KEEP_ALIVE));
        // Polled at once, so that the new timer wakes us.
        cx.waker().wake_by_ref();
        if this.open {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(keep_alive()))))
    }
}

/// An event of a call as bytes of a stream; `None` where the stream has nothing more to say of it.
pub(super) fn encode(event: Event, open: &mut bool) -> Result<Option<Bytes>, BrokenOff> {
    match event {
        Event::Notification(bytes) | Event::Answer(bytes) => Ok(Some(message(&bytes))),
        Event::Chunk(chunk) => {
            let chunk = sse::flatten(chunk);
            if *open {
                return Ok(Some(chunk));
            }
            *open = true;
            let mut out = BytesMut::with_capacity(chunk.len() + 32);
            sse::begin(Some("message"), None, &mut out);
            out.extend_from_slice(&chunk);
            Ok(Some(out.freeze()))
        }
        Event::End => {
            *open = false;
            let mut out = BytesMut::new();
            sse::end(&mut out);
            Ok(Some(out.freeze()))
        }
        Event::Cancelled(_) => Ok(None),
        Event::Broken => Err(BrokenOff),
    }
}

fn message(bytes: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(bytes.len() + 32);
    sse::event(Some("message"), None, bytes, &mut out);
    out.freeze()
}

pub(super) fn keep_alive() -> Bytes {
    Bytes::from_static(b": keep-alive\n\n")
}
