//! What several tests use.

pub(crate) mod stub;
pub(crate) mod traffic;
pub(crate) mod wire;

use std::time::Duration;

use anyhow::Result;
use e2e::{
    clients::{
        Endpoint, Transport,
        install::Sdk,
        sessions::{Event, Mode, Sessions},
        stage,
    },
    cluster::{Release, Tenant},
};
use futures_util::future::try_join_all;
use serde_json::{Value, json};

/// Longer than anything takes on a machine that others use too.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// The endpoint of the gateway, through the Ingress, as a user configures it.
pub(crate) fn endpoint(release: &Release, transport: Transport, key: &str) -> Result<Endpoint> {
    Ok(stage::endpoint(transport, &release.url()?, key))
}

/// What `kubectl get` prints of a resource, by the heads of its columns.
pub(crate) async fn columns(
    tenant: &Tenant,
    kind: &str,
    name: &str,
) -> Result<Vec<(String, String)>> {
    let printed = tenant.namespace().kubectl(&["get", kind, name]).await?;
    let mut lines = printed.lines();
    let (head, row) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    // Columns begin where their heads do; values may have spaces in them.
    let starts: Vec<usize> = head
        .char_indices()
        .filter(|(at, c)| *c != ' ' && (*at == 0 || head[..*at].ends_with("  ")))
        .map(|(at, _)| at)
        .collect();
    let ends = starts.iter().skip(1).copied().chain([usize::MAX]);
    let cut = |line: &str, start: usize, end: usize| {
        line.get(start..end.min(line.len())).unwrap_or_default().trim().to_owned()
    };
    Ok(starts
        .iter()
        .zip(ends)
        .map(|(start, end)| (cut(head, *start, end), cut(row, *start, end)))
        .collect())
}

/// The strings of a list.
pub(crate) fn strings(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The names of server-everything's tools behind a prefix.
pub(crate) fn everything(prefix: &str) -> Vec<String> {
    ["add", "echo", "get_time"].map(|tool| format!("{prefix}{tool}")).into()
}

/// Gives a workload another variable of the environment.
pub(crate) fn set(workload: &mut Value, name: &str, value: &str) {
    let variables = workload["env"].as_array_mut().unwrap();
    variables.push(json!({"name": name, "value": value}));
}

/// A Secret of the user's, with a key `token`.
pub(crate) async fn put_secret(team: &Tenant, name: &str, token: &str) {
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "stringData": {"token": token},
    });
    team.namespace().apply(&secret.to_string()).await.unwrap();
}

/// Open sessions of one kind, and what they are called in a failure.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) case: String,
    pub(crate) sessions: Sessions,
}

impl Open {
    /// Two sessions of each line of the SDK over each transport.
    pub(crate) async fn all(release: &Release, key: &str) -> Result<Vec<Self>> {
        let kinds = [Sdk::V1, Sdk::V2]
            .into_iter()
            .flat_map(|sdk| Transport::ALL.into_iter().map(move |transport| (sdk, transport)));
        let open = kinds.map(|(sdk, transport)| async move {
            let endpoint = endpoint(release, transport, key)?;
            let sessions = Sessions::open(sdk, Mode::Auto, &endpoint, 2).await?;
            Ok(Self { case: format!("{sdk:?} over {transport:?}"), sessions })
        });
        try_join_all(open).await
    }

    /// Waits until every session sees exactly these tools, which it looks for whenever it hears of a change.
    pub(crate) async fn see(&self, since: &[usize], tools: &[String]) {
        let mut since = since.to_vec();
        loop {
            self.sessions.wait_list_changed(&since).await.unwrap();
            since = self.sessions.list_changes();
            let lists = self.sessions.list_all().await.unwrap();
            if lists.iter().all(|list| list == tools) {
                return;
            }
        }
    }

    /// No session was lost, and none complained.
    pub(crate) fn is_whole(&self) {
        for session in 0..self.sessions.count() {
            let events = self.sessions.events(session);
            let bad = |event: &&Event| matches!(event, Event::Lost(_) | Event::Fault(_));
            let bad: Vec<_> = events.iter().filter(bad).collect();
            assert!(bad.is_empty(), "{}: {bad:?}", self.case);
        }
    }
}
