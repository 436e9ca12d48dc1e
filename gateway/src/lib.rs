//! The Fairway gateway: MCP clients on one side, MCP servers on the other, and between them a
//! routing table that changes while sessions go on.
//!
//! A request meets, in this order, `listener`, `authn`, `downstream`, `session`, the view
//! and decision of `gateway_core`, `call` and `upstream`. What changes about a session is kept in
//! `home`, what a call waits for in `parked`;
//! `peer` leads to other gateways. Beside the path are `source`, `publisher`, `table`,
//! `report`, `admin` and `telemetry`; `app` wires them.

mod admin;
mod app;
mod authn;
mod call;
mod client;
mod config;
mod downstream;
mod followed;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod home;
mod http1;
mod inflight;
mod listener;
mod parked;
mod peer;
mod publisher;
mod report;
mod room;
mod session;
mod source;
mod state;
mod table;
mod task;
mod telemetry;
mod upstream;
mod watchdog;
mod watches;
mod worker;
mod yaml;

pub use app::{Gateway, Options, Peers, Pod, Source, StartError};
pub use config::ConfigError;
pub use source::cluster::{Cluster, ClusterError};
pub use state::StateError;
