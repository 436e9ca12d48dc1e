//! A stream of events to a client that stays open: the GET stream of Streamable HTTP, and the
//! stream of HTTP+SSE, which also carries every answer.
//!
//! The stream owns the calls whose answers it carries and polls them. Who does not read is not
//! polled, and nobody else waits.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use gateway_core::{Principal, Scope};
use jiff::Timestamp;
use mcp::sse;
use mcp::tool::LIST_CHANGED;
use tokio::sync::{mpsc, watch};
use tokio::time::{Sleep, sleep};

use super::Downstream;
use super::answer::{KEEP_ALIVE, encode, keep_alive};
use super::body::BrokenOff;
use super::sse::Stream;
use crate::call::Call;

/// After how many milliseconds a client should open a broken GET stream again.
const RETRY: u64 = 3000;
/// Calls under way on one stream.
pub(super) const MAX_CALLS: usize = 128;

/// What is sent on a stream from elsewhere.
#[derive(Debug)]
pub(super) enum Outgoing {
    Message(Bytes),
    Call(Box<Call>),
}

/// An open stream.
pub(crate) struct EventBody {
    app: Arc<Downstream>,
    principal: Principal,
    scope: Scope,
    /// The tools the client knows of.
    seen: Option<u64>,
    /// Ids on events tell a client that comes back whether it missed a change. Clients of HTTP+SSE
    /// do not send them back.
    with_ids: bool,
    table: BoxFuture<'static, watch::Receiver<u64>>,
    stopping: BoxFuture<'static, ()>,
    timer: Pin<Box<Sleep>>,
    ready: VecDeque<Bytes>,
    /// HTTP+SSE: the place in the table of streams, and what comes from there.
    stream: Option<(Stream, mpsc::Receiver<Outgoing>)>,
    calls: Vec<Box<Call>>,
    /// The call in the middle of whose answer the stream is.
    open: Option<usize>,
    ended: bool,
}

impl EventBody {
    /// The GET stream of a session. `seen` is the id of the last event the client saw.
    pub(super) fn listening(
        app: Arc<Downstream>,
        principal: Principal,
        scope: Scope,
        seen: Option<u64>,
    ) -> Self {
        let mut body = Self::new(app, principal, scope, seen, None);
        // Clients of the Python SDK try once more when the stream breaks, then never again: late
        // enough for a gateway that restarts.
        let mut start = BytesMut::new();
        sse::retry(RETRY, &mut start);
        body.ready.push_back(start.freeze());
        // A client that comes back may have missed a change: told at once unless it can show that
        // it did not.
        body.look();
        body
    }

    /// The stream of HTTP+SSE, which begins with `start`.
    pub(super) fn carrying(
        app: Arc<Downstream>,
        principal: Principal,
        stream: (Stream, mpsc::Receiver<Outgoing>),
        start: Bytes,
    ) -> Self {
        let mut body = Self::new(app, principal, Scope::All, None, Some(stream));
        body.ready.push_back(start);
        // A client whose stream broke comes back without `initialize` and would never list again
        // (PROTOCOL §4); to one that is new this says nothing wrong.
        body.look();
        body
    }

    fn new(
        app: Arc<Downstream>,
        principal: Principal,
        scope: Scope,
        seen: Option<u64>,
        stream: Option<(Stream, mpsc::Receiver<Outgoing>)>,
    ) -> Self {
        app.telemetry.streams.inc();
        let stop = app.stop.clone();
        let mut body = Self {
            table: next_table(app.table.watch()),
            stopping: Box::pin(async move { stop.cancelled().await }),
            timer: Box::pin(sleep(KEEP_ALIVE)),
            with_ids: stream.is_none(),
            ready: VecDeque::new(),
            calls: Vec::new(),
            open: None,
            ended: false,
            app,
            principal,
            scope,
            seen,
            stream,
        };
        body.rewind();
        body
    }

    /// Sets the timer to the next sign of life, or to the end of the key if that comes first.
    fn rewind(&mut self) {
        let left = self.principal.key.expires_at.map(|end| {
            Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default()
        });
        // The timer may be early by the clock of the key; a millisecond later it is not.
        let left = left.map_or(KEEP_ALIVE, |left| left + Duration::from_millis(1));
        self.timer = Box::pin(sleep(KEEP_ALIVE.min(left)));
    }

