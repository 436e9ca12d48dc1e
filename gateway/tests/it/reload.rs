//! Edits of manifests under open sessions.

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::client::{Client, Session, Sse, call, request, text, tool_names};
use crate::support::events::Events;
use crate::support::eventually;
use crate::support::fixture::{Fixture, done};
use crate::support::manifests::{key_with, policy, server};
use crate::support::stage::{ALICE, BOB, Stage, everything, find};

/// A session that is open, whatever it is open over.
enum Open {
    Streamable(Session, Events),
    Sse(Sse),
}

impl Open {
    async fn new(client: &Client, number: usize) -> Self {
        if number.is_multiple_of(2) {
            let session = Session::open(client, "/mcp").await;
            let events = session.listen().await;
            Self::Streamable(session, events)
        } else {
            Self::Sse(Sse::open(client, "/sse").await)
        }
    }

    /// Reads what must be the next event: the tools changed.
    async fn hears(&mut self) {
        let events = match self {
            Self::Streamable(_, events) => events,
            Self::Sse(sse) => &mut sse.events,
        };
        let event = events.next().await.expect("the stream ended");
        assert!(event.is_list_changed(), "{event:?}");
    }

    async fn call(&mut self, tool: &str) -> Value {
        let arguments = json!({"a": 40, "b": 2});
        match self {
            Self::Streamable(session, _) => session.call(tool, arguments).await,
            Self::Sse(sse) => sse.call(tool, arguments).await,
        }
    }
}

async fn hear(sessions: &mut [Open]) {
    join_all(sessions.iter_mut().map(Open::hears)).await;
}

async fn call_all(sessions: &mut [Open], tool: &str) -> Vec<Value> {
    join_all(sessions.iter_mut().map(|session| session.call(tool))).await
}

fn refused(answer: &Value) -> bool {
    answer["error"]["code"] == -32602
}

/// Every event is read in order, so one too many for somebody is found by the next.
#[tokio::test]
async fn fifty_open_sessions_hear_of_what_concerns_them_and_none_is_lost() {
    let (everything, fixture) = (everything().await, Fixture::start().await);
    let mut stage = Stage::empty();
    stage.write("alice.yaml", &key_with("alice", ALICE, ""));
    stage.write("bob.yaml", &key_with("bob", BOB, ""));
    stage.write("policy-alice.yaml", &policy("alice", &["servers: [\"*\"]"]));
    stage.write("policy-bob.yaml", &policy("bob", &["servers: [everything]"]));
    stage.write("everything.yaml", &server("everything", &everything.url()));
    stage.open().await;
    let (alice, bob) = (stage.alice(), stage.bob());
    let mut alices = join_all((0..25).map(|number| Open::new(&alice, number))).await;
    let mut bobs = join_all((0..25).map(|number| Open::new(&bob, number))).await;

    // A server comes that only alice may use.
    stage.write("fixture.yaml", &fixture.manifest("fixture"));
    hear(&mut alices).await;
    assert!(call_all(&mut alices, "work").await.iter().all(|answer| text(answer) == "done"));
    assert!(call_all(&mut bobs, "work").await.iter().all(refused));

    // A policy is edited that concerns only bob.
    let more = ["servers: [everything]", "servers: [fixture]"];
    stage.write("policy-bob.yaml", &policy("bob", &more));
    hear(&mut bobs).await;
    assert!(call_all(&mut bobs, "work").await.iter().all(|answer| text(answer) == "done"));

    // A key is edited: what alice's policies allow is what its own list allows anyway.
    let narrow = "allow: {servers: [everything]}";
    stage.write("alice.yaml", &key_with("alice", ALICE, narrow));
    // And one that takes a tool away.
    let deny = ["servers: [\"*\"]", "effect: Deny, tools: [add]"];
    stage.write("policy-alice.yaml", &policy("alice", &deny));
    hear(&mut alices).await;
    assert!(call_all(&mut alices, "add").await.iter().all(refused));
    assert!(call_all(&mut bobs, "add").await.iter().all(|answer| text(answer) == "42"));

    // A server goes that both may use.
    stage.remove("fixture.yaml");
    hear(&mut alices).await;
    hear(&mut bobs).await;
    assert!(call_all(&mut alices, "work").await.iter().all(refused));
    assert!(call_all(&mut bobs, "work").await.iter().all(refused));
    assert!(call_all(&mut alices, "echo").await.iter().all(|answer| !refused(answer)));
    assert_eq!(stage.metric("fairway_streams").await, Some(50.0));
}

