//! Measures and tests Fairway from outside, as clients and operators meet it.

pub mod bench;
pub mod clients;

pub use clients::program;
