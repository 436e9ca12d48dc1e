//! Tests of the whole crate from outside: manifests in, decisions out.
// Also in the functions that tests share, which clippy does not take for tests.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod bounds;
mod cel;
mod evolution;
mod exposed;
mod fixture;
mod keys;
mod manifests;
mod names;
mod pins;
mod place;
mod prompts;
mod rebuild;
mod refusals;
mod rights;
mod rotation;
mod stored;
mod universe;
mod uris;
mod workload;
