//! Fairway in a real cluster, as its users meet it: Helm, kubectl, the Ingress and official clients.

mod bad_input;
mod definitions;
mod isolation;
mod keys;
mod policies;
mod servers;
mod support;
