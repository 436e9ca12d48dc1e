//! What there should be for a server. Performs no I/O.

use crds::McpServer;
use gateway_core::{Kind, Record, ResourceRef};
use kube::ResourceExt;

use super::observe::Observed;
use super::validate::{Refusal, ValidServer, denied, is_stateful};
use super::verify::Lists;
use super::workload::{Objects, objects};
use crate::conditions::Verdict;
use crate::context::{Settings, reference};
use crate::lease::Term;

#[derive(Debug)]
pub(super) struct Desired {
    pub(super) resource: ResourceRef,
    pub(super) workload: Workload,
    pub(super) table: Table,
    pub(super) in_force: Option<u64>,
    pub(super) lists: Lists,
    pub(super) accepted: Verdict,
    pub(super) address: Option<String>,
}

/// What gateways are told.
#[derive(Debug)]
pub(super) enum Table {
    /// This.
    Serve(Box<Record>),
    /// What they know already, if anything.
    AsItIs,
    /// Nothing: where the last good version leads is somebody else's by now, or may be soon.
    Withdraw,
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
    let serve = |entry| {
        let (uid, generation) = (server.uid().unwrap_or_default(), server.metadata.generation);
        Table::Serve(Box::new(Record::new(uid, generation.unwrap_or_default(), term, entry)))
    };
    let last = || if observed.leads_home { Table::AsItIs } else { Table::Withdraw };
    match valid {
        Ok(ValidServer { entry, address, lists }) => {
            let table = entry.map_or_else(last, serve);
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
                table,
                in_force,
                lists,
                accepted: Verdict::yes("Accepted", "the resource is valid"),
                address: Some(address),
            }
        }
        Err(refusal) => {
            let stays = in_force.is_some() && observed.leads_home;
            let denied = denied(server, observed.record.as_deref().filter(|_| stays));
            Desired {
                resource,
                workload: Workload::AsItIs,
                table: denied.map_or_else(last, serve),
                in_force,
                lists: Lists::default(),
                accepted: Verdict::refused(refusal.reason(), &refusal.to_string(), stays),
                address: None,
            }
        }
    }
}
