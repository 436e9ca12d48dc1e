//! Measures and tests Fairway from outside, as clients and operators meet it.

pub mod bench;
pub mod clients;
pub mod cluster;
pub mod soak;

pub use clients::program;
