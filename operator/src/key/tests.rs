//! Keys: what is made and when, and reconciles against an apiserver in memory.

mod reconcile;
mod rotation;
mod status;
