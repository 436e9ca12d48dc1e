//! Policies: edited under open sessions, and what is wrong with one said in plain words.

use e2e::cluster::{Program, Release, Tenant, release::manifest};
use serde_json::{Value, json};

use crate::support::{Open, columns, everything, strings, wire::Caller};

/// JSON-RPC's code for a tool that is unknown, or that the caller may not use.
const INVALID_PARAMS: Option<i64> = Some(-32602);

#[tokio::test]
async fn edits_reach_open_sessions() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("policy").await.unwrap();
    team.run("x", release.image(Program::Everything).unwrap(), json!({})).await.unwrap();
    let key = team.key("alice", json!({"user": "alice"})).await.unwrap();
    team.ready("mcpserver", "x").await.unwrap();
    let open = Open::all(&release, &key).await.unwrap();
    let all = everything("x_");

    for (rules, tools) in [
        (json!([{"servers": ["x"], "tools": ["echo"]}]), &all[1..2]),
        (json!([{"servers": ["*"]}]), &all[..]),
        // What is denied stays so, whatever allows it.
        (json!([{"servers": ["*"]}, {"effect": "Deny", "tools": ["echo", "g?t_*"]}]), &all[..1]),
        (json!([{"servers": ["y", "x?"]}]), &[]),
        (json!([{"servers": ["x"]}]), &all[..]),
    ] {
        let before: Vec<_> = open.iter().map(|open| open.sessions.list_changes()).collect();
        let spec = json!({"subjects": [{"user": "alice"}], "rules": rules});
        team.apply("McpPolicy", "alice", spec).await.unwrap();
        team.ready("mcppolicy", "alice").await.unwrap();

        for (open, before) in open.iter().zip(&before) {
            open.see(before, tools).await;
            for tool in &all {
                let arguments = json!({"a": 2, "b": 3, "message": "5"});
                if tools.contains(tool) {
                    open.sessions.call(1, tool, arguments).await.unwrap();
                    continue;
                }
                let refusal = open.sessions.refusal(1, tool, arguments).await.unwrap();
                let unknown = open.sessions.refusal(1, "x_nothing", json!({})).await.unwrap();
                assert_eq!(refusal.code, INVALID_PARAMS, "{}: {refusal}", open.case);
                let told = refusal.message.replace(tool, "x_nothing");
                assert_eq!(told, unknown.message, "{}", open.case);
            }
        }
    }

    let before: Vec<_> = open.iter().map(|open| open.sessions.list_changes()).collect();
    team.delete("mcppolicy", "alice").await.unwrap();
    for (open, before) in open.iter().zip(&before) {
        open.see(before, &[]).await;
        open.is_whole();
    }
}

