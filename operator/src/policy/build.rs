//! What there should be for a policy. Performs no I/O.

use crds::McpPolicy;
use gateway_core::{Entry, Invalid, Record, ResourceRef};

use super::observe::Observed;
use crate::conditions::Verdict;
use crate::context::reference;
use crate::lease::Term;

#[derive(Debug)]
pub(super) struct Desired {
    pub(super) resource: ResourceRef,
    /// None leaves the last good one in force.
    pub(super) record: Option<Record>,
    pub(super) in_force: Option<u64>,
    pub(super) accepted: Verdict,
}

pub(super) fn build(
    policy: &McpPolicy,
    valid: Result<Entry, Invalid>,
    observed: &Observed,
    term: Term,
) -> Desired {
    let metadata = &policy.metadata;
    let (record, accepted) = match valid {
        Ok(entry) => {
            let uid = metadata.uid.clone().unwrap_or_default();
            let record = Record::new(uid, metadata.generation.unwrap_or_default(), term, entry);
            (Some(record), Verdict::yes("Accepted", "the policy is valid"))
        }
        Err(invalid) => {
            let in_force = observed.in_force.is_some();
            (None, Verdict::refused("Invalid", &invalid.to_string(), in_force))
        }
    };
    Desired {
        resource: reference(gateway_core::Kind::Policy, metadata),
        record,
        in_force: observed.in_force,
        accepted,
    }
}
