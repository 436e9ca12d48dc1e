//! The status of a key, and when to look at it again.

use std::time::Duration;

use crds::{McpApiKey, McpApiKeyStatus};
use gateway_core::report::Conflict;
use gateway_core::{KeyEntry, Minted};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Api, ResourceExt};

use super::apply::Applied;
use crate::conditions::{ACCEPTED, Holds, PROGRAMMED, READY, Verdict, conditions, ready};
use crate::context::{Context, resync_before};
use crate::control::Action;
use crate::objects::{Error, write_status};

pub(super) async fn update(
    ctx: &Context,
    key: &McpApiKey,
    applied: Applied,
) -> Result<Action, Error> {
    if let Some(wait) = ctx.settle(&applied.resource) {
        return Ok(Action::requeue(wait));
    }
    let before = key.status.clone().unwrap_or_default();
    let namespace = key.namespace().unwrap_or_default();
    let facts = Facts {
        programmed: ctx.programmed(&applied.resource, applied.version, &applied.accepted),
        conflict: ctx.gateways.conflicts(&applied.resource).into_iter().next(),
        used: ctx.gateways.last_used(&namespace, &key.name_any()),
    };
    let status = status(key, &applied, facts, &before);
    let api = Api::<McpApiKey>::namespaced(ctx.client.clone(), &namespace);
    let (body, was) = (serde_json::to_value(&status)?, serde_json::to_value(&before)?);
    ctx.term()?;
    if write_status(&api, &key.name_any(), body, &was).await? {
        ctx.tell(key, &before.conditions, &status.conditions).await;
    }
    let next = next_look(key, &applied);
    applied.refused.map_or_else(|| Ok(resync_before(next)), Err)
}

/// What the gateways say of a key.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) programmed: Verdict,
    pub(super) conflict: Option<Conflict>,
    pub(super) used: Option<Timestamp>,
}

/// When time alone changes something: a rotation, the end of an overlap or of the key.
pub(super) fn next_look(key: &McpApiKey, applied: &Applied) -> Option<Duration> {
    let overlaps = applied.entry.iter().flat_map(|entry| &entry.values);
    let ends = overlaps.filter_map(|value| value.not_after);
    let moments = ends
        .chain(key.spec.expires_at.as_ref().map(|time| time.0))
        .chain(applied.next_rotation)
        .filter(|moment| applied.now < *moment);
    let wait = Duration::try_from(moments.min()?.duration_since(applied.now)).ok()?;
    // Not a moment early.
    Some(wait + Duration::from_millis(10))
}

pub(super) fn status(
    key: &McpApiKey,
    applied: &Applied,
    Facts { programmed, conflict, used }: Facts,
    before: &McpApiKeyStatus,
) -> McpApiKeyStatus {
    let mut verdicts = vec![(ACCEPTED, applied.accepted.clone()), (PROGRAMMED, programmed)];
    let ends = key.spec.expires_at.as_ref().map(|time| time.0);
    let (phase, ready) = if ends.is_some_and(|end| end <= applied.now) {
        ("Expired", Verdict::no("Expired", "the key has expired; set a later spec.expiresAt"))
    } else if key.spec.disabled {
        ("Disabled", Verdict::no("Disabled", "the key is disabled; set spec.disabled to false"))
    } else if let Some(conflict) = conflict {
        ("Invalid", Verdict::no("KeyConflict", conflict.message))
    } else {
        let ready = ready(&verdicts, "clients can call with the key");
        let phase = match (applied.accepted.holds, ready.holds) {
            (Holds::Yes, Holds::Yes) => "Active",
            (Holds::Yes, _) => "Pending",
            _ => "Invalid",
        };
        (phase, ready)
    };
    verdicts.push((READY, ready));
    let generation = key.metadata.generation;
    let minted = applied.entry.as_deref().and_then(newest);
    // Uses are told to the minute; one before the key was made is of another of its name.
    let made = key.metadata.creation_timestamp.as_ref().map(|made| made.0 - MINUTE);
    let used = used.filter(|used| made.is_none_or(|made| made < *used));
    let used = used.max(before.last_used.as_ref().map(|time| time.0));
    McpApiKeyStatus {
        conditions: conditions(verdicts, &before.conditions, generation, applied.now),
        observed_generation: generation,
        phase: Some(phase.to_owned()),
        prefix: match &applied.entry {
            Some(_) => minted.map(|minted| minted.prefix.clone()),
            None => before.prefix.clone(),
        },
        issued_at: match &applied.entry {
            Some(_) => minted.map(|minted| Time(minted.at)),
            None => before.issued_at.clone(),
        },
        expires_at: key.spec.expires_at.clone(),
        next_rotation: applied.next_rotation.map(Time),
        last_used: used.map(Time),
    }
}

const MINUTE: SignedDuration = SignedDuration::from_secs(60);

fn newest(entry: &KeyEntry) -> Option<&Minted> {
    entry.values.first()?.minted.as_ref()
}
