//! Bytes on their way in.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

/// How much is read at a time, at first and at most.
const LEAST: usize = 8 * 1024;
const MOST: usize = 64 * 1024;

/// Bytes that were read and not taken yet.
#[derive(Debug)]
pub(crate) struct Inlet {
    pub(crate) bytes: BytesMut,
    /// How much is read the next time.
    next: usize,
}

impl Inlet {
    pub(crate) fn new() -> Self {
        Self { bytes: BytesMut::new(), next: LEAST }
    }

    /// Reads what there is. 0 is the end.
    pub(crate) fn poll_fill(
        &mut self,
        stream: Pin<&mut impl AsyncRead>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.bytes.reserve(self.next);
        let read = ready!(poll_read_buf(stream, cx, &mut self.bytes))?;
        // What fills the buffer is large: fewer reads will do.
        if read >= self.next {
            self.next = (2 * self.next).min(MOST);
        }
        Poll::Ready(Ok(read))
    }

    /// Gives memory back that only a large message needed.
    pub(crate) fn settle(&mut self) {
        if self.next > LEAST {
            self.release();
        }
    }

    /// Gives all memory back while nothing is in it.
    pub(crate) fn release(&mut self) {
        if self.bytes.is_empty() {
            *self = Self::new();
        }
    }
}
