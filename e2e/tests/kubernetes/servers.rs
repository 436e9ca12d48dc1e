//! Servers come, change and go under open sessions, wherever they run.

use e2e::cluster::{Program, Release, Tenant, release::ENTRIES};
use serde_json::{Value, json};

use crate::support::{
    MINUTE, Open, columns, everything, put_secret, set,
    stub::Stub,
    traffic::Traffic,
    wire::{self, Caller},
};

/// JSON-RPC's code for a tool that is unknown, or that the caller may not use.
const INVALID_PARAMS: Option<i64> = Some(-32602);

#[tokio::test]
async fn a_server_comes_changes_and_goes_under_open_sessions() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("live").await.unwrap();
    let image = release.image(Program::Everything).unwrap();
    team.allow("all", "alice", &["*"]).await.unwrap();
    let key = team.key("alice", json!({"user": "alice"})).await.unwrap();
    let open = Open::all(&release, &key).await.unwrap();
    let mut slow = team.workload("tools", image);
    set(&mut slow, "EVERYTHING_SLOW_TOOLS", "true");
    let with_slow: Vec<String> = ["add", "echo", "get_time", "slow"].map(str::to_owned).into();

    for (spec, tools) in [
        (json!({}), &everything("tools_")[..]),
        (json!({"tools": {"prefix": ""}}), &everything("")),
        (
            json!({"tools": {"prefix": "", "allow": ["echo", "a*"], "deny": ["a?d"]}}),
            &everything("")[1..2],
        ),
        (json!({"tools": {"prefix": ""}, "workload": slow}), &with_slow),
    ] {
        let before: Vec<_> = open.iter().map(|open| open.sessions.list_changes()).collect();
        match spec.get("workload") {
            None => team.run("tools", image, spec).await.unwrap(),
            Some(_) => team.apply("McpServer", "tools", spec).await.unwrap(),
        }
        // Of another process a server that announces nothing says only when it is asked.
        let offered = |server: &Value| server["status"]["tools"]["count"] == tools.len().max(3);
        team.wait_for("mcpserver", "tools", "list of tools", offered).await.unwrap();
        team.ready("mcpserver", "tools").await.unwrap();

        for (open, before) in open.iter().zip(&before) {
            open.see(before, tools).await;
            let arguments = json!({"message": "hello"});
            let echo = tools.iter().find(|tool| tool.ends_with("echo")).unwrap();
            let answers = open.sessions.call_all(echo, &arguments).await.unwrap();
            assert!(answers.iter().all(|answer| answer.text == "hello"), "{}", open.case);
        }
    }

    let before: Vec<_> = open.iter().map(|open| open.sessions.list_changes()).collect();
    team.delete("mcpserver", "tools").await.unwrap();
    for (open, before) in open.iter().zip(&before) {
        open.see(before, &[]).await;
        let refusal = open.sessions.refusal(0, "echo", json!({"message": ""})).await.unwrap();
        assert_eq!(refusal.code, INVALID_PARAMS, "{}: {refusal}", open.case);
        open.is_whole();
    }
    for kind in ["deployment", "service", "serviceaccount", "networkpolicy"] {
        team.namespace().wait(&format!("{kind}/mcp-tools"), "delete", MINUTE).await.unwrap();
    }
}

#[tokio::test]
async fn a_rolling_update_loses_no_call_and_no_session() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("rolling").await.unwrap();
    team.allow("all", "alice", &["*"]).await.unwrap();
    let key = team.key("alice", json!({"user": "alice"})).await.unwrap();
    let mut workload = team.workload("tools", release.image(Program::Everything).unwrap());
    set(&mut workload, "EVERYTHING_SLOW_TOOLS", "true");
    team.apply("McpServer", "tools", json!({"workload": workload})).await.unwrap();
    team.ready("mcpserver", "tools").await.unwrap();
    let open = Open::all(&release, &key).await.unwrap();

    let calls =
        [("tools_slow", json!({"seconds": 1, "steps": 2})), ("tools_add", json!({"a": 2, "b": 3}))];
    let traffic = Traffic::start(open, &calls);
    for number in 1..=2 {
        let pods = pods(&team).await;
        set(&mut workload, &format!("UPDATE_{number}"), "done");
        team.apply("McpServer", "tools", json!({"workload": workload})).await.unwrap();
        for pod in pods {
            team.namespace().wait(&format!("pod/{pod}"), "delete", 2 * MINUTE).await.unwrap();
        }
        team.ready("mcpserver", "tools").await.unwrap();
    }
    let (open, answered, lost) = traffic.stop().await;

    assert!(
        lost.is_empty(),
        "of {} calls {} were lost: {lost:#?}",
        answered + lost.len(),
        lost.len()
    );
    assert!(answered > 100, "only {answered} calls");
    open.iter().for_each(|open| open.is_whole());
}

