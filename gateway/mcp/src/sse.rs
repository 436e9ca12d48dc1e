//! Server-Sent Events, read from servers and written to clients.
//!
//! [`Decoder`] follows the WHATWG event stream format byte for byte; the functions beside it write
//! the subset of that format Fairway sends. Events above a threshold pass through in pieces, so a
//! large result is never held whole. Performs no I/O and never parses what an event carries.

mod decode;
mod encode;
#[cfg(test)]
mod tests;

pub use decode::{DecodeError, Decoder, Event, Fields, Item, STREAM_ABOVE};
pub use encode::{begin, comment, end, event, flatten, retry};
