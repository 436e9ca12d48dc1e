//! From resources to the table that every request is decided by.
//!
//! [`Entry::from_resource`] resolves, validates and defaults one resource; [`Snapshot::build`]
//! compiles all entries and the servers' catalogs into a routing table. Both are total: a broken
//! resource becomes a [`Diagnostic`] and blocks no other. Pure and deterministic: no I/O, no
//! clock, no randomness.

#![warn(missing_docs, clippy::expect_used, clippy::indexing_slicing)]

mod account;
mod catalog;
mod diagnostic;
mod digest;
mod entry;
mod exposed;
mod glob;
mod hex;
mod listening;
mod name;
mod ranges;
pub mod report;
mod resilience;
mod resource;
mod rights;
mod snapshot;
mod stored;
mod tenant;

pub use account::Account;
pub use catalog::{Catalog, CatalogError, DefinitionHash, Listed, Located, Prompt, Tool};
pub use diagnostic::{Diagnostic, Reason};
pub use digest::{KeyDigest, Pepper};
pub use entry::{
    Claim, Credential, Endpoint, Entry, KeyEntry, KeyValue, Minted, PolicyEntry, ServerEntry,
};
pub use listening::Listening;
pub use name::{Kind, Namespace, ResourceRef, ServerName};
pub use ranges::{Forbidden, Range, RangeError};
pub use resilience::{CircuitBreaker, Retries, Timeouts};
pub use resource::{Invalid, Place, References, Resource, Secrets, workload};
pub use rights::named_by;
pub use snapshot::{Entries, HeldKey, Principal, Refusal, Snapshot};
pub use stored::{Record, RecordError};
pub use tenant::{CompiledPrompt, CompiledTool, Scope, Server, Tenant};
