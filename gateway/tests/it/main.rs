//! A real gateway on a free port, real servers and raw HTTP clients, in one process.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, unreachable_pub)]
// `json!({})` reads better than `&json!({})`.
#![allow(clippy::needless_pass_by_value)]

mod support;

mod admin;
mod auth;
mod beginnings;
mod breaker;
mod bridge;
mod cluster;
mod credentials;
mod egress;
mod fairness;
mod features;
mod fleet;
mod fleet_bad_days;
mod fleet_latecomers;
mod fleet_streams;
mod gate;
mod headers;
mod input;
mod large;
mod large_questions;
mod legacy_servers;
mod legs;
mod lists;
mod misbehaving_clients;
mod misbehaving_servers;
mod modern;
mod operations;
mod outages;
mod protocol;
mod relist;
mod reload;
mod resurrection;
mod room;
mod scale;
mod sessions;
mod subscriptions;
mod tasks;
mod timeouts;
mod transports;
