//! The objects that run a server. Performs no I/O.

use std::collections::BTreeMap;

use crds::{ImagePullPolicy, McpServer, Workload, WorkloadSecurityContext};
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment,
};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, HTTPGetAction, Lifecycle, LifecycleHandler,
    LocalObjectReference, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, SeccompProfile,
    SecurityContext, Service, ServiceAccount, ServicePort, ServiceSpec, SleepAction,
    TCPSocketAction, Volume, VolumeMount,
};
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use super::names::{headless_name, metadata, object_name, pod_labels, selector};
use crate::context::Settings;

/// After a pod is to end and before it is told so: until then clients may still be sent to it.
const LAST_CLIENTS: i64 = 5;
/// How long calls that are open then have.
const GRACE: i64 = 60;

/// Everything that runs a server.
#[derive(Debug)]
pub(super) struct Objects {
    pub(super) service_account: ServiceAccount,
    pub(super) deployment: Deployment,
    pub(super) service: Service,
    /// For servers whose clients must come back to the pod that knows them.
    pub(super) headless: Option<Service>,
    pub(super) network_policy: NetworkPolicy,
}

pub(super) fn objects(
    server: &McpServer,
    workload: &Workload,
    stateful: bool,
    settings: &Settings,
) -> Objects {
    let headless = (stateful && workload.replicas > 1).then(|| {
        let cluster_ip = Some("None".to_owned());
        service(server, workload, headless_name(&server.name_any()), cluster_ip)
    });
    Objects {
        service_account: service_account(server),
        deployment: deployment(server, workload),
        service: service(server, workload, object_name(&server.name_any()), None),
        headless,
        network_policy: network_policy(server, workload, settings),
    }
}

fn service_account(server: &McpServer) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(server, object_name(&server.name_any())),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

fn deployment(server: &McpServer, workload: &Workload) -> Deployment {
    Deployment {
        metadata: metadata(server, object_name(&server.name_any())),
        spec: Some(DeploymentSpec {
            replicas: Some(workload.replicas),
            selector: LabelSelector {
                match_labels: Some(selector(server)),
                ..LabelSelector::default()
            },
            // The new pod is ready before an old one goes.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_unavailable: Some(IntOrString::Int(0)),
                    max_surge: Some(IntOrString::Int(1)),
                }),
            }),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(pod_labels(server)),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(server, workload)),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

fn pod(server: &McpServer, workload: &Workload) -> PodSpec {
    let secrets = workload.image_pull_secrets.as_ref().map(|names| {
        names.iter().map(|name| LocalObjectReference { name: name.clone() }).collect()
    });
    let given = workload.security_context.clone().unwrap_or_default();
    PodSpec {
        service_account_name: Some(object_name(&server.name_any())),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(GRACE + LAST_CLIENTS),
        image_pull_secrets: secrets,
        containers: vec![container(server, workload, &given)],
        volumes: workload.volumes.as_ref().map(|volumes| volumes.iter().map(volume).collect()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: given.run_as_user,
            run_as_group: given.run_as_group,
            fs_group: given.fs_group,
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        ..PodSpec::default()
    }
}

fn container(
    server: &McpServer,
    workload: &Workload,
    given: &WorkloadSecurityContext,
) -> Container {
    let mounts = workload.volumes.iter().flatten().map(|volume| VolumeMount {
        name: volume.name.clone(),
        mount_path: volume.mount_path.clone(),
        sub_path: volume.sub_path.clone(),
        read_only: volume.read_only.then_some(true),
        ..VolumeMount::default()
    });
    let mounts: Vec<VolumeMount> = mounts.collect();
    Container {
        name: "server".to_owned(),
        image: Some(workload.image.clone()),
        image_pull_policy: workload.image_pull_policy.map(|policy| {
            let policy = match policy {
                ImagePullPolicy::Always => "Always",
                ImagePullPolicy::IfNotPresent => "IfNotPresent",
                ImagePullPolicy::Never => "Never",
            };
            policy.to_owned()
        }),
        command: workload.command.clone(),
        args: workload.args.clone(),
        env: workload.env.clone(),
        env_from: workload.env_from.clone(),
        ports: Some(vec![ContainerPort {
            name: Some("mcp".to_owned()),
            container_port: workload.port,
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        readiness_probe: Some(probe(server, workload)),
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                sleep: Some(SleepAction { seconds: LAST_CLIENTS }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        resources: workload.resources.clone(),
        volume_mounts: (!mounts.is_empty()).then_some(mounts),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(given.read_only_root_filesystem),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    }
}

fn probe(server: &McpServer, workload: &Workload) -> Probe {
    let port = IntOrString::String("mcp".to_owned());
    let http = workload.health_path.as_ref().map(|path| HTTPGetAction {
        path: Some(path.clone()),
        port: port.clone(),
        // As the gateway speaks with it.
        scheme: Some(if server.spec.tls.is_some() { "HTTPS" } else { "HTTP" }.to_owned()),
        ..HTTPGetAction::default()
    });
    let tcp = http.is_none().then(|| TCPSocketAction { port, ..TCPSocketAction::default() });
    Probe {
        http_get: http,
        tcp_socket: tcp,
        // A server that starts in a moment is found in a moment.
        period_seconds: Some(2),
        failure_threshold: Some(3),
        ..Probe::default()
    }
}

fn volume(volume: &crds::Volume) -> Volume {
    Volume {
        name: volume.name.clone(),
        empty_dir: volume.empty_dir.clone(),
        config_map: volume.config_map.clone(),
        secret: volume.secret.clone(),
        persistent_volume_claim: volume.persistent_volume_claim.clone(),
        projected: volume.projected.clone(),
        ..Volume::default()
    }
}

fn service(
    server: &McpServer,
    workload: &Workload,
    name: String,
    cluster_ip: Option<String>,
) -> Service {
    Service {
        metadata: metadata(server, name),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            cluster_ip,
            selector: Some(selector(server)),
            ports: Some(vec![ServicePort {
                name: Some("mcp".to_owned()),
                port: workload.port,
                target_port: Some(IntOrString::String("mcp".to_owned())),
                protocol: Some("TCP".to_owned()),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Only the gateways reach the pods, and only on their port.
fn network_policy(server: &McpServer, workload: &Workload, settings: &Settings) -> NetworkPolicy {
    let labels = |labels: BTreeMap<String, String>| LabelSelector {
        match_labels: Some(labels),
        ..LabelSelector::default()
    };
    let namespace = ("kubernetes.io/metadata.name".to_owned(), settings.namespace.clone());
    let gateways = NetworkPolicyPeer {
        namespace_selector: Some(labels(BTreeMap::from([namespace]))),
        pod_selector: Some(labels(settings.gateway_labels.iter().cloned().collect())),
        ..NetworkPolicyPeer::default()
    };
    NetworkPolicy {
        metadata: metadata(server, object_name(&server.name_any())),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(labels(selector(server))),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![NetworkPolicyIngressRule {
                from: Some(vec![gateways]),
                ports: Some(vec![NetworkPolicyPort {
                    port: Some(IntOrString::Int(workload.port)),
                    protocol: Some("TCP".to_owned()),
                    ..NetworkPolicyPort::default()
                }]),
            }]),
            ..NetworkPolicySpec::default()
        }),
    }
}
