//! Tests of the CRDs without a cluster: the generated files, their schemas, and what they accept
//! and refuse.
// Also in the functions that tests share, which clippy does not take for tests.
#![allow(clippy::panic, clippy::unwrap_used)]

mod bounds;
mod dependencies;
mod drift;
mod manifests;
mod schema;
