//! The Fairway API: [`McpServer`], [`McpApiKey`] and [`McpPolicy`] of the group `fairway.dev`,
//! version `v1alpha1`.
//!
//! The doc comments of the fields become the descriptions in the CRDs, so they are written for the
//! people who write manifests. `cargo run -p crds --bin crdgen` writes the CRDs to
//! `crds/generated`.
//!
//! Types and their schemas only: performs no I/O, and pulls in neither a Kubernetes client nor an
//! async runtime.
#![warn(missing_docs)]
// KubeSchema copies every struct into a function body, where its `pub` reaches nobody.
#![allow(unreachable_pub)]
// Printer columns repeat their keys; clippy takes them for attributes given twice.
#![allow(clippy::duplicated_attributes)]

pub mod generate;

mod api_key;
mod policy;
mod secret;
mod selector;
mod server;

pub use api_key::{Access, KeySource, McpApiKey, McpApiKeySpec, McpApiKeyStatus, Rotation};
pub use policy::{AppliesTo, Effect, McpPolicy, McpPolicySpec, McpPolicyStatus, Rule, Subject};
pub use secret::SecretKeyRef;
pub use server::resilience::{CircuitBreaker, Retries, Timeouts};
pub use server::status::{McpServerStatus, ProtocolStatus, ToolsStatus};
pub use server::workload::{
    ImagePullPolicy, ServiceRef, Volume, Workload, WorkloadSecurityContext,
};
pub use server::{
    Credentials, McpServer, McpServerSpec, SessionMode, Tls, ToolChanges, ToolOverride, Tools,
    Transport,
};