#[tokio::test]
async fn sessions_stay_with_one_of_several_pods_and_go_on_at_another() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("several").await.unwrap();
    team.allow("all", "alice", &["*"]).await.unwrap();
    let key = team.key("alice", json!({"user": "alice"})).await.unwrap();
    let mut workload = team.workload("tools", release.image(Program::Everything).unwrap());
    set(&mut workload, "EVERYTHING_SLOW_TOOLS", "true");
    workload["replicas"] = json!(2);
    let spec = json!({"workload": workload, "session": "PerClient"});
    team.apply("McpServer", "tools", spec).await.unwrap();
    let pods_known = || async {
        let secret = format!("server.{}.tools", team.name());
        let path = "--output=go-template={{.data.entry | base64decode}}";
        let arguments = ["--namespace", ENTRIES, "get", "secret", &secret, path];
        let entry = release.cluster().kubectl(&arguments).await?;
        let pods = format!(r#""pods":"mcph-tools.{}.svc""#, team.name());
        Ok(entry.contains(&pods))
    };
    e2e::cluster::release::until("the entry to name the pods", MINUTE, pods_known).await.unwrap();
    team.ready("mcpserver", "tools").await.unwrap();
    let open = Open::all(&release, &key).await.unwrap();

    let calls =
        [("tools_slow", json!({"seconds": 1, "steps": 2})), ("tools_add", json!({"a": 2, "b": 3}))];
    let traffic = Traffic::start(open, &calls);
    for pod in pods(&team).await {
        team.namespace().kubectl(&["delete", "pod", &pod, "--wait=false"]).await.unwrap();
        team.namespace().wait(&format!("pod/{pod}"), "delete", 2 * MINUTE).await.unwrap();
        team.ready("mcpserver", "tools").await.unwrap();
    }
    let (open, answered, lost) = traffic.stop().await;

    assert!(lost.is_empty(), "{answered} answered, {} lost: {lost:#?}", lost.len());
    assert!(answered > 100, "only {answered} calls");
    open.iter().for_each(|open| open.is_whole());
}

#[tokio::test]
async fn a_service_of_ones_own_and_a_server_elsewhere_are_served() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("places").await.unwrap();
    team.allow("all", "alice", &["*"]).await.unwrap();
    let key = team.key("alice", json!({"user": "alice"})).await.unwrap();
    let caller = Caller::new(&release, &key).unwrap();

    let service = json!({"service": {"name": "tools", "port": 80}});
    team.apply("McpServer", "given", service.clone()).await.unwrap();
    let told = team.wait_reason("mcpserver", "given", "Accepted", "ServiceNotFound").await.unwrap();
    assert_eq!(told, "the Service tools does not exist in this namespace");
    run_oneself(&team, release.image(Program::Everything).unwrap()).await;
    team.ready("mcpserver", "given").await.unwrap();
    let stub = Stub::start(&release, &[("look", "Looks.")]).await.unwrap();
    let url = stub.publish(&team, "elsewhere").await.unwrap();
    team.apply("McpServer", "far", json!({"url": url, "tools": {"prefix": ""}})).await.unwrap();
    team.ready("mcpserver", "far").await.unwrap();

    let tools = [everything("given_"), vec!["look".to_owned()]].concat();
    assert_eq!(caller.tools().await.unwrap(), tools);
    let sum = caller.call("given_add", json!({"a": 2, "b": 3})).await.unwrap();
    assert_eq!(sum.content(), "5", "{sum:?}");
    let look = caller.call("look", json!({})).await.unwrap();
    assert_eq!(look.content(), "\"look\" was called", "{look:?}");
    assert!(stub.seen().iter().any(|seen| seen.method == "tools/call"));
    // Under its own URL a server has its own names.
    assert_eq!(caller.at("/mcp/given").tools().await.unwrap(), everything(""));

    for (name, count, address) in [
        ("given", "3", format!("http://tools.{}.svc:80/mcp", team.name())),
        ("far", "1", url.clone()),
    ] {
        let columns = columns(&team, "mcpserver", name).await.unwrap();
        let heads: Vec<&str> = columns.iter().map(|(head, _)| head.as_str()).collect();
        assert_eq!(heads, ["NAME", "READY", "TOOLS", "ADDRESS", "AGE"]);
        let values: Vec<&str> = columns.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values[..4], [name, "True", count, &address]);
    }
    let server = team.read("mcpserver", "far").await.unwrap();
    let protocol = json!({
        "version": "2025-11-25",
        "transport": "StreamableHttp",
        "serverName": "stub",
        "serverVersion": "1",
    });
    assert_eq!(server["status"]["protocol"], protocol);
    assert!(server["status"]["latency"].as_str().is_some_and(|text| text.ends_with("ms")));

    // A port that the Service does not have is told, and the last good one goes on.
    team.apply("McpServer", "given", json!({"service": {"name": "tools", "port": 81}}))
        .await
        .unwrap();
    let told =
        team.wait_reason("mcpserver", "given", "Accepted", "ServiceNotUsable").await.unwrap();
    assert_eq!(told, "the Service tools has no port 81; the last good version stays in force");
    assert_eq!(caller.tools().await.unwrap(), tools);
    let sum = caller.call("given_add", json!({"a": 2, "b": 3})).await.unwrap();
    assert_eq!(sum.content(), "5", "{sum:?}");

    // From one kind to another and back: what ran is gone.
    team.run("far", release.image(Program::Everything).unwrap(), json!({})).await.unwrap();
    team.ready("mcpserver", "far").await.unwrap();
    assert_eq!(caller.at("/mcp/far").tools().await.unwrap(), everything(""));
    team.apply("McpServer", "far", json!({"url": url})).await.unwrap();
    team.ready("mcpserver", "far").await.unwrap();
    assert_eq!(caller.at("/mcp/far").tools().await.unwrap(), ["look"]);
    for kind in ["deployment", "service", "serviceaccount", "networkpolicy"] {
        team.namespace().wait(&format!("{kind}/mcp-far"), "delete", MINUTE).await.unwrap();
    }
}

