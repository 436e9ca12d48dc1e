//! What tests share: an apiserver in memory, resources of ours, and a replica that looks at both.

pub(crate) mod api;
pub(crate) mod bench;
pub(crate) mod gateway;
pub(crate) mod resources;

pub(crate) use api::{Api, Failure};
pub(crate) use bench::Bench;
pub(crate) use gateway::Gateway;
