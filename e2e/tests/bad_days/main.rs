//! Bad days of Fairway in a cluster: something is killed, paused, gone or misconfigured, and traffic goes on where it can,
//! nothing that was revoked stays callable, and the state converges.
//!
//! Each test has the cluster for itself. What one leaves broken when it fails, the next installation mends.

mod apiserver;
mod gateway;
mod hands;
mod mistakes;
mod node;
mod operator;
mod support;
mod sweep;
