//! The Fairway operator: runs what McpServers describe, mints keys, and writes one entry for each
//! resource, from which the gateways make their table.
//!
//! A reconcile is five verbs, one file each: observe (I/O), validate (pure), build (pure), apply
//! (I/O) and status (I/O).

mod admin;
mod app;
mod bell;
mod compare;
mod conditions;
mod context;
mod control;
mod entries;
mod gateways;
mod key;
mod keyring;
mod lease;
mod merge;
mod objects;
mod owner;
mod pace;
mod policy;
mod queue;
mod ranges;
mod server;
mod sweep;
mod telemetry;
mod term;
#[cfg(test)]
mod testing;
mod unreadable;
mod world;

pub use app::{Operator, Options, StartError};
pub use keyring::KeyringError;
