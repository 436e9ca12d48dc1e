//! Lists: of servers, in pages, and what becomes of them on the way.

use std::collections::BTreeSet;

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::client::{Session, Sse, call, request, text, tool_names};
use crate::support::eventually;
use crate::support::fixture::{Fixture, Seen, json_reply, reply, result, tool};
use crate::support::guest::Guest;
use crate::support::stage::{Stage, find};

fn changed() -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
}

fn described(name: &str, length: usize) -> Value {
    json!({"name": name, "description": "x".repeat(length), "inputSchema": {"type": "object"}})
}

#[tokio::test]
async fn a_list_over_a_mebibyte_comes_in_pages_whose_cursors_hold_for_this_list_only() {
    let fixture = Fixture::start().await.announcing();
    let names: Vec<String> = (0..2500).map(|number| format!("tool-{number:04}")).collect();
    fixture.offer_definitions(names.iter().map(|name| described(name, 1000)).collect());
    let stage = Stage::start(&[fixture.manifest("large")]).await;
    stage.server_is("large", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let mut sse = Sse::open(&stage.bob(), "/sse").await;
    let mut listening = session.listen().await;

    let mut seen = Vec::new();
    let mut cursors = Vec::new();
    let mut params = json!({});
    loop {
        let reply = session.post(request(1, "tools/list", params)).await;
        assert!(reply.body.len() < 1024 * 1024 + 4096, "{}", reply.body.len());
        seen.extend(tool_names(&reply.json()));
        let Some(cursor) = reply.json()["result"]["nextCursor"].as_str().map(str::to_owned) else {
            break;
        };
        params = json!({"cursor": cursor});
        cursors.push(cursor);
    }
    assert_eq!(seen, names);
    assert_eq!(cursors.len(), 2);
    // Anybody with the same list may go on from there.
    let page = sse.request("tools/list", json!({"cursor": cursors[1]})).await;
    assert!(!tool_names(&page).is_empty());
    // A tool of the last page can be called.
    assert_eq!(text(&session.call("tool-2499", json!({})).await), "done");

    fixture.offer_definitions(names[1..].iter().map(|name| described(name, 1000)).collect());
    assert!(fixture.announce(&changed()));
    listening.list_changed().await;
    for cursor in &cursors {
        let stale = session.request("tools/list", json!({"cursor": cursor})).await;
        assert_eq!(stale["error"]["code"], -32602, "{stale}");
    }
    let one = Session::open(&stage.alice(), "/mcp/large").await;
    for cursor in ["", "AAAA", "!", &"A".repeat(10_000)] {
        let forged = one.request("tools/list", json!({"cursor": cursor})).await;
        assert_eq!(forged["error"]["code"], -32602, "{cursor:.10}: {forged}");
    }
}

/// Answers lists in pages: each with a tool, and the cursor of the next.
fn in_pages(fixture: &Fixture, next: impl Fn(&str) -> Option<String> + Send + Sync + 'static) {
    fixture.on("tools/list", move |seen| {
        let cursor = seen.message["params"]["cursor"].as_str().unwrap_or("start").to_owned();
        let mut page = json!({"tools": [tool(&format!("at-{cursor}"))]});
        if let Some(next) = next(&cursor) {
            page["nextCursor"] = next.into();
        }
        let reply = result(&seen, &page);
        async { reply }
    });
}

#[tokio::test]
async fn all_pages_of_a_servers_list_are_read_and_a_loop_ends() {
    let fixture = Fixture::start().await;
    let follow = |cursor: &str| match cursor {
        "start" => Some("b \"é".to_owned()),
        "b \"é" => Some("c".to_owned()),
        // A cursor as good as any.
        "c" => Some(String::new()),
        _ => None,
    };
    in_pages(&fixture, follow);
    let stage = Stage::start(&[]).await;
    stage.write("server.yaml", &fixture.manifest("server"));
    let server = stage.server_is("server", "connected").await;
    assert_eq!(server["tools"], 4);
    assert_eq!(fixture.seen_of("tools/list").len(), 4);

    let looping = Fixture::start().await;
    in_pages(&looping, |cursor| Some(if cursor == "a" { "b" } else { "a" }.to_owned()));
    stage.write("looping.yaml", &looping.manifest("looping"));
    let server = stage.server_is("looping", "connected").await;
    assert!(server["tools"].as_u64().unwrap() >= 3, "{server}");
    assert!(looping.seen_of("tools/list").len() <= 4);

    let endless = Fixture::start().await;
    in_pages(&endless, |cursor| Some(cursor.parse::<u64>().map_or(0, |n| n + 1).to_string()));
    stage.write("endless.yaml", &endless.manifest("endless"));
    let server = stage.server_is("endless", "connected").await;
    assert_eq!(server["tools"], 100);
}

#[tokio::test]
async fn definitions_pass_as_they_were_written() {
    let fixture = Fixture::start().await;
    let definition = concat!(
        r#"{"x-vendor": {"b":1,"a":[1.0,1e400,123456789012345678901234567890]} ,"#,
        r#""name":"w\u006frk","execution":{"taskSupport":"optional"},"#,
        r#""inputSchema":{"type":"object","properties":{"name":{"type":"string"}}},"_meta":{"k":"v"}}"#,
    );
    fixture.on("tools/list", move |seen| async move {
        let id = seen.id();
        json_reply(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"tools":[{definition}]}}}}"#))
    });
    let stage = Stage::start(&[fixture.manifest("server")]).await;
    stage.server_is("server", "connected").await;

    let reply = stage.alice().post("/mcp", request(1, "tools/list", json!({}))).await;

    assert!(reply.text().contains(definition), "{}", reply.text());
    let answer = stage.alice().post("/mcp", call(1, "work", json!({}))).await;
    assert_eq!(text(&answer.json()), "done");
    assert_eq!(fixture.seen_of("tools/call")[0].message["params"]["name"], "work");
}

