//! The body of a request, on its way from the connection to whoever answers.
//!
//! Mostly it has come with the head and is handed over whole. One that has not goes through a pipe
//! of one piece, which the connection fills when the next piece is asked for.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

/// The body of a request.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// `None` if it is not said.
    length: Option<u64>,
    rest: Rest,
}

#[derive(Debug)]
enum Rest {
    /// All there; `None` once it is taken.
    Whole(Option<Bytes>),
    Coming(Arc<Pipe>),
}

/// The body ended before its end, or is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the body broke off")]
pub(crate) struct BrokenOff;

/// What is between the two. Both are of one task mostly, so that nobody waits for the lock; only
/// bodies that come in pieces have one.
#[derive(Debug, Default)]
struct Pipe(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    piece: Option<Bytes>,
    end: Option<Result<(), BrokenOff>>,
    /// Waits for a piece.
    reader: Option<Waker>,
    /// Waits until one is wanted.
    feeder: Option<Waker>,
    /// The reader is gone.
    unread: bool,
}

impl Pipe {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        let mut state = self.lock();
        if let Some(piece) = state.piece.take() {
            return Poll::Ready(Some(Ok(piece)));
        }
        match state.end {
            Some(Ok(())) => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => {
                state.reader = Some(cx.waker().clone());
                wake(&mut state.feeder);
                Poll::Pending
            }
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl Incoming {
    pub(super) fn whole(body: Bytes) -> Self {
        let length = Some(body.len() as u64);
        Self { length, rest: Rest::Whole((!body.is_empty()).then_some(body)) }
    }

    /// One that has not come yet, and where to feed it.
    pub(super) fn coming(length: Option<u64>) -> (Self, Feed) {
        let pipe = Arc::<Pipe>::default();
        (Self { length, rest: Rest::Coming(pipe.clone()) }, Feed(pipe))
    }

    /// All of it, if it is there.
    pub(crate) fn take_whole(&mut self) -> Option<Bytes> {
        match &mut self.rest {
            Rest::Whole(body) => Some(body.take().unwrap_or_default()),
            Rest::Coming(_) => None,
        }
    }

    /// The next piece; `None` after the last.
    pub(crate) async fn piece(&mut self) -> Option<Result<Bytes, BrokenOff>> {
        match &mut self.rest {
            Rest::Whole(body) => body.take().map(Ok),
            Rest::Coming(pipe) => poll_fn(|cx| pipe.poll_piece(cx)).await,
        }
    }

    /// How long it is, if that is said.
    pub(crate) const fn length(&self) -> Option<u64> {
        self.length
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Rest::Coming(pipe) = &self.rest {
            let mut state = pipe.lock();
            state.unread = true;
            wake(&mut state.feeder);
        }
    }
}

/// Where a body is fed that comes in pieces. Without its end it broke off.
#[derive(Debug)]
pub(super) struct Feed(Arc<Pipe>);

/// Whether another piece is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Yes,
    /// Nobody will take it.
    Never,
}

impl Feed {
    /// Waits until another piece is wanted.
    pub(super) fn poll_wanted(&self, cx: &mut Context<'_>) -> Poll<Wanted> {
        let mut state = self.0.lock();
        if state.unread {
            return Poll::Ready(Wanted::Never);
        }
        if state.reader.is_some() && state.piece.is_none() {
            return Poll::Ready(Wanted::Yes);
        }
        state.feeder = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Hands over a piece that is wanted.
    pub(super) fn put(&self, piece: Bytes) {
        let mut state = self.0.lock();
        state.piece = Some(piece);
        wake(&mut state.reader);
    }

    /// That was all.
    pub(super) fn end(self) {
        self.finish(Ok(()));
    }

    fn finish(&self, how: Result<(), BrokenOff>) {
        let mut state = self.0.lock();
        state.end.get_or_insert(how);
        wake(&mut state.reader);
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.finish(Err(BrokenOff));
    }
}