    /// Looks at the table of now: whether the key is still good and the tools are the same.
    fn look(&mut self) {
        match self.app.table.renew(&self.principal) {
            Some(principal) => {
                let before = std::mem::replace(&mut self.principal, principal);
                if before.key.expires_at != self.principal.key.expires_at {
                    self.rewind();
                }
                self.tell_of_changes();
            }
            None => self.ended = true,
        }
    }

    /// In the middle of an event nothing else may be written: told when that ends.
    fn tell_of_changes(&mut self) {
        if self.open.is_some() {
            return;
        }
        let hash = self.principal.tenant.view_hash(&self.scope, &self.principal);
        if self.seen.replace(hash) != Some(hash) {
            let id = self.with_ids.then(|| format!("{hash:x}"));
            let mut out = BytesMut::new();
            sse::event(Some("message"), id.as_deref(), LIST_CHANGED.as_bytes(), &mut out);
            self.ready.push_back(out.freeze());
        }
    }

    fn poll_table(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(watch) = self.table.as_mut().poll(cx) {
            self.look();
            self.table = next_table(watch);
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) {
        while self.timer.as_mut().poll(cx).is_ready() {
            self.look();
            // In the middle of an event nothing else may be written.
            if self.open.is_none() {
                self.ready.push_back(keep_alive());
            }
            self.rewind();
            if self.ended {
                return;
            }
        }
    }

    /// Takes in what was posted for this stream.
    fn poll_outgoing(&mut self, cx: &mut Context<'_>) {
        let Some((_, outgoing)) = &mut self.stream else { return };
        while self.calls.len() < MAX_CALLS && self.ready.len() < MAX_CALLS {
            match outgoing.poll_recv(cx) {
                Poll::Ready(Some(Outgoing::Message(message))) => {
                    let mut out = BytesMut::with_capacity(message.len() + 32);
                    sse::event(Some("message"), None, &message, &mut out);
                    self.ready.push_back(out.freeze());
                }
                Poll::Ready(Some(Outgoing::Call(call))) => self.calls.push(call),
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
    }

    /// Polls calls until there is something to write. While one is in the middle of its answer only
    /// that one is.
    fn poll_calls(&mut self, cx: &mut Context<'_>) -> Result<(), BrokenOff> {
        let mut at = self.open.unwrap_or_default();
        while self.ready.is_empty()
            && let Some(call) = self.calls.get_mut(at)
        {
            match call.poll_event(cx) {
                Poll::Ready(event) => {
                    let was_in_answer = self.open.is_some();
                    let mut in_answer = was_in_answer;
                    let bytes = encode(event, &mut in_answer)?;
                    self.ready.extend(bytes);
                    self.open = in_answer.then_some(at);
                    if call.is_over() {
                        self.calls.swap_remove(at);
                    }
                    if was_in_answer {
                        self.tell_of_changes();
                    }
                }
                Poll::Pending if self.open.is_some() => return Ok(()),
                Poll::Pending => at += 1,
            }
        }
        Ok(())
    }
}

/// Resolves when there is another table.
fn next_table(mut watch: watch::Receiver<u64>) -> BoxFuture<'static, watch::Receiver<u64>> {
    Box::pin(async move {
        if watch.changed().await.is_err() {
            // The gateway is gone; the stream ends by other means.
            std::future::pending::<()>().await;
        }
        watch
    })
}

impl EventBody {
    pub(super) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        self.poll_table(cx);
        self.poll_timer(cx);
        if self.ended {
            return Poll::Ready(None);
        }
        if self.open.is_none() {
            self.poll_outgoing(cx);
        }
        if let Err(error) = self.poll_calls(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        // What was written while an answer was under way waits for its end.
        if let Some(bytes) = self.ready.pop_front() {
            return Poll::Ready(Some(Ok(bytes)));
        }
        if self.calls.is_empty() && self.stopping.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

impl Drop for EventBody {
    fn drop(&mut self) {
        self.app.telemetry.streams.dec();
        // A client that comes back over HTTP+SSE gets another session.
        if let Some((stream, _)) = &self.stream {
            self.app.close_legs(&self.principal, stream.id);
        }
    }
}