#[tokio::test]
async fn subjects_are_users_groups_and_keys() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("subjects").await.unwrap();
    team.run("x", release.image(Program::Everything).unwrap(), json!({})).await.unwrap();
    let alice = team.key("alice-1", json!({"user": "alice", "groups": ["dev"]})).await.unwrap();
    let again = team.key("alice-2", json!({"user": "alice"})).await.unwrap();
    let bob = team.key("bob", json!({"user": "bob", "allow": {"tools": ["echo"]}})).await.unwrap();
    team.ready("mcpserver", "x").await.unwrap();
    for (name, subject, tool) in [
        ("user", json!({"user": "alice"}), "add"),
        ("group", json!({"group": "dev"}), "echo"),
        ("key", json!({"key": "alice-2"}), "get_time"),
    ] {
        let spec = json!({"subjects": [subject], "rules": [{"tools": [tool]}]});
        team.apply("McpPolicy", name, spec).await.unwrap();
        team.ready("mcppolicy", name).await.unwrap();
    }

    for (key, tools) in [
        (&alice, &["x_add", "x_echo"][..]),
        (&again, &["x_add", "x_get_time"]),
        // The key's own.
        (&bob, &["x_echo"]),
    ] {
        assert_eq!(Caller::new(&release, key).unwrap().tools().await.unwrap(), tools);
    }
    for (name, keys, users) in
        [("user", 2, vec!["alice"]), ("group", 1, vec!["alice"]), ("key", 1, vec!["alice"])]
    {
        let counted = |policy: &Value| policy["status"]["appliesTo"]["keys"] == keys;
        let policy = team.wait_for("mcppolicy", name, "count of keys", counted).await.unwrap();
        let applies = &policy["status"]["appliesTo"];
        assert_eq!(strings(&applies["users"]), users, "{name}");
        assert_eq!(strings(&applies["servers"]), ["x"], "{name}");
    }
    let columns = columns(&team, "mcppolicy", "user").await.unwrap();
    let heads: Vec<&str> = columns.iter().map(|(head, _)| head.as_str()).collect();
    assert_eq!(heads, ["NAME", "READY", "KEYS", "SUBJECTS", "AGE"]);
    let values: Vec<&str> = columns.iter().map(|(_, value)| value.as_str()).collect();
    assert_eq!(values[..4], ["user", "True", "2", r#"[{"user":"alice"}]"#]);

    // A policy counts what comes and goes.
    team.delete("mcpapikey", "alice-1").await.unwrap();
    let counted = |policy: &Value| policy["status"]["appliesTo"]["keys"] == 0;
    team.wait_for("mcppolicy", "group", "no key", counted).await.unwrap();
}

#[tokio::test]
async fn the_apiserver_says_in_plain_words_what_is_wrong() {
    let release = Release::shared().await.unwrap();
    let team = release.tenant("words").await.unwrap();
    let one_of = "must have exactly one of workload, service, url: what to run, a Service of \
                  this namespace, or where else the server is";
    let url = |url: &str| json!({"url": url});
    let rules = json!([{}]);
    let mut others = Vec::new();

    for (kind, name, spec, words) in [
        ("McpServer", "sse", url("http://w"), "the name is reserved: /mcp/sse and /mcp/messages"),
        ("McpServer", "a.b", url("http://w"), "the name must not have a '.'"),
        ("McpServer", "s", json!({}), one_of),
        ("McpServer", "s", json!({"url": "http://w", "service": {"name": "w"}}), one_of),
        ("McpServer", "s", url("ftp://w"), "must start with http:// or https://"),
        ("McpServer", "s", url("http://a:b@w/"), "name it in spec.credentials"),
        (
            "McpServer",
            "s",
            json!({"url": "http://w", "credentials": {"secretRef": {"name": "other/key", "key": "k"}}}),
            "spec.credentials.secretRef.name",
        ),
        (
            "McpServer",
            "s",
            json!({"workload": {"image": "w", "volumes": [{"name": "v", "mountPath": "/v"}]}}),
            "must have exactly one of emptyDir, configMap, secret, persistentVolumeClaim, projected",
        ),
        (
            "McpServer",
            "s",
            json!({"url": "http://w", "timeouts": {"request": "soon"}}),
            "must be a duration from 1ms to 24h in whole units",
        ),
        ("McpApiKey", "k", json!({"user": ""}), "spec.user"),
        (
            "McpApiKey",
            "k",
            json!({
                "user": "alice",
                "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}},
                "rotation": {"interval": "1h"},
            }),
            "must be left out beside valueFrom: the operator replaces only keys that it made",
        ),
        (
            "McpApiKey",
            "k",
            json!({"user": "alice", "rotation": {"interval": "1d"}}),
            "must be a duration from 1s to 87600h in whole units",
        ),
        ("McpApiKey", "k", json!({"user": "alice", "expiresAt": "tomorrow"}), "spec.expiresAt"),
        ("McpPolicy", "p", json!({"subjects": [], "rules": rules}), "spec.subjects"),
        (
            "McpPolicy",
            "p",
            json!({"subjects": [{"user": "a", "group": "b"}], "rules": rules}),
            "must have exactly one of user, group, key; list another subject for another one",
        ),
        (
            "McpPolicy",
            "p",
            json!({"subjects": [{"user": "a"}], "rules": [{"effect": "Maybe"}]}),
            "supported values: \"Allow\", \"Deny\"",
        ),
    ] {
        let told = refusal(&team, kind, name, &spec).await;
        if !told.contains(words) {
            others.push(format!("{kind} {spec}: {told}\n(not: {words})"));
        }
    }

    assert!(others.is_empty(), "{}", others.join("\n\n"));
}

/// What kubectl prints when the apiserver does not take a resource.
async fn refusal(team: &Tenant, kind: &str, name: &str, spec: &Value) -> String {
    let manifest = manifest(kind, name, spec).to_string();
    match team.namespace().apply(&manifest).await {
        Ok(taken) => panic!("{kind} {spec} was taken: {taken}"),
        Err(error) => error.to_string(),
    }
}
