//! The status of a server.

use crds::{McpServer, McpServerStatus, ProtocolStatus, ToolsStatus};
use gateway_core::report::ServerState;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Api, ResourceExt};

use super::apply::Applied;
use super::observe::{Observed, agreed};
use super::verify::{ACCEPT, unaccepted};
use crate::conditions::{
    ACCEPTED, AVAILABLE, Holds, PROGRAMMED, READY, VERIFIED, Verdict, conditions, ready,
};
use crate::context::Context;
use crate::objects::{Error, write_status};

pub(super) async fn update(
    ctx: &Context,
    server: &McpServer,
    observed: &Observed,
    applied: &Applied,
) -> Result<(), Error> {
    if let Some(version) = applied.version {
        ctx.gateways.reached(version).await;
    }
    let before = server.status.clone().unwrap_or_default();
    let programmed = match applied.version {
        Some(version) => ctx.gateways.programmed(&applied.resource, version),
        None if applied.accepted.holds == Holds::Yes => {
            Verdict::no("Pending", "its Service has no address yet")
        }
        None => Verdict::no("NotAccepted", "there is no valid version yet"),
    };
    let conflicts = ctx.gateways.conflicts(&applied.resource);
    let conflicts: Vec<String> = conflicts.into_iter().map(|conflict| conflict.message).collect();
    let verified = verified(server, observed, applied, &conflicts);
    let status = status(server, observed, applied, [programmed, verified], &before);
    let api =
        Api::<McpServer>::namespaced(ctx.client.clone(), &server.namespace().unwrap_or_default());
    let (body, was) = (serde_json::to_value(&status)?, serde_json::to_value(&before)?);
    ctx.term()?;
    if write_status(&api, &server.name_any(), body, Some(&was)).await? {
        ctx.tell(server, &before.conditions, &status.conditions).await;
    }
    if let Some(change) = &applied.change {
        let note = format!("the server changed the definitions of its tools: {change}");
        ctx.publish(server, false, "ToolsChanged", &note).await;
    }
    Ok(())
}

fn status(
    server: &McpServer,
    observed: &Observed,
    applied: &Applied,
    [programmed, verified]: [Verdict; 2],
    before: &McpServerStatus,
) -> McpServerStatus {
    let now = Timestamp::now();
    let is_verified = verified.holds == Holds::Yes;
    let mut verdicts = vec![
        (ACCEPTED, applied.accepted.clone()),
        (AVAILABLE, available(server, observed)),
        (PROGRAMMED, programmed),
        (VERIFIED, verified),
    ];
    verdicts.push((READY, ready(&verdicts, "its tools can be called")));
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

/// Whether its pods run.
fn available(server: &McpServer, observed: &Observed) -> Verdict {
    let Some(workload) = &server.spec.workload else {
        return Verdict::yes("External", "the operator does not run this server");
    };
    if workload.replicas == 0 {
        return Verdict::no("ScaledToZero", "spec.workload.replicas is 0");
    }
    let running = |deployment: &Deployment| {
        let status = deployment.status.as_ref()?;
        (status.observed_generation >= deployment.metadata.generation)
            .then(|| status.available_replicas.unwrap_or_default())
    };
    let count = observed.live.deployment.as_deref().and_then(running);
    let trouble = observed.live.pods.iter().find_map(|pod| trouble(pod));
    match (count, trouble) {
        (Some(count @ 1..), None) => {
            Verdict::yes("Available", format!("{count} pods are available"))
        }
        (Some(count @ 1..), Some((_, message))) => Verdict::yes(
            "Degraded",
            format!("{count} pods are available, but another does not start: {message}"),
        ),
        (_, Some((reason, message))) => Verdict::no(reason, message),
        (_, None) => Verdict::no("Starting", "no pod is available yet"),
    }
}

/// Why a pod does not start.
fn trouble(pod: &Pod) -> Option<(&'static str, String)> {
    let status = pod.status.as_ref()?;
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
        .map(|condition| ("Unschedulable", condition.message.clone().unwrap_or_default()));
    let waiting = status.container_statuses.iter().flatten().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let said = waiting.message.clone().unwrap_or_default();
        let image = &container.image;
        match waiting.reason.as_deref()? {
            "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => {
                Some(("ImageNotPulled", format!("the image {image} cannot be pulled: {said}")))
            }
            "CrashLoopBackOff" => {
                let pod = pod.name_any();
                let message =
                    format!("the container ends soon after it starts; see kubectl logs {pod}");
                Some(("CrashLoop", message))
            }
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                Some(("ContainerNotStarted", said))
            }
            _ => None,
        }
    });
    waiting.or(unscheduled)
}

/// Whether every ready gateway listed the same tools.
fn verified(
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
    let Some(verified) = &applied.verified else {
        return Verdict::no("Pending", "its list of tools is being looked at");
    };
    if let Some(difference) = unaccepted(server, verified) {
        let message = format!(
            "tools are hidden because their definitions changed ({difference}); to accept them: \
             kubectl annotate mcpserver {} {ACCEPT}={} --overwrite",
            server.name_any(),
            verified.hash,
        );
        return Verdict::no("ToolsChanged", message);
    }
    if !conflicts.is_empty() {
        return Verdict::yes("NameConflict", conflicts.join("; "));
    }
    Verdict::yes("Verified", format!("{} tools are listed", verified.tools.len()))
}
