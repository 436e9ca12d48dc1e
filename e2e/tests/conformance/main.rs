//! The official conformance suite: against our server of fixtures, and against the gateway in front of it.
//!
//! Wherever a check cannot hold, the test says which and which clause of the specification is the reason.

#![allow(clippy::panic, clippy::unwrap_used)]

mod crosswise;
mod direct;
mod gateway;
mod support;
mod upstream;
