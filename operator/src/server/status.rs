//! The status of a server.

use std::time::Duration;

use crds::{McpServer, McpServerStatus, ProtocolStatus, ToolsStatus};
use gateway_core::report::ServerState;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Api, ResourceExt};

use super::apply::Applied;
use super::observe::{Observed, agreed};
use super::verify::{ACCEPT, unaccepted};
use crate::conditions::{
    ACCEPTED, AVAILABLE, CIRCUIT_OPEN, Holds, PROGRAMMED, READY, VERIFIED, Verdict, conditions,
    ready,
};
use crate::context::{Context, resync};
use crate::control::Action;
use crate::objects::{Error, write_status};

/// Reason of a condition: the definitions of tools are others than they were.
const CHANGED: &str = "ToolsChanged";
/// Before a list that could not be fetched is fetched again.
const FETCH: Duration = Duration::from_secs(2);

pub(super) async fn update(
    ctx: &Context,
    server: &McpServer,
    observed: &Observed,
    applied: Applied,
) -> Result<Action, Error> {
    if let Some(change) = &applied.change {
        let note = format!("the server changed the definitions of its tools: {change}");
        ctx.publish(server, false, "ToolsChanged", &note).await;
    }
    if let Some(wait) = ctx.settle(&applied.resource) {
        return Ok(Action::requeue(wait));
    }
    let before = server.status.clone().unwrap_or_default();
    let programmed = ctx.programmed(&applied.resource, applied.version, &applied.accepted);
    let conflicts = ctx.gateways.conflicts(&applied.resource);
    let conflicts: Vec<String> = conflicts.into_iter().map(|conflict| conflict.message).collect();
    let verified = verified(server, observed, &applied, &conflicts);
    let status = status(server, observed, &applied, [programmed, verified], &before);
    let api =
        Api::<McpServer>::namespaced(ctx.client.clone(), &server.namespace().unwrap_or_default());
    let (body, was) = (serde_json::to_value(&status)?, serde_json::to_value(&before)?);
    ctx.term()?;
    if write_status(&api, &server.name_any(), body, &was).await? {
        ctx.tell(server, &before.conditions, &status.conditions).await;
    }
    match applied.refused {
        Some(refused) => Err(refused),
        // A list that could not be fetched: nobody tells when it can be.
        None if is_behind(observed, &applied) => Ok(Action::requeue(FETCH)),
        None => Ok(resync()),
    }
}

/// Whether the list that is kept is not the one that the gateways have.
fn is_behind(observed: &Observed, applied: &Applied) -> bool {
    let kept = applied.verified.as_ref().map(|verified| verified.hash);
    !applied.too_large && agreed(&observed.views).is_some_and(|hash| kept != Some(hash))
}

pub(super) fn status(
    server: &McpServer,
    observed: &Observed,
    applied: &Applied,
    [programmed, verified]: [Verdict; 2],
    before: &McpServerStatus,
) -> McpServerStatus {
    let now = Timestamp::now();
    let verified = as_it_was(verified, applied, before);
    let is_verified = verified.holds == Holds::Yes;
    let mut verdicts = vec![
        (ACCEPTED, applied.accepted.clone()),
        (AVAILABLE, available(server, observed)),
        (PROGRAMMED, programmed),
        (VERIFIED, verified),
    ];
    let ready = ready(&verdicts, "its tools can be called");
    verdicts.push((READY, called(observed, ready)));
    let generation = server.metadata.generation;
    let reports = || observed.views.iter().filter_map(|view| view.report.as_ref());
    let about = reports().find_map(|report| report.about.as_ref());
    let tools = applied.verified.as_ref().map(|verified| ToolsStatus {
        count: i32::try_from(verified.tools.len()).unwrap_or(i32::MAX),
        hash: verified.hash.to_string(),
    });
    // Both are of the moment of verification; else they would change all the time.
    let same = before.tools == tools && before.last_verified.is_some();
    let latency = reports().filter_map(|report| Some(report.tools.as_ref()?.latency_millis)).max();
    let fresh = is_verified && !same;
    McpServerStatus {
        conditions: conditions(verdicts, &before.conditions, generation, now),
        observed_generation: generation,
        address: applied.address.clone().or_else(|| before.address.clone()),
        protocol: about
            .map(|about| ProtocolStatus {
                version: about.version.clone(),
                transport: about.transport.clone(),
                server_name: about.server_name.clone(),
                server_version: about.server_version.clone(),
            })
            .or_else(|| before.protocol.clone()),
        tools,
        last_verified: if fresh { Some(Time(now)) } else { before.last_verified.clone() },
        latency: if fresh {
            latency.map(|millis| format!("{millis}ms"))
        } else {
            before.latency.clone()
        },
    }
}

/// Whether calls are passed on to a server with which everything else is well. The first gateway that
/// passes none on stands for all, so that the words stay while others join it.
fn called(observed: &Observed, ready: Verdict) -> Verdict {
    let tripped = observed.views.iter().find_map(|view| {
        let why = view.report.as_ref()?.breaker.as_ref()?;
        Some(format!("{} does not pass calls on to it for now, because {why}", view.pod))
    });
    match tripped {
        Some(message) if ready.holds == Holds::Yes => Verdict::no(CIRCUIT_OPEN, message),
        _ => ready,
    }
}

