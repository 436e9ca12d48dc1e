//! Tests of the CRDs without a cluster: the generated files, their schemas, and what they accept
//! and refuse.

mod bounds;
mod dependencies;
mod drift;
mod manifests;
mod schema;
