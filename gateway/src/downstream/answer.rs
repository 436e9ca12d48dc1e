//! A call as an HTTP response: JSON if the answer comes soon, else a stream of events.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mcp::error::{OVERLOADED, error_response};
use mcp::sse;
use tokio::time::{Instant, Sleep, sleep};

use super::body::{Body, BrokenOff};
use super::reply::{self, Response};
use super::{Downstream, modern};
use crate::call::{Call, Event};
use crate::parked::Parked;

/// How often a silent stream shows that it lives: proxies close what was silent for 60 s, some for 30.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Before the head of a stream of events. A proxy in Go (Traefik 3.6 was seen to) ends a stream whose
/// head comes within some 100 µs of the request's body, while it is still at that body.
const SETTLED: Duration = Duration::from_millis(20);

/// Waits until a stream of events may begin that answers a request of this age.
pub(super) async fn settled(age: Duration) {
    let left = SETTLED.saturating_sub(age);
    if !left.is_zero() {
        // Boxed: a connection holds as long as it lasts what it may ever await.
        Box::pin(sleep(left)).await;
    }
}

/// The answer of a call. `streams` tells whether the client takes a stream of events.
pub(super) async fn respond(app: &Arc<Downstream>, mut call: Box<Call>, streams: bool) -> Response {
    // Not when the call began: this may be the request that brings what it waited for.
    let asked = Instant::now();
    loop {
        let event = std::future::poll_fn(|cx| call.poll_event(cx)).await;
        return match event {
            Event::Answer(message) | Event::Cancelled(message) => whole(&call, message),
            Event::Chunk(chunk) => through(call, chunk),
            Event::Notification(message) if streams => {
                settled(asked.elapsed()).await;
                events(app, call, Some(message))
            }
            Event::Late if streams => events(app, call, None),
            // For a client that takes no events notifications are dropped.
            Event::Notification(_) | Event::Late => continue,
            Event::Input => reply::message(park(&app.parked, call)),
            Event::End | Event::Broken(_) => reply::broken_off(),
        };
    }
}

/// A message as the whole answer.
fn whole(call: &Call, message: Bytes) -> Response {
    if call.is_modern() { modern::status(message) } else { reply::message(message) }
}

/// What a client is told whose call has to wait for its input.
fn park(parked: &Arc<Parked>, call: Box<Call>) -> Bytes {
    let principal = call.principal().clone();
    parked.park(&principal, call).unwrap_or_else(|call| {
        let message = "too many calls of this key wait for input; answer some of them first";
        error_response(call.client_id(), OVERLOADED, message)
    })
}

fn events(app: &Arc<Downstream>, call: Box<Call>, first: Option<Bytes>) -> Response {
    reply::events(Body::Call(Box::new(Events::new(app.parked.clone(), call, first))))
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
                Event::Notification(_) | Event::Late | Event::Input => {}
                Event::Answer(_) | Event::Cancelled(_) | Event::Broken(_) => {
                    return Poll::Ready(Some(Err(BrokenOff)));
                }
            }
        }
    }
}

/// A call as a stream of events.
pub(crate) struct Events {
    /// `None` once it waits for its client.
    call: Option<Box<Call>>,
    parked: Arc<Parked>,
    first: Option<Bytes>,
    /// In the middle of an event whose data comes in parts.
    open: bool,
    keep_alive: Pin<Box<Sleep>>,
}

impl Events {
    fn new(parked: Arc<Parked>, call: Box<Call>, first: Option<Bytes>) -> Self {
        let keep_alive = Box::pin(sleep(KEEP_ALIVE));
        Self { call: Some(call), parked, first, open: false, keep_alive }
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
        loop {
            let Some(call) = self.call.as_mut().filter(|call| !call.is_over()) else {
                return Poll::Ready(None);
            };
            let Poll::Ready(event) = call.poll_event(cx) else { break };
            match event {
                Event::Late => continue,
                Event::Input => {
                    let call = self.call.take();
                    let told = call.map(|call| message(&park(&self.parked, call)));
                    return Poll::Ready(told.map(Ok));
                }
                _ => {}
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
            Event::Cancelled(_) | Event::Late | Event::Input => Ok(None),
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