/// That the definitions changed stays to be read until the next list.
fn as_it_was(verified: Verdict, applied: &Applied, before: &McpServerStatus) -> Verdict {
    let hash = applied.verified.as_ref().map(|verified| verified.hash.to_string());
    let same = hash.is_some() && hash.as_ref() == before.tools.as_ref().map(|tools| &tools.hash);
    let told = before.conditions.iter().find(|condition| {
        condition.type_ == VERIFIED && condition.status == "True" && condition.reason == CHANGED
    });
    match told {
        Some(told) if same && verified.reason == VERIFIED => {
            Verdict::yes(CHANGED, told.message.clone())
        }
        _ => verified,
    }
}

/// Whether its pods run.
pub(super) fn available(server: &McpServer, observed: &Observed) -> Verdict {
    let Some(workload) = &server.spec.workload else {
        return Verdict::yes("External", "the operator does not run this server");
    };
    if workload.replicas == 0 {
        return Verdict::no("ScaledToZero", "spec.workload.replicas is 0");
    }
    // Of all versions: while one replaces another the server can be called.
    let running = |deployment: &Deployment| deployment.status.as_ref()?.available_replicas;
    let count = observed.live.deployment.as_deref().and_then(running).unwrap_or_default();
    let trouble = observed.live.pods.iter().find_map(|pod| trouble(pod));
    let are = match count {
        0 => String::new(),
        1 => "1 pod is available".to_owned(),
        many => format!("{many} pods are available"),
    };
    match (count, trouble) {
        (0, None) => Verdict::no("Starting", "no pod is available yet"),
        (0, Some((reason, message))) => Verdict::no(reason, message),
        (_, None) => Verdict::yes(AVAILABLE, are),
        (_, Some((_, message))) => {
            Verdict::yes("Degraded", format!("{are}, but another does not start: {message}"))
        }
    }
}

/// Why a pod does not start. One that is to end need not.
fn trouble(pod: &Pod) -> Option<(&'static str, String)> {
    let status = pod.status.as_ref().filter(|_| pod.metadata.deletion_timestamp.is_none())?;
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .map(|condition| ("Unschedulable", condition.message.clone().unwrap_or_default()));
    let containers = status.container_statuses.iter().flatten();
    containers.filter_map(|container| stuck(pod, container)).next().or(unscheduled)
}

/// Why a container does not start.
fn stuck(pod: &Pod, container: &ContainerStatus) -> Option<(&'static str, String)> {
    let state = container.state.as_ref()?;
    let waiting = state.waiting.clone().unwrap_or_default();
    let said = waiting.message.unwrap_or_default();
    let image = &container.image;
    // Between two attempts it waits, runs or has ended: that is one trouble, not three.
    let ended = state.terminated.is_some()
        || container.last_state.as_ref().is_some_and(|last| last.terminated.is_some());
    let crashes = container.restart_count > 1 && !container.ready && ended;
    match waiting.reason.as_deref() {
        Some("ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName") => {
            Some(("ImageNotPulled", format!("the image {image} cannot be pulled: {said}")))
        }
        Some("CreateContainerConfigError" | "CreateContainerError" | "RunContainerError") => {
            Some(("ContainerNotStarted", said))
        }
        reason if crashes || reason == Some("CrashLoopBackOff") => {
            let pod = pod.name_any();
            let message =
                format!("the container ends soon after it starts; see kubectl logs {pod}");
            Some(("CrashLoop", message))
        }
        _ => None,
    }
}

/// Whether every ready gateway listed the same tools.
pub(super) fn verified(
    server: &McpServer,
    observed: &Observed,
    applied: &Applied,
    conflicts: &[String],
) -> Verdict {
    let views = &observed.views;
    if views.is_empty() {
        return Verdict::unknown("NoGateway", "no gateway is ready that could list its tools");
    }
    for view in views {
        let pod = &view.pod;
        match view.report.as_ref().map(|report| &report.state) {
            Some(ServerState::Connected) => {}
            Some(ServerState::Unreachable(reason)) => {
                return Verdict::no("Unreachable", format!("{pod} cannot reach it: {reason}"));
            }
            Some(ServerState::Connecting) | None => {
                return Verdict::no("Pending", format!("{pod} has not listed its tools yet"));
            }
        }
    }
    if agreed(views).is_none() {
        let hash = |view: &crate::gateways::View| {
            let tools = view.report.as_ref().and_then(|report| report.tools.as_ref());
            let hash = tools.map_or_else(|| "none".to_owned(), |tools| tools.hash.to_string());
            format!("{} has {hash}", view.pod)
        };
        let all: Vec<String> = views.iter().map(hash).collect();
        let message = format!("gateways see different lists of tools: {}", all.join(", "));
        return Verdict::no("GatewaysDisagree", message);
    }
    if applied.too_large {
        let message = "it lists more tools than can be kept; allow fewer of them at the server";
        return Verdict::no("ListTooLarge", message);
    }
    let Some(verified) = applied.verified.as_ref().filter(|_| !is_behind(observed, applied)) else {
        return Verdict::no("Pending", "its list of tools is being looked at");
    };
    if let Some(difference) = unaccepted(server, verified) {
        let message = format!(
            "tools are hidden because their definitions changed ({difference}); to accept them: \
             kubectl annotate mcpserver {} {ACCEPT}={} --overwrite",
            server.name_any(),
            verified.hash,
        );
        return Verdict::no(CHANGED, message);
    }
    let count = verified.tools.len();
    let are = if count == 1 {
        "1 tool is listed".to_owned()
    } else {
        format!("{count} tools are listed")
    };
    if !conflicts.is_empty() {
        return Verdict::yes("NameConflict", conflicts.join("; "));
    }
    match &applied.change {
        Some(change) => {
            Verdict::yes(CHANGED, format!("{are}; their definitions changed: {change}"))
        }
        None => Verdict::yes(VERIFIED, are),
    }
}
