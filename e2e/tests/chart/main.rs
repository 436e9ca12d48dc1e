//! The Helm chart without a cluster: what it refuses, and that what it renders is what was agreed on.
// Also in the functions that tests share, which clippy does not take for tests.
#![allow(clippy::panic, clippy::unwrap_used)]

mod demo;
mod edge;
mod files;
mod helm;
mod labels;
mod network;
mod pods;
mod rbac;
mod restricted;
mod values;