#[tokio::test]
async fn credentials_are_followed_and_never_shown() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("credentials").await.unwrap();
    team.allow("all", "alice", &["*"]).await.unwrap();
    let key = team.key("alice", json!({"user": "alice"})).await.unwrap();
    let stub = Stub::start(&release, &[("look", "Looks.")]).await.unwrap();
    let url = stub.publish(&team, "guarded").await.unwrap();
    let (first, second) = ("the-first-credential", "the-second-credential");
    stub.wants(&format!("Bearer {first}"));
    let spec =
        json!({"url": url, "credentials": {"secretRef": {"name": "guarded", "key": "token"}}});

    team.apply("McpServer", "guarded", spec).await.unwrap();
    let told =
        team.wait_reason("mcpserver", "guarded", "Accepted", "SecretNotUsable").await.unwrap();
    assert!(told.contains("Secret guarded"), "{told}");
    put_secret(&team, "guarded", first).await;
    team.ready("mcpserver", "guarded").await.unwrap();
    let caller = Caller::new(&release, &key).unwrap().open().await.unwrap();
    let mut heard = vec![caller.call("guarded_look", json!({})).await.unwrap()];

    // Changed at the server first: until the Secret follows, calls are refused without a word of it.
    stub.wants(&format!("Bearer {second}"));
    heard.push(caller.call("guarded_look", json!({})).await.unwrap());
    put_secret(&team, "guarded", second).await;
    let again = || async { Ok(caller.call("guarded_look", json!({})).await?.content() != "") };
    e2e::cluster::release::until("a call with the second", MINUTE, again).await.unwrap();
    team.ready("mcpserver", "guarded").await.unwrap();
    heard.push(caller.call("guarded_look", json!({})).await.unwrap());
    heard.push(caller.ask("tools/list", json!({})).await.unwrap());

    let texts: Vec<String> = heard.iter().map(wire::Answer::content).collect();
    assert_eq!(texts[0], "\"look\" was called", "{heard:?}");
    assert_eq!(texts[1], "", "{heard:?}");
    assert_eq!(texts[2], texts[0], "{heard:?}");
    // A client's own is not passed on.
    let mine = caller.with("authorization", "Bearer of-the-client");
    mine.call("guarded_look", json!({})).await.unwrap();
    let shown: Vec<String> = stub
        .seen()
        .iter()
        .map(|seen| {
            format!("{:?} {:?}", seen.headers.get("authorization"), seen.headers.get("x-api-key"))
        })
        .collect();
    assert!(
        !shown.iter().any(|shown| shown.contains("of-the-client") || shown.contains(&key)),
        "{shown:?}"
    );
    let logs = release.logs().await.unwrap();
    let told = team.namespace().kubectl(&["get", "fairway,events", "--output=yaml"]).await.unwrap();
    for secret in [first, second] {
        assert!(!format!("{heard:?}").contains(secret), "a client sees it: {heard:?}");
        assert!(!logs.contains(secret), "it stands in a log");
        assert!(!told.contains(secret), "it stands in a status or an event");
    }
}

async fn pods(team: &Tenant) -> Vec<String> {
    let arguments = ["get", "pods", "--output=jsonpath={.items[*].metadata.name}"];
    let printed = team.namespace().kubectl(&arguments).await.unwrap();
    printed.split_whitespace().map(str::to_owned).collect()
}

/// A Deployment and a Service `tools`, as a team runs them without us.
async fn run_oneself(team: &Tenant, image: &str) {
    let labels = json!({"app": "tools"});
    let container = json!({
        "name": "tools",
        "image": image,
        "env": [{"name": "ALLOWED_HOSTS", "value": format!("tools.{}.svc", team.name())}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 1},
    });
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "tools"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    });
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "tools"},
        "spec": {"selector": labels, "ports": [{"port": 80, "targetPort": 8000}]},
    });
    for manifest in [deployment, service] {
        team.namespace().apply(&manifest.to_string()).await.unwrap();
    }
}
