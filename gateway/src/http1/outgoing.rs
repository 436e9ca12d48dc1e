//! Bytes on their way out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio_util::io::poll_write_buf;

/// Data up to here is copied behind what waits: that costs less than a second piece.
const SMALL: usize = 4 * 1024;

/// Bytes that wait to be written, all of them at once if the stream takes them.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    buffer: BytesMut,
    /// After the buffer: data that is too large to be copied, and what follows it.
    data: Bytes,
    tail: &'static [u8],
    unflushed: bool,
}

impl Outgoing {
    /// Where to put what comes next. Only while nothing waits.
    pub(crate) const fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Adds data and what follows it.
    pub(crate) fn put(&mut self, data: Bytes, tail: &'static [u8]) {
        if data.len() <= SMALL {
            self.buffer.put_slice(&data);
            self.buffer.put_slice(tail);
        } else {
            self.data = data;
            self.tail = tail;
        }
    }

    /// Whether all is written.
    pub(crate) fn is_done(&self) -> bool {
        self.waiting() == 0 && !self.unflushed
    }

    /// How many bytes wait.
    pub(crate) fn waiting(&self) -> usize {
        self.buffer.len() + self.data.len() + self.tail.len()
    }

    /// Writes all that waits.
    pub(crate) fn poll_write(
        &mut self,
        mut stream: Pin<&mut impl AsyncWrite>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_done() {
            return Poll::Ready(Ok(()));
        }
        while self.waiting() > 0 {
            let written = if self.data.is_empty() && self.tail.is_empty() {
                // One piece goes out by the cheaper of two system calls.
                let written = ready!(stream.as_mut().poll_write(cx, &self.buffer))?;
                self.buffer.advance(written);
                written
            } else {
                let rest = (&mut self.data).chain(&mut self.tail);
                let mut waiting = (&mut self.buffer).chain(rest);
                ready!(poll_write_buf(stream.as_mut(), cx, &mut waiting))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
        }
        ready!(stream.poll_flush(cx))?;
        self.unflushed = false;
        self.data = Bytes::new();
        // A connection may stay open for long, and mostly has less to say.
        if self.buffer.capacity() > 2 * SMALL {
            self.buffer = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}
