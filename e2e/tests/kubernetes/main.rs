//! Fairway in a real cluster, as its users meet it: Helm, kubectl, the Ingress and official clients.
// Also in the functions that tests share, which clippy does not take for tests.
#![allow(clippy::panic, clippy::unwrap_used)]

mod bad_input;
mod definitions;
mod isolation;
mod keyring;
mod keys;
mod network;
mod policies;
mod resilience;
mod rights;
mod servers;
mod support;
mod upgrade;