#[tokio::test]
async fn a_manifest_that_cannot_be_used_leaves_the_last_good_version_in_force() {
    let everything = everything().await;
    let good = server("everything", &everything.url());
    let stage = Stage::start(&[]).await;
    stage.write("server.yaml", &good);
    let session = Session::open(&stage.alice(), "/mcp").await;
    eventually("the tools", || async { (session.tools().await.len() == 3).then_some(()) }).await;
    let mut listening = session.listen().await;

    let clean = |ready: &Value| ready["rejected"].as_array().unwrap().is_empty();

    for (broken, reason) in [
        ("spec: [", "line"),
        ("", "empty"),
        (&*good.replace("url:", "ulr:"), "ulr"),
        (&*good.replace("http://", "ftp://"), "spec.url"),
        (&*good.replace("prefix: \"\"", "prefix: \"ä\""), "prefix"),
        (&*good.replace("McpServer", "McpSever"), "McpSever"),
    ] {
        stage.write("server.yaml", broken);
        let ready = stage
            .ready_when(broken, |ready| {
                let rejected = &ready["rejected"][0];
                rejected["reason"].as_str().is_some_and(|text| text.contains(reason))
            })
            .await;
        assert_eq!(ready["rejected"][0]["file"], "server.yaml", "{ready}");
        assert_eq!(ready["rejected"].as_array().unwrap().len(), 1, "{ready}");
        assert_eq!(find(&ready, "everything")["state"], "connected", "{broken}");
        assert_eq!(text(&session.call("add", json!({"a": 1, "b": 1})).await), "2", "{broken}");
        assert_eq!(stage.metric("fairway_rejected_manifests").await, Some(1.0));
        // The client port tells as much.
        assert_eq!(stage.client().get("/readyz").await.json()["rejected"], ready["rejected"]);
        stage.write("server.yaml", &good);
        stage.ready_when("the mended manifest", clean).await;
    }

    stage.remove("server.yaml");
    let gone = listening.next().await.unwrap();
    assert!(gone.is_list_changed(), "{gone:?}");
    assert!(refused(&session.call("add", json!({"a": 1, "b": 1})).await));
    assert_eq!(find(&stage.readyz().await, "everything"), &Value::Null);
}

#[tokio::test]
async fn a_broken_document_leaves_the_others_of_its_file_alone() {
    let everything = everything().await;
    let typo = server("broken", &everything.url()).replace("url:", "ulr:");
    let stage = Stage::start(&[typo, server("everything", &everything.url())]).await;

    stage.server_is("everything", "connected").await;
    let ready = stage.readyz().await;
    assert_eq!(find(&ready, "broken"), &Value::Null, "{ready}");
    assert_eq!(ready["rejected"][0]["resource"], "McpServer default/broken", "{ready}");
}

#[tokio::test]
async fn a_broken_policy_or_key_of_one_user_concerns_nobody_else() {
    let stage = Stage::start(&[]).await;
    let ping = || request(1, "ping", json!({}));

    stage.write("alice.yaml", &key_with("alice", "short", ""));
    stage.ready_when("the refused key", |ready| ready["rejected"][0].is_object()).await;

    // The last good version: the old key.
    assert_eq!(stage.alice().post("/mcp", ping()).await.status, StatusCode::OK);
    assert_eq!(stage.bob().post("/mcp", ping()).await.status, StatusCode::OK);
    let ready = stage.client().get("/readyz").await;
    assert!(!ready.text().contains("short\""), "{}", ready.text());
}

