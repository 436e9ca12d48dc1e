//! A call on a stream that it shares with others: a large answer is collected until it is whole, so
//! that nobody waits for its server.

use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use mcp::error::{OVERLOADED, error_response};
use mcp::sse;

use super::answer::message;
use crate::call::{Call, Event};

/// Largest answer on a stream of HTTP+SSE, where it has to be held.
const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// A call and what has come of its answer.
#[derive(Debug)]
pub(super) struct Spooled {
    call: Box<Call>,
    /// Bytes of the client's request and of what has come of its answer.
    held: usize,
    chunks: Vec<Bytes>,
}

/// What comes of polling a call.
pub(super) enum Progress {
    /// Something to write; the call goes on.
    Event(Bytes),
    /// The call is over; something to write, if there is.
    Over(Option<Bytes>),
}

impl Spooled {
    pub(super) const fn new(call: Box<Call>, request: usize) -> Self {
        Self { call, held: request, chunks: Vec::new() }
    }

    /// Memory that the call holds.
    pub(super) const fn held(&self) -> usize {
        self.held
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Progress> {
        loop {
            return Poll::Ready(match ready!(self.call.poll_event(cx)) {
                // Only a modern client is asked so.
                Event::Late | Event::Input => continue,
                Event::Chunk(chunk) => {
                    self.held += chunk.len();
                    if self.held > MAX_ANSWER {
                        Progress::Over(Some(message(&self.too_large())))
                    } else {
                        self.chunks.push(chunk);
                        continue;
                    }
                }
                Event::Notification(bytes) => Progress::Event(message(&bytes)),
                Event::Answer(bytes) | Event::Broken(bytes) => {
                    Progress::Over(Some(message(&bytes)))
                }
                Event::End => Progress::Over(Some(self.whole())),
                Event::Cancelled(_) => Progress::Over(None),
            });
        }
    }

    fn whole(&mut self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.held + 32);
        sse::begin(Some("message"), None, &mut out);
        for chunk in self.chunks.drain(..) {
            out.extend_from_slice(&sse::flatten(chunk));
        }
        sse::end(&mut out);
        out.freeze()
    }

    fn too_large(&self) -> Bytes {
        let text = format!(
            "the answer is larger than the limit of {} MiB on this transport; ask for less at a \
             time, or connect to /mcp",
            MAX_ANSWER >> 20
        );
        error_response(self.call.client_id(), OVERLOADED, &text)
    }
}
