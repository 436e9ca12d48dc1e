#![allow(clippy::all, missing_docs, unused_crate_dependencies, clippy::unwrap_used)]
use gateway_core::*;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
fn main() {
    let pepper = Pepper::new(b"p");
    let entry = |kind: &str, name: &str, created: i64, mut spec: Value| {
        let ns = "bench";
        let mut secrets = Secrets::default();
        if kind == "McpApiKey" {
            spec["valueFrom"] = json!({"secretKeyRef": {"name": "keys", "key": "k"}});
            secrets.insert(serde_json::from_value(json!({"apiVersion":"v1","kind":"Secret","metadata":{"name":"keys","namespace":ns},"stringData":{"k":format!("value-of-{name}")}})).unwrap());
        }
        let m = json!({"apiVersion":"fairway.dev/v1alpha1","kind":kind,"metadata":{"name":name,"namespace":ns},"spec":spec});
        let r = match kind {
            "McpServer" => Resource::Server(serde_json::from_value(m).unwrap()),
            "McpApiKey" => Resource::Key(serde_json::from_value(m).unwrap()),
            _ => Resource::Policy(serde_json::from_value(m).unwrap()),
        };
        Entry::from_resource(
            &r,
            References::without_cluster(Claim { created, tie: name.into() }, &secrets, &pepper),
        )
        .unwrap()
    };
    let catalog = || {
        let mut c = Catalog::default();
        for t in ["echo", "get_time", "add"] {
            c.add(&serde_json::value::to_raw_value(&json!({"name":t,"description":"some words about the tool","inputSchema":{"type":"object","properties":{"message":{"type":"string"}}}})).unwrap()).unwrap();
        }
        Arc::new(c)
    };
    let ns = Namespace::new("bench");
    let only = std::env::args().nth(1);
    for n in [10, 1000, 5000] {
        let mut es = Entries::default();
        for i in 0..n {
            let name = format!("filler-{i}");
            es.apply(entry("McpServer", &name, i, json!({"url":"http://host"})));
            es.offer(&ns, &ServerName::new(&name), catalog());
            es.apply(entry("McpApiKey", &name, i, json!({"user": format!("user-{i}")})));
        }
        es.apply(entry("McpApiKey", "stays", 1, json!({"user": "bench"})));
        es.apply(entry(
            "McpPolicy",
            "all",
            1,
            json!({"subjects":[{"user":"bench"}],"rules":[{"servers":["*"]}]}),
        ));
        let mut s = Snapshot::default();
        s = Snapshot::build(&mut es, &s);
        let ask = |s: &Snapshot| {
            let p = s
                .authenticate(&pepper.digest(b"value-of-stays"), jiff::Timestamp::UNIX_EPOCH)
                .unwrap();
            p.tenant.find("filler-1_echo", &Scope::All, &p).is_some()
        };
        ask(&s);
        for what in ["key", "policy", "server"] {
            if only.as_deref().is_some_and(|o| o != what) {
                continue;
            }
            let (mut build, mut first): (Vec<Duration>, Vec<Duration>) = (vec![], vec![]);
            for i in 0..40 {
                let on = i % 2 == 0;
                match what {
                    "key" if on => es.apply(entry("McpApiKey", "new", 9, json!({"user":"bench"}))),
                    "key" => es.delete(&ResourceRef { namespace: ns.clone(), kind: Kind::Key, name: "new".into() }),
                    "policy" => es.apply(entry("McpPolicy", "denial", 9, json!({"subjects":[{"user":"bench"}],"rules":[{"effect":"Deny","tools":[if on {"x"} else {"y"}]}]}))),
                    _ if on => { es.apply(entry("McpServer", "new", 9, json!({"url":"http://host"}))); es.offer(&ns, &ServerName::new("new"), catalog()); }
                    _ => es.delete(&ResourceRef { namespace: ns.clone(), kind: Kind::Server, name: "new".into() }),
                }
                let t = Instant::now();
                let next = Snapshot::build(&mut es, &s);
                build.push(t.elapsed());
                let t = Instant::now();
                ask(&next);
                first.push(t.elapsed());
                s = next;
            }
            build.sort();
            first.sort();
            println!("{n:5} {what:7} table {:?}  first request {:?}", build[20], first[20]);
        }
    }
}
