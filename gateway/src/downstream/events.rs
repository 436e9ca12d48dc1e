//! A stream of events to a client that stays open: the GET stream of Streamable HTTP, what
//! `subscriptions/listen` opens, and the stream of HTTP+SSE, which also carries every answer.
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
use mcp::subscription::Filter;
use tokio::sync::{mpsc, watch};
use tokio::time::{Sleep, sleep};

use super::Downstream;
use super::answer::{KEEP_ALIVE, keep_alive, message};
use super::body::BrokenOff;
use super::listen::{Listen, Seen, is_empty, watched};
use super::revival::{Listener, Turn};
use super::spool::{Progress, Spooled};
use super::sse::Stream;
use crate::call::Call;
use crate::home::Home;
use crate::session::SessionId;

/// After how many milliseconds a client should open a broken GET stream again.
const RETRY: u64 = 3000;
/// Calls under way on one stream.
pub(super) const MAX_CALLS: usize = 128;

/// What is sent on a stream from elsewhere.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Message(Bytes),
    /// A call and the size of its request in bytes.
    Call(Box<Call>, usize),
    /// Nothing to send: other resources are watched.
    Revision,
}

/// Messages of servers that wait for a stream which carries no answers.
const UNASKED: usize = 32;
/// Bytes that requests and answers of one stream may hold before more requests are taken in.
const MAX_HELD: usize = 16 * 1024 * 1024;

/// An open stream.
pub(crate) struct EventBody {
    app: Arc<Downstream>,
    principal: Principal,
    scope: Scope,
    kind: Kind,
    /// Of the session whose stream it is: kept as long as the stream is open.
    home: Option<Arc<Home>>,
    /// The lists that the client knows.
    seen: Seen,
    table: BoxFuture<'static, watch::Receiver<u64>>,
    stopping: BoxFuture<'static, ()>,
    timer: Pin<Box<Sleep>>,
    ready: VecDeque<Bytes>,
    /// What is to be sent on the stream.
    outgoing: mpsc::Receiver<Outgoing>,
    calls: Vec<Spooled>,
    /// The call that is polled first, so that none is always last.
    turn: usize,
    ended: bool,
}

/// What the stream is.
enum Kind {
    /// The GET stream of a session, whose end is the stream's.
    Get(SessionId),
    /// HTTP+SSE: the place in the table of streams.
    Sse(Stream),
    /// What a modern client asked to be told.
    Listen(Box<Listen>),
}

impl EventBody {
    /// The GET stream of a session. `seen` is the id of the last event the client saw.
    pub(super) fn listening(app: Arc<Downstream>, listener: Listener, seen: Seen) -> Self {
        let (outlet, outgoing) = mpsc::channel(UNASKED);
        let session = listener.member.session;
        let home = app.commons.homes.of(session);
        home.connect(outlet);
        let (principal, scope) = (listener.principal.clone(), listener.scope.clone());
        home.listen(listener);
        if let Some(listener) = home.listener() {
            // Without a place it has its turn later.
            let _ = app.revivals.try_send(Turn::Own(listener));
        }
        let mut body = Self::new(app, principal, scope, Kind::Get(session), outgoing);
        body.home = Some(home);
        body.seen = seen;
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
        (stream, outgoing): (Stream, mpsc::Receiver<Outgoing>),
        home: Arc<Home>,
        start: Bytes,
    ) -> Self {
        let mut body = Self::new(app, principal, Scope::All, Kind::Sse(stream), outgoing);
        body.home = Some(home);
        body.ready.push_back(start);
        // A client whose stream broke comes back without `initialize` and would never list again; to
        // one that is new this says nothing wrong.
        body.look();
        body
    }

    /// What a modern client is told that listens under `id`.
    pub(super) fn subscribed(
        app: Arc<Downstream>,
        principal: Principal,
        scope: Scope,
        id: Bytes,
        filter: &Filter<'_>,
    ) -> Self {
        let (outlet, outgoing) = mpsc::channel(UNASKED);
        let listen = Listen::begin(&app, (&principal, &scope), id, filter, &outlet);
        let start = message(&listen.acknowledgement());
        let mut body = Self::new(app, principal, scope, Kind::Listen(Box::new(listen)), outgoing);
        body.ready.push_back(start);
        body.seen = Seen::now(&body.principal, &body.scope);
        body
    }

    fn new(
        app: Arc<Downstream>,
        principal: Principal,
        scope: Scope,
        kind: Kind,
        outgoing: mpsc::Receiver<Outgoing>,
    ) -> Self {
        app.telemetry.streams.inc();
        let stop = app.stop.clone();
        let mut body = Self {
            table: next_table(app.commons.table.watch()),
            stopping: Box::pin(async move { stop.cancelled().await }),
            timer: Box::pin(sleep(KEEP_ALIVE)),
            ready: VecDeque::new(),
            calls: Vec::new(),
            turn: 0,
            ended: false,
            seen: Seen::default(),
            home: None,
            app,
            principal,
            scope,
            kind,
            outgoing,
        };
        body.rewind();
        body
    }

