//! A call as an HTTP response: JSON if the answer comes soon, else a stream of events.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mcp::sse;
use tokio::time::{Instant, Sleep, sleep};

use super::body::{Body, BrokenOff};
use super::reply::{self, Response};
use crate::call::{Call, Event};

/// How often a silent stream shows that it lives (PROTOCOL 29).
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The answer of a call. `streams` tells whether the client takes a stream of events.
pub(super) async fn respond(mut call: Box<Call>, streams: bool) -> Response {
    loop {
        let event = std::future::poll_fn(|cx| call.poll_event(cx)).await;
        return match event {
            Event::Answer(message) | Event::Cancelled(message) => reply::message(message),
            Event::Chunk(chunk) => through(call, chunk),
            Event::Notification(message) if streams => events(call, Some(message)),
            Event::Late if streams => events(call, None),
            // For a client that takes no events notifications are dropped.
            Event::Notification(_) | Event::Late => continue,
            Event::End | Event::Broken(_) => reply::broken_off(),
        };
    }
}

fn events(call: Box<Call>, first: Option<Bytes>) -> Response {
    reply::events(Body::Call(Box::new(Events::new(call, first))))
}

/// A large answer passes through as one body of JSON.
fn through(call: Box<Call>, first: Bytes) -> Response {
    reply::message(Body::Through(Box::new(Through { call, first: Some(first) })))
}

pub(crate) struct Through {
    call: Box<Call>,
    first: Option<Bytes>,
}

impl Through {
    pub(super) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        loop {
            if self.call.is_over() {
                return Poll::Ready(None);
            }
            match ready!(self.call.poll_event(cx)) {
                Event::Chunk(chunk) => return Poll::Ready(Some(Ok(chunk))),
                Event::End => return Poll::Ready(None),
                Event::Notification(_) | Event::Late => {}
                Event::Answer(_) | Event::Cancelled(_) | Event::Broken(_) => {
                    return Poll::Ready(Some(Err(BrokenOff)));
                }
            }
        }
    }
}

/// A call as a stream of events.
pub(crate) struct Events {
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

impl Events {
    pub(super) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(message(&first))));
        }
        if self.call.is_over() {
            return Poll::Ready(None);
        }
        while let Poll::Ready(event) = self.call.poll_event(cx) {
            if matches!(event, Event::Late) {
                continue;
            }
            self.keep_alive.as_mut().reset(Instant::now() + KEEP_ALIVE);
            return Poll::Ready(self.encode(event).transpose());
        }
        ready!(self.keep_alive.as_mut().poll(cx));
        self.keep_alive.as_mut().reset(Instant::now() + KEEP_ALIVE);
        // Polled once more, so that the timer wakes us again.
        cx.waker().wake_by_ref();
        // In the middle of an event nothing else may be written.
        if self.open { Poll::Pending } else { Poll::Ready(Some(Ok(keep_alive()))) }
    }

    /// An event of the call as bytes; none when the stream has nothing more to say.
    fn encode(&mut self, event: Event) -> Result<Option<Bytes>, BrokenOff> {
        match event {
            Event::Notification(bytes) | Event::Answer(bytes) => Ok(Some(message(&bytes))),
            Event::Chunk(chunk) => {
                let chunk = sse::flatten(chunk);
                if std::mem::replace(&mut self.open, true) {
                    return Ok(Some(chunk));
                }
                let mut out = BytesMut::with_capacity(chunk.len() + 32);
                sse::begin(Some("message"), None, &mut out);
                out.extend_from_slice(&chunk);
                Ok(Some(out.freeze()))
            }
            Event::End => {
                self.open = false;
                let mut out = BytesMut::new();
                sse::end(&mut out);
                Ok(Some(out.freeze()))
            }
            Event::Cancelled(_) | Event::Late => Ok(None),
            Event::Broken(_) => Err(BrokenOff),
        }
    }
}

/// A message as an event.
pub(super) fn message(bytes: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(bytes.len() + 32);
    sse::event(Some("message"), None, bytes, &mut out);
    out.freeze()
}

pub(super) fn keep_alive() -> Bytes {
    Bytes::from_static(b": keep-alive\n\n")
}
