//! A call as an HTTP response: JSON if the answer comes soon, else a stream of events.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mcp::sse;
use tokio::time::{Sleep, sleep};

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
            Event::End | Event::Broken => reply::broken_off(),
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
                Event::Answer(_) | Event::Cancelled(_) | Event::Broken => {
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
        if let Poll::Ready(event) = self.call.poll_event(cx) {
            if matches!(event, Event::Late) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.keep_alive = Box::pin(sleep(KEEP_ALIVE));
            return Poll::Ready(match encode(event, &mut self.open) {
                Ok(Some(bytes)) => Some(Ok(bytes)),
                Ok(None) => None,
                Err(error) => Some(Err(error)),
            });
        }
        ready!(self.keep_alive.as_mut().poll(cx));
        self.keep_alive = Box::pin(sleep(KEEP_ALIVE));
        // Polled at once, so that the new timer wakes us.
        cx.waker().wake_by_ref();
        if self.open {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(keep_alive())))
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
        // An event whose beginning is out has no end that could be written.
        Event::Cancelled(_) if *open => Err(BrokenOff),
        Event::Cancelled(_) | Event::Late => Ok(None),
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