    /// Sets the timer to the next sign of life, or to the end of the key if that comes first.
    fn rewind(&mut self) {
        let left = self.principal.ends_at().map(|end| {
            Duration::try_from(end.duration_since(Timestamp::now())).unwrap_or_default()
        });
        // The timer may be early by the clock of the key; a millisecond later it is not.
        let left = left.map_or(KEEP_ALIVE, |left| left + Duration::from_millis(1));
        self.timer = Box::pin(sleep(KEEP_ALIVE.min(left)));
    }

    /// Looks at the table of now: whether the key is still good and the tools are the same.
    fn look(&mut self) {
        match self.app.commons.table.renew(&self.principal) {
            Some(principal) => {
                let before = std::mem::replace(&mut self.principal, principal);
                if before.ends_at() != self.principal.ends_at() {
                    self.rewind();
                }
                self.revise_watches();
                self.tell_of_changes();
            }
            None => self.ended = true,
        }
    }

    /// Hears of the resources that the client may read now, at the servers of now.
    fn revise_watches(&mut self) {
        let Self { app, principal, scope, home, kind, .. } = self;
        let whom = (&*principal, &*scope);
        match (kind, home) {
            (Kind::Listen(listen), _) => listen.revise(app, whom),
            (_, Some(home)) => home.revise(|shown| watched(app, whom, shown)),
            (_, None) => {}
        }
    }

    fn tell_of_changes(&mut self) {
        let now = Seen::now(&self.principal, &self.scope);
        let id = match self.kind {
            // Clients of HTTP+SSE do not send ids back, and those of 2026-07-28 must not be given any.
            Kind::Sse(_) | Kind::Listen(_) => None,
            Kind::Get(_) => Some(now.id()),
        };
        let Self { principal, scope, .. } = self;
        for list in self.seen.replace(now, |list| is_empty(list, principal, scope)) {
            let notification = match &self.kind {
                Kind::Listen(listen) => match listen.changed(list) {
                    Some(notification) => notification,
                    None => continue,
                },
                _ => Bytes::from_static(list.changed().as_bytes()),
            };
            let mut out = BytesMut::new();
            sse::event(Some("message"), id.as_deref(), &notification, &mut out);
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
            if let Kind::Get(session) = self.kind {
                self.ended |= self.app.tombstones.holds(session);
            }
            self.ready.push_back(keep_alive());
            self.rewind();
            if self.ended {
                return;
            }
        }
    }

    /// Takes in what was posted for this stream, as much as it has room for.
    fn poll_outgoing(&mut self, cx: &mut Context<'_>) {
        let mut held: usize = self.calls.iter().map(Spooled::held).sum();
        held += self.ready.iter().map(Bytes::len).sum::<usize>();
        while self.calls.len() < MAX_CALLS && self.ready.len() < MAX_CALLS && held < MAX_HELD {
            match self.outgoing.poll_recv(cx) {
                Poll::Ready(Some(Outgoing::Message(bytes))) => {
                    let bytes = match &self.kind {
                        Kind::Listen(listen) => listen.stamp(&bytes),
                        _ => bytes,
                    };
                    held += bytes.len();
                    self.ready.push_back(message(&bytes));
                }
                Poll::Ready(Some(Outgoing::Revision)) => self.revise_watches(),
                Poll::Ready(Some(Outgoing::Call(call, size))) => {
                    self.calls.push(Spooled::new(call, size));
                    return;
                }
                Poll::Ready(None) | Poll::Pending => return,
            }
        }
    }

    /// Polls calls in turn until there is something to write. True if one ended.
    fn poll_calls(&mut self, cx: &mut Context<'_>) -> bool {
        let mut ended = false;
        for _ in 0..self.calls.len() {
            if !self.ready.is_empty() {
                break;
            }
            let at = if self.turn < self.calls.len() { self.turn } else { 0 };
            let Some(call) = self.calls.get_mut(at) else { break };
            self.turn = at + 1;
            match call.poll(cx) {
                Poll::Ready(Progress::Event(bytes)) => self.ready.push_back(bytes),
                Poll::Ready(Progress::Over(bytes)) => {
                    self.ready.extend(bytes);
                    self.calls.swap_remove(at);
                    ended = true;
                }
                Poll::Pending => {}
            }
        }
        ended
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
        loop {
            let before = self.calls.len();
            self.poll_outgoing(cx);
            let taken = self.calls.len() > before;
            // A call that ended, or was taken in, may have left room for another.
            if !self.poll_calls(cx) && !taken || !self.ready.is_empty() {
                break;
            }
        }
        if let Some(bytes) = self.ready.pop_front() {
            return Poll::Ready(Some(Ok(bytes)));
        }
        if self.calls.is_empty() && self.stopping.as_mut().poll(cx).is_ready() {
            // Said once: the client is to come back elsewhere (2026-07-28, basic/patterns/subscriptions).
            if let Kind::Listen(listen) = &self.kind
                && !std::mem::replace(&mut self.ended, true)
            {
                return Poll::Ready(Some(Ok(message(&listen.completion()))));
            }
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

impl Drop for EventBody {
    fn drop(&mut self) {
        self.app.telemetry.streams.dec();
        // A client that comes back over HTTP+SSE gets another session.
        if let Kind::Sse(stream) = &self.kind {
            // First, so that their legs are seen to be in use.
            self.calls.clear();
            self.app.commons.homes.forget(stream.id);
            if let Some(home) = &self.home {
                self.app.close_legs(&self.principal, stream.id, home);
            }
        }
    }
}
