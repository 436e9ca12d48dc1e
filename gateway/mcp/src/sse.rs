//! Server-Sent Events, read from servers and written to clients.
//!
//! [`Decoder`] follows the WHATWG event stream format; the functions beside it write the plainest form
//! of it. Events above a threshold pass through in pieces, so a large result is never held whole.
//! Performs no I/O and never parses what an event carries.

mod decode;
mod encode;
mod item;
mod line;
#[cfg(test)]
mod tests;

pub use decode::{Decoder, STREAM_ABOVE};
pub use encode::{begin, comment, end, event, flatten, retry};
pub use item::{DecodeError, Event, Fields, Item};
