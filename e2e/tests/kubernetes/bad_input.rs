//! What is wrong with a resource is told on it, and nothing else suffers.

use e2e::cluster::{Program, Release, Tenant, release::condition_of};
use serde_json::{Value, json};

use crate::support::{everything, put_secret, wire::Caller};

#[tokio::test]
async fn what_is_missing_is_named() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("missing").await.unwrap();
    let image = release.image(Program::Everything).unwrap();
    let mut without_secret = team.workload("secretless", image);
    without_secret["envFrom"] = json!([{"secretRef": {"name": "nowhere"}}]);
    let crashing = json!({"image": image, "args": ["--listen", "nonsense"]});

    // 127.0.0.1:1 is a registry that answers nobody.
    for (name, workload) in [
        ("imageless", json!({"image": "127.0.0.1:1/no/image:1"})),
        ("never", json!({"image": "fairway.test/no/image:1", "imagePullPolicy": "Never"})),
        ("secretless", without_secret),
        ("crashing", crashing),
        ("greedy", json!({"image": image, "resources": {"requests": {"memory": "1Ei"}}})),
    ] {
        team.apply("McpServer", name, json!({"workload": workload})).await.unwrap();
    }
    let guarded = json!({
        "url": "https://mcp.example.com",
        "credentials": {"secretRef": {"name": "nowhere", "key": "token"}},
    });
    team.apply("McpServer", "guarded", guarded).await.unwrap();

    for (name, condition, reason, words) in [
        (
            "imageless",
            "Available",
            "ImageNotPulled",
            "the image 127.0.0.1:1/no/image:1 cannot be pulled",
        ),
        (
            "never",
            "Available",
            "ImageNotPulled",
            "the image fairway.test/no/image:1 cannot be pulled",
        ),
        ("secretless", "Available", "ContainerNotStarted", "secret \"nowhere\" not found"),
        ("crashing", "Available", "CrashLoop", "see kubectl logs mcp-crashing-"),
        ("greedy", "Available", "Unschedulable", "Insufficient memory"),
        ("guarded", "Accepted", "SecretNotUsable", "spec.credentials.secretRef: Secret nowhere"),
    ] {
        let told = team.wait_reason("mcpserver", name, condition, reason).await.unwrap();
        assert!(told.contains(words), "{name}: {told}");
        // One look tells.
        let ready = team.wait_reason("mcpserver", name, "Ready", reason).await.unwrap();
        assert_eq!(ready, told, "{name}");
    }

    // Mended, it runs.
    put_secret(&team, "nowhere", "token").await;
    team.run("crashing", image, json!({})).await.unwrap();
    team.ready("mcpserver", "secretless").await.unwrap();
    team.ready("mcpserver", "crashing").await.unwrap();
}

#[tokio::test]
async fn the_last_good_version_serves_on() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("lastgood").await.unwrap();
    let image = release.image(Program::Everything).unwrap();
    team.allow("all", "alice", &["*"]).await.unwrap();
    let key = team.key("alice", json!({"user": "alice"})).await.unwrap();
    team.run("tools", image, json!({})).await.unwrap();
    team.ready("mcpserver", "tools").await.unwrap();
    let caller = Caller::new(&release, &key).unwrap();

    let wrong = json!({
        "tools": {"prefix": "new_"},
        "credentials": {"secretRef": {"name": "nowhere", "key": "token"}},
    });
    team.run("tools", image, wrong).await.unwrap();
    team.wait_reason("mcpserver", "tools", "Accepted", "SecretNotUsable").await.unwrap();
    assert_eq!(caller.tools().await.unwrap(), everything("tools_"));
    let sum = caller.call("tools_add", json!({"a": 2, "b": 3})).await.unwrap();
    assert_eq!(sum.content(), "5", "{sum:?}");

    // An image that does not start: the pods before it stay until it does.
    let mut broken = team.workload("tools", image);
    broken["image"] = json!("127.0.0.1:1/no/image:1");
    team.apply("McpServer", "tools", json!({"workload": broken})).await.unwrap();
    let told = team.wait_reason("mcpserver", "tools", "Available", "Degraded").await.unwrap();
    assert!(told.contains("1 pod is available, but another does not start: the image"), "{told}");
    let sum = caller.call("tools_add", json!({"a": 2, "b": 3})).await.unwrap();
    assert_eq!(sum.content(), "5", "{sum:?}");

    // Names that are somebody else's are left alone.
    let map = json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": {"name": "mcp-taken", "labels": {"whose": "somebody"}},
    });
    team.namespace().apply(&map.to_string()).await.unwrap();
    team.run("taken", image, json!({})).await.unwrap();
    let told = team.wait_reason("mcpserver", "taken", "Accepted", "WorkloadRefused").await.unwrap();
    assert!(told.contains("ServiceAccount mcp-taken"), "{told}");
    let account = team.read("serviceaccount", "mcp-taken").await.unwrap();
    assert_eq!(account["metadata"]["labels"], json!({"whose": "somebody"}));
    let made = ["get", "deployment", "mcp-taken", "--ignore-not-found", "--output=name"];
    assert_eq!(team.namespace().kubectl(&made).await.unwrap(), "");
}

