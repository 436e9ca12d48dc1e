//! The Model Context Protocol as it stands on the wire.
//!
//! Messages are borrowed from the bytes they came in and changed by splicing, so that unknown
//! fields, key order and the digits of numbers pass through untouched. Performs no I/O and knows
//! nothing of Fairway.

#![warn(missing_docs)]

pub mod bridge;
pub mod era;
pub mod error;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod header;
pub mod input;
pub mod json;
pub mod lifecycle;
pub mod list;
pub mod logging;
pub mod members;
pub mod message;
pub mod modern;
pub mod object;
pub mod resource;
pub mod result;
pub mod scan;
pub mod splice;
pub mod sse;
pub mod subscription;
pub mod task;
pub mod tool;
pub mod uri;
pub mod version;

pub use era::Era;
pub use json::Json;
pub use message::{Id, Message, ParseError};
pub use version::ProtocolVersion;
