//! Servers: what runs for them, what is made of them, and reconciles against an apiserver in memory.

use std::sync::Arc;

use crds::McpServer;
use gateway_core::report::{About, ServerId, ServerReport, ServerState, ToolsReport};
use gateway_core::{Catalog, Namespace, Pepper, Secrets, ServerName};
use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use super::observe::{Live, Observed};
use crate::context::Settings;
use crate::gateways::View;
use crate::testing::resources::{a_server, service, typed};

mod lists;
mod reconcile;
mod status;
mod validate;
mod workload;

fn settings() -> Settings {
    Settings {
        namespace: "fairway".to_owned(),
        watch_namespaces: None,
        gateway_labels: vec![("component".to_owned(), "gateway".to_owned())],
        lease: "fairway-operator".to_owned(),
        public_url: "https://mcp.example.com".to_owned(),
    }
}

fn pepper() -> Pepper {
    Pepper::new(b"pepper")
}

/// A server that the operator runs.
fn run(workload: &Value) -> McpServer {
    a_server("git", json!({"workload": workload}))
}

/// Nothing but the resource itself.
fn nothing() -> Observed {
    Observed {
        in_force: None,
        record: None,
        leads_home: true,
        secrets: Secrets::default(),
        service: None,
        live: Live::default(),
        views: Vec::new(),
        verified: None,
        news: None,
    }
}

/// A Service as the apiserver has it.
fn a_service(name: &str, spec: &Value) -> Service {
    let mut made = service(name, &[80]);
    made["spec"]["clusterIP"] = json!("10.96.0.7");
    for (field, value) in spec.as_object().unwrap() {
        made["spec"][field] = value.clone();
    }
    typed(made)
}

/// The same, belonging to the server `git`.
fn owned<K: serde::de::DeserializeOwned + serde::Serialize>(object: &K) -> Arc<K> {
    let mut object = serde_json::to_value(object).unwrap();
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "fairway.dev/v1alpha1", "kind": "McpServer", "name": "git", "uid": "uid",
    }]);
    Arc::new(serde_json::from_value(object).unwrap())
}

/// A list of tools: name and description of each.
fn catalog(tools: &[(&str, &str)]) -> Catalog {
    let tools: Vec<Value> = tools
        .iter()
        .map(|(name, description)| json!({"name": name, "description": description}))
        .collect();
    Catalog::from_json(&serde_json::to_vec(&tools).unwrap()).unwrap()
}

/// A gateway that reached the server and listed this.
fn view(pod: &str, catalog: &Catalog) -> View {
    View { pod: pod.to_owned(), report: Some(report(ServerState::Connected, Some(catalog))) }
}

fn report(state: ServerState, catalog: Option<&Catalog>) -> ServerReport {
    ServerReport {
        server: ServerId { namespace: Namespace::new("team"), name: ServerName::new("git") },
        uid: "uid".to_owned(),
        state,
        breaker: None,
        about: Some(About {
            version: "2025-11-25".to_owned(),
            transport: "StreamableHttp".to_owned(),
            server_name: "git".to_owned(),
            server_version: "1".to_owned(),
            stateful: false,
        }),
        tools: catalog.map(|catalog| ToolsReport {
            count: catalog.tools().len(),
            hash: catalog.hash(),
            whole: Some(catalog.whole_hash()),
            latency_millis: 12,
        }),
    }
}
