//! Why the scanner refuses a message.

use thiserror::Error;

use super::MAX_ID;

/// Why a message can't be passed on.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScanError {
    /// The message is something else than an object, such as a batch.
    #[error("message is {0}, not an object")]
    NotAnObject(&'static str),
    /// A byte that can't stand there.
    #[error("unexpected byte 0x{byte:02x} at offset {offset} of the message")]
    Unexpected {
        /// The byte.
        byte: u8,
        /// Its offset in bytes from the start of the message.
        offset: u64,
    },
    /// Objects and arrays are nested too deeply.
    #[error("message is nested more than {limit} levels deep")]
    TooDeep {
        /// The limit, the message's own braces included.
        limit: u16,
    },
    /// A key of the top level is not a JSON string.
    #[error("a top-level key is malformed")]
    MalformedKey,
    /// One of the keys that JSON-RPC defines is there twice.
    #[error("top-level `{0}` appears twice")]
    Duplicate(&'static str),
    /// The message has keys of a response and keys of a call.
    #[error("message is a response and a call at once")]
    Ambiguous,
    /// The `id` is neither a string nor a number.
    #[error("id is neither a string nor a number")]
    InvalidId,
    /// The `id` is longer than [`MAX_ID`].
    #[error("id is longer than {MAX_ID} bytes")]
    LongId,
    /// The message ended before its closing brace.
    #[error("message is incomplete")]
    Incomplete,
}