#[tokio::test]
async fn a_server_that_moves_keeps_the_calls_it_has() {
    let (old, new) = (Fixture::start().await, Fixture::start().await);
    let gate = CancellationToken::new();
    let held = gate.clone();
    old.on("tools/call", move |seen| {
        let held = held.clone();
        async move {
            held.cancelled().await;
            done(&seen)
        }
    });
    new.offer(&["work", "more"]);
    let stage = Stage::start(&[]).await;
    stage.write("server.yaml", &old.manifest("server"));
    stage.server_is("server", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let mut listening = session.listen().await;
    let waiting = tokio::spawn({
        let session = session.with(|client| client);
        async move { session.post(call(1, "work", json!({}))).await }
    });
    old.sees("tools/call", 1).await;

    stage.write("server.yaml", &new.manifest("server"));

    listening.list_changed().await;
    assert_eq!(session.tools().await, ["more", "work"]);
    assert_eq!(text(&session.call("work", json!({})).await), "done");
    assert_eq!((old.seen_of("tools/call").len(), new.seen_of("tools/call").len()), (1, 1));
    gate.cancel();
    assert_eq!(text(&waiting.await.unwrap().json()), "done");
}

#[tokio::test]
async fn of_two_servers_with_one_tool_the_first_file_wins_and_the_loser_is_told() {
    let (first, second) = (Fixture::start().await, Fixture::start().await);
    second.offer(&["own", "work"]);
    for (winner, loser) in [("aaa", "zzz"), ("zzz", "aaa")] {
        let mut stage = Stage::empty();
        stage.write("keys.yaml", &key_with("alice", ALICE, "allow: {servers: [\"*\"]}"));
        // The name of the file decides, not that of the server.
        stage.write("1.yaml", &first.manifest(winner));
        stage.write("2.yaml", &second.manifest(loser));
        stage.open().await;
        let before = first.seen_of("tools/call").len();

        let answer = stage.alice().one_shot("/mcp", "tools/list", json!({})).await;
        assert_eq!(tool_names(&answer), ["own", "work"]);
        stage.alice().post("/mcp", call(1, "work", json!({}))).await;
        assert_eq!(first.seen_of("tools/call").len(), before + 1);
        let ready = stage.readyz().await;
        let conflicts = ready["conflicts"].as_array().unwrap();
        assert_eq!(conflicts.len(), 1, "{ready}");
        assert_eq!(conflicts[0]["resource"], format!("McpServer default/{loser}"));
        assert_eq!(conflicts[0]["reason"], "NameConflict");
        let message = conflicts[0]["message"].as_str().unwrap();
        assert!(message.contains("work") && message.contains(winner), "{message}");
        // At its own URL nobody is in its way.
        let own = stage.alice().one_shot(&format!("/mcp/{loser}"), "tools/list", json!({})).await;
        assert_eq!(tool_names(&own), ["own", "work"]);

        stage.remove("1.yaml");
        let settled = |ready: &Value| ready["conflicts"].as_array().unwrap().is_empty();
        stage.ready_when("the end of the conflict", settled).await;
        let taken = second.seen_of("tools/call").len();
        assert_eq!(
            text(&stage.alice().post("/mcp", call(1, "work", json!({}))).await.json()),
            "done"
        );
        assert_eq!(second.seen_of("tools/call").len(), taken + 1);
    }
}

#[tokio::test]
async fn a_name_is_never_taken_from_the_server_that_holds_it() {
    let holder = Fixture::start().await;
    let (older, newer) = (Fixture::start().await.announcing(), Fixture::start().await);
    older.offer(&["other"]);
    let mut stage = Stage::empty();
    stage.write("keys.yaml", &key_with("alice", ALICE, "allow: {servers: [\"*\"]}"));
    stage.write("1.yaml", &older.manifest("older"));
    stage.write("2.yaml", &holder.manifest("holder"));
    stage.open().await;
    stage.server_is("older", "connected").await;
    stage.server_is("holder", "connected").await;
    let conflict = |server: &'static str| {
        move |ready: &Value| {
            let conflicts = ready["conflicts"].as_array().unwrap();
            let resource = format!("McpServer default/{server}");
            conflicts.iter().any(|conflict| conflict["resource"] == *resource)
        }
    };

    // Of a server with the better claim: it comes too late.
    older.offer(&["other", "work"]);
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    eventually("a listener", || async { older.announce(&changed).then_some(()) }).await;
    stage.ready_when("the conflict of older", conflict("older")).await;
    // Of a server that is new.
    stage.write("0.yaml", &newer.manifest("newer"));
    stage.ready_when("the conflict of newer", conflict("newer")).await;

    let answer = stage.alice().post("/mcp", call(1, "work", json!({}))).await.json();
    assert_eq!(text(&answer), "done");
    assert_eq!(holder.seen_of("tools/call").len(), 1);
}

#[tokio::test]
async fn no_secret_of_a_broken_manifest_is_shown() {
    let stage = Stage::start(&[]).await;
    for broken in [
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {key: sesame-open\n",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: sesame-open\n",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: {key: sesame-open}\n",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {key: [sesame-open]}\n",
        "key: 'sesame-open\n",
    ] {
        stage.write("secret.yaml", broken);
        let ready = stage.ready_when(broken, |ready| ready["rejected"][0].is_object()).await;
        assert!(!ready.to_string().contains("sesame"), "{ready}");
        stage.remove("secret.yaml");
        let clean = |ready: &Value| ready["rejected"].as_array().unwrap().is_empty();
        stage.ready_when("no broken manifest", clean).await;
    }
}