#[tokio::test]
async fn of_two_servers_with_one_tool_name_the_earlier_holds_it() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("names").await.unwrap();
    let image = release.image(Program::Everything).unwrap();
    team.allow("all", "alice", &["*"]).await.unwrap();
    let key = team.key("alice", json!({"user": "alice"})).await.unwrap();
    let caller = Caller::new(&release, &key).unwrap();
    let spec = json!({"tools": {"prefix": ""}});
    // The order of names says nothing.
    for name in ["m", "z", "a"] {
        team.run(name, image, spec.clone()).await.unwrap();
    }
    let mut servers = Vec::new();
    for name in ["a", "m", "z"] {
        team.ready("mcpserver", name).await.unwrap();
        servers.push(team.read("mcpserver", name).await.unwrap());
    }
    // Creation time, which has no more than seconds, then UID.
    let field =
        |server: &Value, field: &str| server["metadata"][field].as_str().unwrap().to_owned();
    servers.sort_by_key(|server| (field(server, "creationTimestamp"), field(server, "uid")));
    let names: Vec<String> = servers.iter().map(|server| field(server, "name")).collect();

    assert_eq!(caller.tools().await.unwrap(), everything(""));
    holds(&team, &names[0], &names[1..]).await;
    // Each has them under its own URL all the same.
    for name in &names {
        assert_eq!(caller.at(&format!("/mcp/{name}")).tools().await.unwrap(), everything(""));
    }

    // Who held them goes, and the next one has them.
    team.delete("mcpserver", &names[0]).await.unwrap();
    holds(&team, &names[1], &names[2..]).await;
    assert_eq!(caller.tools().await.unwrap(), everything(""));
    // Who comes back comes last.
    team.run(&names[0], image, spec.clone()).await.unwrap();
    team.ready("mcpserver", &names[0]).await.unwrap();
    holds(&team, &names[1], &[names[2].clone(), names[0].clone()]).await;
    // A prefix of its own mends it.
    team.run(&names[2], image, json!({})).await.unwrap();
    holds(&team, &names[2], &[]).await;
    let all = [everything(""), everything(&format!("{}_", names[2]))].concat();
    assert_eq!(caller.tools().await.unwrap(), {
        let mut all = all;
        all.sort();
        all
    });
}

/// One server holds the names, and the others say that they do not.
async fn holds(team: &Tenant, holder: &str, others: &[String]) {
    // They may have said so before, of another one that held them.
    let by = format!("held by tool add of McpServer {holder};");
    for other in others {
        let is_told = |server: &Value| {
            let verified = condition_of(server, "Verified");
            let message = verified["message"].as_str().unwrap_or_default();
            verified["reason"] == "NameConflict" && message.contains(&by)
        };
        team.wait_for("mcpserver", other, &by, is_told).await.unwrap();
    }
    team.wait_reason("mcpserver", holder, "Verified", "Verified").await.unwrap();
}

#[tokio::test]
async fn a_hundred_edits_end_in_one_state() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("edits").await.unwrap();
    let image = release.image(Program::Everything).unwrap();
    team.allow("all", "alice", &["*"]).await.unwrap();
    let key = team.key("alice", json!({"user": "alice"})).await.unwrap();
    team.run("tools", image, json!({})).await.unwrap();
    team.ready("mcpserver", "tools").await.unwrap();

    // All in one command, as fast as the apiserver takes them.
    let mut edits = String::new();
    for number in 1..=100 {
        let spec = json!({
            "workload": team.workload("tools", image),
            "tools": {"prefix": format!("n{number}_")},
        });
        let edit = e2e::cluster::release::manifest("McpServer", "tools", &spec);
        edits += &format!("---\n{edit}\n");
    }
    team.namespace().apply(&edits).await.unwrap();
    team.ready("mcpserver", "tools").await.unwrap();

    let server = team.read("mcpserver", "tools").await.unwrap();
    let generation = &server["metadata"]["generation"];
    assert_eq!(*generation, 101);
    assert_eq!(server["status"]["observedGeneration"], *generation);
    for condition in ["Accepted", "Available", "Programmed", "Verified", "Ready"] {
        let condition = condition_of(&server, condition);
        assert_eq!(condition["observedGeneration"], *generation, "{condition}");
        assert_eq!(condition["status"], "True", "{condition}");
    }
    let caller = Caller::new(&release, &key).unwrap();
    assert_eq!(caller.tools().await.unwrap(), everything("n100_"));
    let gone = caller.call("n99_add", json!({"a": 2, "b": 3})).await.unwrap();
    assert_eq!(gone.code(), Some(-32602), "{gone:?}");
    // None of them was about what runs.
    let pods = team.namespace().kubectl(&["get", "replicasets", "--output=name"]).await.unwrap();
    assert_eq!(pods.lines().count(), 1, "{pods}");
}
