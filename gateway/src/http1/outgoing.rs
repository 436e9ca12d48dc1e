//! Bytes on their way out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tokio_util::io::poll_write_buf;

/// Data up to here is copied behind what waits: that costs less than a second piece.
const SMALL: usize = 4 * 1024;

/// More is added while no more than this waits.
const MUCH: usize = 16 * 1024;

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
    /// Where to put what comes next. Only while there is room.
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

    /// A piece of a body whose length is not told before.
    pub(crate) fn put_chunk(&mut self, data: Bytes) {
        // An empty one would be the end of the body.
        if !data.is_empty() {
            put_size(data.len(), &mut self.buffer);
            self.put(data, b"\r\n");
        }
    }

    /// Whether more can be added to what waits.
    pub(crate) fn has_room(&self) -> bool {
        self.data.is_empty() && self.tail.is_empty() && self.buffer.len() < MUCH
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
        if self.buffer.try_reclaim(2 * SMALL + 1) {
            self.buffer = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

/// The line before a chunk.
fn put_size(size: usize, out: &mut BytesMut) {
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4);
    for digit in (0..digits).rev() {
        let value = u8::try_from((size >> (4 * digit)) & 0xf).unwrap_or_default();
        out.put_u8(if value < 10 { b'0' + value } else { b'a' + value - 10 });
    }
    out.put_slice(b"\r\n");
}
