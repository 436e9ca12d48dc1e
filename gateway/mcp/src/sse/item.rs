//! What the decoder hands out, and why it stops.

use bytes::Bytes;
use thiserror::Error;

/// What [`Decoder::next`](super::Decoder::next) hands out.
///
/// An event with at most the threshold's bytes of data is one [`Item::Event`]. A larger one is a
/// [`DataStart`](Self::DataStart), one or more [`DataChunk`](Self::DataChunk)s and a
/// [`DataEnd`](Self::DataEnd), with nothing else between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A whole event.
    Event(Event),
    /// A large event begins. Carries the fields seen so far; servers write `event` and `id` before
    /// the data.
    DataStart(Fields),
    /// The next bytes of a large event's data. Never empty.
    DataChunk(Bytes),
    /// The large event is complete. Carries all its fields.
    DataEnd(Fields),
}

/// A whole event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The `event` field; `None` when it is missing or empty, which means `message`.
    pub event: Option<Bytes>,
    /// The `data` lines joined by LF. Empty for priming events.
    pub data: Bytes,
    /// The `id` field of this event; empty means "forget the last id".
    pub id: Option<Bytes>,
    /// The `retry` field in milliseconds.
    pub retry: Option<u64>,
    /// Whether there was a `data` line, even an empty one. Without one a browser would not dispatch
    /// the event: it is handed out for its `id` or `retry` alone.
    pub dispatched: bool,
}

/// The fields of an event other than its data, as in [`Event`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    /// The `event` field; `None` when it is missing or empty, which means `message`.
    pub event: Option<Bytes>,
    /// The `id` field of this event; empty means "forget the last id".
    pub id: Option<Bytes>,
    /// The `retry` field in milliseconds.
    pub retry: Option<u64>,
}

/// Why a stream can't be read further.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// One event, its data and field names together, passed the limit of [`Decoder::new`](super::Decoder::new).
    #[error("event is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
    },
    /// The value of an `event`, `id` or `retry` field passed the limit for short fields.
    #[error("field `{field}` of an event is longer than {limit} bytes")]
    FieldTooLong {
        /// The field's name.
        field: &'static str,
        /// The limit in bytes.
        limit: usize,
    },
}
