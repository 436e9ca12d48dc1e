//! HTTP/1.1 on the wire.
//!
//! Stricter than RFC 9112 where leniency lets two readers see two messages in the same bytes: a line
//! ends with CR LF, a length is digits, `chunked` stands alone, and no message has both.

mod body;
mod date;
mod framing;
mod head;
mod incoming;
mod inlet;
mod outgoing;
pub(crate) mod server;
#[cfg(test)]
mod tests;

pub(crate) use body::{Decoder, Part};
pub(crate) use framing::Framing;
pub(crate) use head::{Lines, MAX_HEADERS, RequestHead, ResponseHead, put_line, request, response};
pub(crate) use incoming::{BrokenOff, Incoming};
pub(crate) use inlet::Inlet;
pub(crate) use outgoing::Outgoing;

/// Bytes that are not HTTP as it is taken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("a line that does not end with CR LF")]
    Line,
    #[error("a head that is not HTTP/1")]
    Head,
    #[error("a head larger than the limit")]
    LargeHead,
    #[error("a target that is no URL's")]
    Target,
    #[error("no host, or more than one")]
    Host,
    #[error("more than one length, or one that is no number")]
    Length,
    #[error("a transfer encoding other than chunked")]
    Encoding,
    #[error("a chunk without a proper size or end")]
    Chunk,
    #[error("trailers larger than the limit, or none")]
    Trailers,
}
