//! The Fairway gateway: MCP clients on one side, MCP servers on the other, and between them a
//! routing table that changes while sessions go on.
//!
//! A request meets, in this order, `listener`, `authn`, `downstream`, `session`, the view
//! and decision of `gateway_core`, `call` and `upstream`. Beside the path are `source`,
//! `table` and `telemetry`; `app` wires them.

mod app;
mod authn;
mod call;
mod downstream;
mod inflight;
mod listener;
mod session;
mod source;
mod state;
mod table;
mod telemetry;
mod upstream;
mod watchdog;
mod worker;

pub use app::{Gateway, Options, Source, StartError};
pub use state::StateError;
