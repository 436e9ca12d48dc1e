//! Measures and tests Fairway from outside, as clients and operators meet it.

pub mod bench;
pub mod clients;
pub mod cluster;
pub mod soak;
mod span;

pub use clients::program;
pub use span::Span;
