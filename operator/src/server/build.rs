//! What there should be for a server. Performs no I/O.

use crds::McpServer;
use gateway_core::{Kind, Record, ResourceRef};
use kube::ResourceExt;

use super::observe::Observed;
use super::validate::{Refusal, ValidServer};
use super::verify::Lists;
use super::workload::{Objects, objects};
use crate::conditions::Verdict;
use crate::context::{Settings, reference};
use crate::lease::Term;

#[derive(Debug)]
pub(super) struct Desired {
    pub(super) resource: ResourceRef,
    pub(super) workload: Workload,
    /// None leaves the last good one in force.
    pub(super) record: Option<Record>,
    pub(super) in_force: Option<u64>,
    pub(super) lists: Lists,
    pub(super) accepted: Verdict,
    pub(super) address: Option<String>,
}

/// What runs.
#[derive(Debug)]
pub(super) enum Workload {
    /// This.
    Run(Box<Objects>),
    /// Nothing: the server is elsewhere.
    None,
    /// Whatever runs; the resource cannot be read.
    AsItIs,
}

pub(super) fn build(
    server: &McpServer,
    valid: Result<ValidServer, Refusal>,
    observed: &Observed,
    settings: &Settings,
    term: Term,
) -> Desired {
    let resource = reference(Kind::Server, &server.metadata);
    let in_force = observed.in_force;
    match valid {
        Ok(ValidServer { entry, address, lists }) => {
            let (uid, generation) = (server.uid().unwrap_or_default(), server.metadata.generation);
            let record =
                entry.map(|entry| Record::new(uid, generation.unwrap_or_default(), term, entry));
            let workload = match &server.spec.workload {
                Some(workload) => {
                    let objects =
                        objects(server, workload, is_stateful(server, observed), settings);
                    Workload::Run(Box::new(objects))
                }
                None => Workload::None,
            };
            Desired {
                resource,
                workload,
                record,
                in_force,
                lists,
                accepted: Verdict::yes("Accepted", "the resource is valid"),
                address: Some(address),
            }
        }
        Err(refusal) => Desired {
            resource,
            workload: Workload::AsItIs,
            record: None,
            in_force,
            lists: Lists::default(),
            accepted: Verdict::no(refusal.reason(), refusal.to_string()),
            address: None,
        },
    }
}

/// Whether a client has to come back to the pod that knows it: as the resource says, or the server.
fn is_stateful(server: &McpServer, observed: &Observed) -> bool {
    match server.spec.session {
        crds::SessionMode::PerClient => true,
        crds::SessionMode::Shared => false,
        crds::SessionMode::Auto => observed
            .views
            .iter()
            .filter_map(|view| view.report.as_ref()?.about.as_ref())
            .any(|about| about.stateful),
    }
}