#[tokio::test]
async fn a_manifest_chooses_prefixes_and_describes_tools() {
    let fixture = Fixture::start().await;
    fixture.offer_definitions(vec![
        described("read.file", 3),
        tool("read-all"),
        tool("write"),
        json!({"name": 7}),
        tool("read-all"),
    ]);
    let rules = "tools: {prefix: p_, allow: [\"read*\", write], deny: [write], \
                 overrides: {read-all: {description: Ours}}}";
    let manifest = crate::support::manifests::server_with("server", &fixture.url(), rules);
    let stage = Stage::start(&[manifest]).await;
    stage.server_is("server", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;

    let list = session.request("tools/list", json!({})).await;

    assert_eq!(tool_names(&list), ["p_read-all", "p_read_file"]);
    let described = |tool: &&Value| tool["name"] == "p_read-all" && tool["description"] == "Ours";
    assert_eq!(list["result"]["tools"].as_array().unwrap().iter().filter(described).count(), 1);
    assert_eq!(text(&session.call("p_read_file", json!({})).await), "done");
    assert_eq!(fixture.seen_of("tools/call")[0].message["params"]["name"], "read.file");
    for hidden in ["write", "p_write", "read.file", "read_file"] {
        assert_eq!(session.call(hidden, json!({})).await["error"]["code"], -32602, "{hidden}");
    }
}

#[tokio::test]
async fn a_change_that_a_server_announces_reaches_the_sessions_it_concerns() {
    let (first, second) = (Fixture::start().await.announcing(), Fixture::start().await);
    second.offer(&["other"]);
    let stage = Stage::start(&[first.manifest("first"), second.manifest("second")]).await;
    stage.server_is("first", "connected").await;
    stage.server_is("second", "connected").await;
    let all = Session::open(&stage.alice(), "/mcp").await;
    let own = Session::open(&stage.alice(), "/mcp/first").await;
    let other = Session::open(&stage.alice(), "/mcp/second").await;
    let (mut on_all, mut on_own, mut on_other) =
        (all.listen().await, own.listen().await, other.listen().await);

    first.offer(&["work", "more"]);
    eventually("a listener", || async { first.announce(&changed()).then_some(()) }).await;

    on_all.list_changed().await;
    on_own.list_changed().await;
    assert_eq!(all.tools().await, ["more", "other", "work"]);
    assert_eq!(own.tools().await, ["more", "work"]);
    // An announcement of nothing new is no news.
    let lists = first.seen_of("tools/list").len();
    first.announce(&changed());
    first.sees("tools/list", lists + 1).await;
    first.offer(&["work"]);
    first.announce(&changed());
    on_all.list_changed().await;
    assert_eq!(all.tools().await, ["other", "work"]);
    on_other.is_silent(std::time::Duration::from_millis(50)).await;
    assert!(on_all.passed.is_empty());
}

/// Nobody announces what changed in between: the gateway does.
#[tokio::test]
async fn a_change_while_a_server_was_away_is_told_when_it_is_back() {
    for mut server in [Fixture::start().await, Fixture::modern().await] {
        let stage = Stage::start(&[server.manifest("server")]).await;
        stage.server_is("server", "connected").await;
        let session = Session::open(&stage.alice(), "/mcp").await;
        let mut listening = session.listen().await;
        let guest = Guest::new(&stage.alice(), "/mcp");
        let (mut events, _) = guest.listen(1, json!({"toolsListChanged": true})).await;

        server.kill().await;
        session.call("work", json!({})).await;
        stage.server_is("server", "unreachable").await;
        server.offer(&["more", "work"]);
        server.revive().await;

        listening.list_changed().await;
        events.list_changed().await;
        assert_eq!(session.tools().await, ["more", "work"]);
    }
}

#[tokio::test]
async fn a_list_that_fails_leaves_the_last_known_one() {
    let fixture = Fixture::start().await.announcing();
    let stage = Stage::start(&[fixture.manifest("server")]).await;
    stage.server_is("server", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    for bad in ["<html>", r#"{"jsonrpc":"2.0","id":ID,"error":{"code":-32603,"message":"no"}}"#] {
        fixture.on("tools/list", move |seen| async move {
            json_reply(bad.replace("ID", &seen.id().to_string()))
        });
        eventually("a listener", || async { fixture.announce(&changed()).then_some(()) }).await;
        let down = stage.server_is("server", "unreachable").await;
        assert!(down["reason"].is_string(), "{down}");
        assert_eq!(session.tools().await, ["work"]);
        fixture.behave();
        stage.server_is("server", "connected").await;
        assert_eq!(text(&session.call("work", json!({})).await), "done");
    }
}

#[tokio::test]
async fn names_are_the_same_after_a_restart_and_in_the_same_order() {
    let fixture = Fixture::start().await;
    fixture.offer(&["a.b", "a_b", "a:b", "work"]);
    let mut stage = Stage::start(&[fixture.manifest("server")]).await;
    let list = || request(1, "tools/list", json!({}));
    let before = stage.alice().post("/mcp", list()).await.json();
    assert_eq!(tool_names(&before).into_iter().collect::<BTreeSet<_>>().len(), 4);

    let address = stage.address();
    stage.stop().await;
    stage.open_at(address).await;

    assert_eq!(stage.alice().post("/mcp", list()).await.json(), before);
    assert_eq!(find(&stage.readyz().await, "server")["tools"], 4);
}

#[tokio::test]
async fn a_server_that_knows_no_tools_is_connected_without_any() {
    for status in [StatusCode::OK, StatusCode::BAD_REQUEST, StatusCode::NOT_FOUND] {
        let refusing = |code: i64| {
            move |seen: Seen| async move {
                let error = json!({"code": code, "message": "Method not found"});
                let body = json!({"jsonrpc": "2.0", "id": seen.id(), "error": error});
                reply(status, "application/json", body.to_string())
            }
        };
        let (fixture, broken) = (Fixture::start().await, Fixture::start().await);
        fixture.on("tools/list", refusing(-32601));
        // Another error is no list.
        broken.on("tools/list", refusing(-32603));
        let stage = Stage::start(&[fixture.manifest("prompts"), broken.manifest("broken")]).await;

        assert_eq!(stage.server_is("prompts", "connected").await["tools"], 0, "{status}");
        stage.server_is("broken", "unreachable").await;
        assert!(Session::open(&stage.alice(), "/mcp").await.tools().await.is_empty(), "{status}");
    }
}
