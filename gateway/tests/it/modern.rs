//! Clients of 2026-07-28: what each request must say, and what comes back from servers of either era.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::client::{
    Client, Session, answer, call, events, hello, notification, request, text, tool_names,
};
use crate::support::eventually;
use crate::support::fixture::{
    Fixture, Part, Seen, body, done_text, event, event_stream, part, result,
};
use crate::support::guest::Guest;
use crate::support::stage::Stage;

const MODERN: &str = "2026-07-28";
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// A server of each era, and a gateway.
async fn both() -> (Fixture, Fixture, Stage) {
    let (legacy, modern) = (Fixture::with_sessions().await, Fixture::modern().await);
    legacy.offer(&["old"]);
    modern.offer(&["new"]);
    let stage = Stage::start(&[legacy.manifest("legacy"), modern.manifest("modern")]).await;
    stage.server_is("legacy", "connected").await;
    stage.server_is("modern", "connected").await;
    (legacy, modern, stage)
}

#[tokio::test]
async fn what_every_request_must_have_is_told_with_its_status() {
    let (_legacy, _modern, stage) = both().await;
    let guest = Guest::new(&stage.alice(), "/mcp");
    let params = json!({"name": "old", "arguments": {}});
    let whole = request(1, "tools/call", guest.params(&params));
    let without = |member: &str| {
        let mut params = guest.params(&params);
        params["_meta"].as_object_mut().unwrap().remove(member);
        request(1, "tools/call", params)
    };
    let with = |member: &str, value: Value| {
        let mut params = guest.params(&params);
        params["_meta"][member] = value;
        request(1, "tools/call", params)
    };
    let good = guest.heading("tools/call", &params);
    let twice = |name: &'static str, value: &str| {
        let mut client = good.clone();
        client.headers.append(name, value.parse().unwrap());
        client
    };
    type Row = (&'static str, Client, String, u16, i64);
    let rows: Vec<Row> = vec![
        ("version", good.clone(), without(VERSION), 400, -32602),
        ("capabilities", good.clone(), without(CAPABILITIES), 400, -32602),
        ("capabilities of a kind", good.clone(), with(CAPABILITIES, json!([])), 400, -32602),
        ("version of a kind", good.clone(), with(VERSION, json!(7)), 400, -32602),
        (
            "level",
            good.clone(),
            with("io.modelcontextprotocol/logLevel", json!("loud")),
            400,
            -32602,
        ),
        ("no method", good.clone().without("mcp-method"), whole.clone(), 400, -32020),
        ("other method", good.clone().with("mcp-method", "tools/list"), whole.clone(), 400, -32020),
        ("case", good.clone().with("mcp-method", "Tools/Call"), whole.clone(), 400, -32020),
        ("two methods", twice("mcp-method", "tools/call"), whole.clone(), 400, -32020),
        ("no name", good.clone().without("mcp-name"), whole.clone(), 400, -32020),
        ("other name", good.clone().with("mcp-name", "new"), whole.clone(), 400, -32020),
        ("two names", twice("mcp-name", "old"), whole.clone(), 400, -32020),
        ("no base64", good.clone().with("mcp-name", "=?base64?!?="), whole.clone(), 400, -32020),
        ("no UTF-8", good.clone().with("mcp-name", "=?base64?/w==?="), whole.clone(), 400, -32020),
        ("no version", good.clone().without("mcp-protocol-version"), whole.clone(), 400, -32020),
        (
            "other version",
            good.clone().with("mcp-protocol-version", "2025-11-25"),
            whole.clone(),
            400,
            -32020,
        ),
        (
            "future version",
            good.clone().with("mcp-protocol-version", "2099-01-01"),
            with(VERSION, json!("2099-01-01")),
            400,
            -32022,
        ),
        ("base64", good.clone().with("mcp-name", "=?base64?b2xk?="), whole.clone(), 200, 0),
        ("all", good.clone(), whole, 200, 0),
    ];
    for (what, client, body, status, code) in rows {
        let reply = client.post("/mcp", body).await;
        assert_eq!(reply.status, status, "{what}: {reply:?}");
        assert_eq!(reply.json()["error"]["code"].as_i64().unwrap_or(0), code, "{what}: {reply:?}");
        assert_eq!(reply.json()["id"], 1, "{what}: {reply:?}");
        if code == -32022 {
            let supported = &reply.json()["error"]["data"]["supported"];
            assert!(supported.as_array().unwrap().contains(&json!("2026-07-28")), "{reply:?}");
        }
    }
}

#[tokio::test]
async fn methods_that_the_era_does_not_have_are_not_found() {
    let (legacy, modern, stage) = both().await;
    let gone = [
        ("initialize", json!({"protocolVersion": "2025-11-25", "capabilities": {}})),
        ("ping", json!({})),
        ("logging/setLevel", json!({"level": "info"})),
        ("resources/subscribe", json!({"uri": "a:b"})),
        ("resources/unsubscribe", json!({"uri": "a:b"})),
        ("nothing/at_all", json!({})),
    ];
    for path in ["/mcp", "/mcp/legacy", "/mcp/modern"] {
        let guest = Guest::new(&stage.alice(), path);
        for (method, params) in &gone {
            if *method == "nothing/at_all" && path != "/mcp" {
                continue;
            }
            let reply = guest.post(1, method, params.clone()).await;
            assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path} {method}: {reply:?}");
            assert_eq!(reply.json()["error"]["code"], -32601, "{path} {method}: {reply:?}");
            assert!(reply.headers.get("mcp-session-id").is_none());
        }
        for method in [Method::GET, Method::DELETE] {
            let status = guest.client.send(method.clone(), path, String::new()).await.status();
            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path} {method}");
        }
    }
    assert!(legacy.seen_of("ping").is_empty() && modern.seen_of("ping").is_empty());
}

#[tokio::test]
async fn discovery_tells_what_is_offered_at_each_url() {
    let (legacy, _modern, stage) = both().await;
    legacy.introduces(json!({
        "capabilities": {"tools": {}, "x-vendor": {"b": 1}},
        "serverInfo": {"name": "old one", "version": "7"},
        "instructions": "read this",
    }));
    let again = Stage::start(&[legacy.manifest("legacy")]).await;
    again.server_is("legacy", "connected").await;

    let all = Guest::new(&stage.alice(), "/mcp").request("server/discover", json!({})).await;
    let one = Guest::new(&again.alice(), "/mcp/legacy").request("server/discover", json!({})).await;

    for answer in [&all, &one] {
        let result = &answer["result"];
        assert_eq!(result["resultType"], "complete", "{answer}");
        assert_eq!(result["supportedVersions"][0], "2026-07-28", "{answer}");
        assert_eq!((&result["ttlMs"], &result["cacheScope"]), (&json!(0), &json!("private")));
        assert_eq!(result["capabilities"]["tools"]["listChanged"], true, "{answer}");
    }
    assert_eq!(all["result"]["_meta"][SERVER_INFO]["name"], "fairway", "{all}");
    assert_eq!(one["result"]["_meta"][SERVER_INFO]["name"], "old one", "{one}");
    assert_eq!(one["result"]["instructions"], "read this", "{one}");
    assert_eq!(one["result"]["capabilities"]["x-vendor"], json!({"b": 1}), "{one}");
    for method in ["server/discover", "tools/list"] {
        let reply = Guest::new(&stage.alice(), "/mcp/nope").post(1, method, json!({})).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{reply:?}");
    }
}

#[tokio::test]
async fn initialize_without_an_envelope_is_legacy_whatever_the_header_says() {
    let stage = Stage::start(&[]).await;
    let fallen_back = stage.alice().with("mcp-protocol-version", "2026-07-28");

    let reply = fallen_back.post("/mcp", request(0, "initialize", hello())).await;

    assert_eq!(reply.json()["result"]["protocolVersion"], "2025-11-25", "{reply:?}");
}

#[tokio::test]
async fn a_notification_needs_no_headers_of_the_era() {
    let stage = Stage::start(&[]).await;
    let guest = Guest::new(&stage.alice(), "/mcp");
    let params = guest.params(&json!({"requestId": 1}));

    let reply = guest.client.post("/mcp", notification("notifications/cancelled", params)).await;

    assert_eq!((reply.status, reply.body.len()), (StatusCode::ACCEPTED, 0));
}

#[tokio::test]
async fn a_response_of_a_client_is_refused() {
    let stage = Stage::start(&[]).await;
    let guest = Guest::new(&stage.alice(), "/mcp");

    let reply = guest.client.post("/mcp", answer(&json!(1), json!({"action": "accept"}))).await;

    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{reply:?}");
    assert_eq!(reply.json()["error"]["code"], -32600, "{reply:?}");
}

#[tokio::test]
async fn pages_of_other_sites_are_refused_in_this_era_too() {
    let stage = Stage::start(&[]).await;
    let mut guest = Guest::new(&stage.alice(), "/mcp");
    guest.client = guest.client.with("origin", "https://evil.example");

    let reply = guest.post(1, "server/discover", json!({})).await;

    assert_eq!(reply.status, StatusCode::FORBIDDEN, "{reply:?}");
}

#[tokio::test]
async fn lists_and_results_of_either_era_have_what_a_client_of_this_one_needs() {
    let (legacy, modern, stage) = both().await;
    let guest = Guest::new(&stage.alice(), "/mcp");

    let list = guest.request("tools/list", json!({})).await;

    assert_eq!(tool_names(&list), ["new", "old"]);
    let result = &list["result"];
    assert_eq!(result["resultType"], "complete", "{list}");
    assert_eq!((&result["ttlMs"], &result["cacheScope"]), (&json!(0), &json!("private")));
    for tool in ["old", "new"] {
        let answer = guest.call(tool, json!({})).await;
        assert_eq!(text(&answer), "done");
        assert_eq!(answer["result"]["resultType"], "complete", "{answer}");
        assert!(answer["result"]["_meta"][SERVER_INFO]["name"].is_string(), "{answer}");
    }
    // The legacy server sees nothing of the envelope, the modern one all of it.
    let old = &legacy.seen_of("tools/call")[0];
    assert_eq!(old.message["params"].get("_meta").cloned().unwrap_or_else(|| json!({})), json!({}));
    assert!(old.headers.get("mcp-method").is_none(), "{old:?}");
    let new = &modern.seen_of("tools/call")[0];
    assert_eq!(new.message["params"]["_meta"], guest.meta);
    assert_eq!(new.headers["mcp-protocol-version"], "2026-07-28");
    // No session is begun for anybody.
    assert!(modern.seen_of("initialize").is_empty() && new.session().is_none());
}

#[tokio::test]
async fn a_legacy_client_uses_tools_of_a_modern_server() {
    let (_legacy, modern, stage) = both().await;
    let session = Session::open(&stage.alice(), "/mcp").await;

    assert_eq!(session.tools().await, ["new", "old"]);
    let answer = session.call("new", json!({"n": 1})).await;

    assert_eq!(text(&answer), "done");
    assert!(answer["result"].get("resultType").is_none(), "{answer}");
    let seen = &modern.seen_of("tools/call")[0];
    assert_eq!(seen.message["params"]["arguments"], json!({"n": 1}));
    let meta = &seen.message["params"]["_meta"];
    assert_eq!((&meta[VERSION], &meta[CAPABILITIES]), (&json!("2026-07-28"), &json!({})));
    assert_eq!(seen.headers["mcp-method"], "tools/call");
    assert_eq!(seen.headers["mcp-name"], "new");
    assert!(seen.headers.get("mcp-session-id").is_none());
}

#[tokio::test]
async fn headers_are_made_anew_for_the_server() {
    let server = Fixture::modern().await;
    let schema = json!({"type": "object", "properties": {
        "city": {"type": "string", "x-mcp-header": "City"},
        "count": {"type": "integer", "x-mcp-header": "Count"},
    }});
    server.offer_definitions(vec![json!({"name": "work", "inputSchema": schema})]);
    let manifest =
        crate::support::manifests::server_with("server", &server.url(), "tools: {prefix: \"my_\"}");
    let stage = Stage::start(&[manifest]).await;
    stage.server_is("server", "connected").await;
    let guest = Guest::new(&stage.alice(), "/mcp");
    let params = json!({"name": "my_work", "arguments": {"city": "Zürich", "count": 3}});
    let good = guest
        .heading("tools/call", &params)
        .with("mcp-param-city", "=?base64?WsO8cmljaA==?=")
        .with("mcp-param-count", "3")
        .with("mcp-param-other", "not ours")
        .with("x-custom", "not ours")
        .with("traceparent", "00-11111111111111111111111111111111-2222222222222222-01");
    let trace = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-01";
    let mut sent = guest.params(&params);
    sent["_meta"]["traceparent"] = trace.into();

    let reply = good.post("/mcp", request(1, "tools/call", sent)).await;

    assert_eq!(text(&reply.json()), "done");
    let seen = &server.seen_of("tools/call")[0];
    assert_eq!(seen.headers["mcp-name"], "work");
    assert_eq!(seen.message["params"]["name"], "work");
    assert_eq!(seen.headers["mcp-param-city"], "=?base64?WsO8cmljaA==?=");
    assert_eq!(seen.headers["mcp-param-count"], "3");
    assert_eq!(seen.headers.get_all("mcp-name").iter().count(), 1);
    for header in ["mcp-param-other", "x-custom", "x-api-key"] {
        assert!(seen.headers.get(header).is_none(), "{header} is passed on");
    }
    assert_eq!(seen.message["params"]["_meta"]["traceparent"], trace);
    assert_eq!(seen.headers["traceparent"], good.headers["traceparent"]);
    // A legacy client sends none, and the server gets them all the same.
    let session = Session::open(&stage.alice(), "/mcp").await;
    assert_eq!(text(&session.call("my_work", params["arguments"].clone()).await), "done");
    let seen = &server.seen_of("tools/call")[1];
    assert_eq!(seen.headers["mcp-param-city"], "=?base64?WsO8cmljaA==?=");
    for client in
        [good.clone().with("mcp-param-count", "4"), good.clone().without("mcp-param-city")]
    {
        let body = request(1, "tools/call", guest.params(&params));
        let reply = client.post("/mcp", body).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{reply:?}");
        assert_eq!(reply.json()["error"]["code"], -32020, "{reply:?}");
    }
    assert_eq!(server.seen_of("tools/call").len(), 2);
}

#[tokio::test]
async fn a_trace_goes_on_at_servers_of_both_eras() {
    let (legacy, modern, stage) = both().await;
    let traced = |client: Client| {
        client
            .with("traceparent", "00-11111111111111111111111111111111-2222222222222222-01")
            .with("tracestate", "a=b")
    };
    let session = Session::open(&stage.alice(), "/mcp").await.with(traced);
    let mut guest = Guest::new(&stage.alice(), "/mcp");
    guest.client = traced(guest.client);
    let own = json!({"traceparent": "00-own", "baggage": "c=d"});

    for (server, tool) in [(&legacy, "old"), (&modern, "new")] {
        let params = json!({"name": tool, "_meta": own});
        session.request("tools/call", params.clone()).await;
        guest.request("tools/call", params).await;

        let calls = server.seen_of("tools/call");
        assert_eq!(calls.len(), 2);
        for seen in calls {
            for header in ["traceparent", "tracestate"] {
                assert_eq!(seen.headers[header], session.client.headers[header], "{tool}");
            }
            let meta = &seen.message["params"]["_meta"];
            for member in ["traceparent", "baggage"] {
                assert_eq!(meta[member], own[member], "{tool}: {meta}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_has_cancelled() {
    let (legacy, modern, stage) = both().await;
    for server in [&legacy, &modern] {
        server.on("tools/call", |_| async {
            // A sign that the call has begun, then nothing.
            let progress = json!({"jsonrpc": "2.0", "method": "notifications/x"});
            event_stream(body(vec![part(event(&progress.to_string())), Part::Hang]))
        });
    }
    let guest = Guest::new(&stage.alice(), "/mcp");

    let mut open = events(guest.send(1, "tools/call", json!({"name": "old"})).await);
    open.message("notifications/x").await;
    drop(open);

    let cancelled = legacy.sees("notifications/cancelled", 1).await;
    let called = &legacy.seen_of("tools/call")[0];
    assert_eq!(cancelled[0].message["params"]["requestId"], called.id());
    assert_eq!(cancelled[0].session(), called.session());

    modern.hold("tools/call");
    let held = tokio::spawn({
        let guest = Guest::new(&stage.alice(), "/mcp");
        async move { guest.call("new", json!({})).await }
    });
    modern.sees("tools/call", 1).await;
    held.abort();
    modern.is_left_alone().await;
    assert!(modern.seen_of("notifications/cancelled").is_empty());
}

#[tokio::test]
async fn progress_has_the_token_of_the_client_in_all_cells() {
    let (legacy, modern, stage) = both().await;
    for server in [&legacy, &modern] {
        server.on("tools/call", |seen| async move {
            let token = seen.message["params"]["_meta"]["progressToken"].clone();
            let params = json!({"progressToken": token, "progress": 1});
            let progress =
                json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params});
            let events = [event(&progress.to_string()), event(&done_text(&seen.id()))];
            event_stream(events.concat())
        });
    }
    let guest = Guest::new(&stage.alice(), "/mcp");
    let session = Session::open(&stage.bob(), "/mcp").await;

    for tool in ["old", "new"] {
        for token in [json!("t"), json!(7)] {
            let params = json!({"name": tool, "_meta": {"progressToken": token}});
            let response = guest.send(1, "tools/call", params.clone()).await;
            let told = events(response).message("notifications/progress").await;
            assert_eq!(told["params"]["progressToken"], token, "{tool}");
            let response = session.send(request(2, "tools/call", params)).await;
            let told = events(response).message("notifications/progress").await;
            assert_eq!(told["params"]["progressToken"], token, "{tool}");
        }
    }
}

#[tokio::test]
async fn log_messages_come_only_to_who_asked_for_them() {
    let (legacy, modern, stage) = both().await;
    for server in [&legacy, &modern] {
        server.on("tools/call", |seen| async move {
            let log = |level: &str| {
                let params = json!({"level": level, "data": level});
                let message =
                    json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params});
                event(&message.to_string())
            };
            event_stream([log("info"), log("error"), event(&done_text(&seen.id()))].concat())
        });
    }
    let silent = Guest::new(&stage.alice(), "/mcp");
    let wanting = Guest::new(&stage.alice(), "/mcp")
        .with("io.modelcontextprotocol/logLevel", json!("warning"));

    for tool in ["old", "new"] {
        let params = json!({"name": tool});
        let reply = silent.post(1, "tools/call", params.clone()).await;
        assert!(!reply.text().contains("notifications/message"), "{tool}: {reply:?}");
        let mut told = events(wanting.send(1, "tools/call", params).await);
        told.answer(&1.into()).await;
        let levels: Vec<Value> =
            told.passed.iter().map(|event| event.json()["params"]["level"].clone()).collect();
        assert_eq!(levels, ["error"], "{tool}");
    }
}

#[tokio::test]
async fn errors_of_legacy_servers_become_those_of_this_era() {
    let (legacy, _modern, stage) = both().await;
    legacy.on("tools/call", |seen| async move {
        let error = json!({"code": -32002, "message": "gone", "data": {"uri": "a:b"}});
        let answer = json!({"jsonrpc": "2.0", "id": seen.id(), "error": error});
        crate::support::fixture::json_reply(answer.to_string())
    });

    let guest = Guest::new(&stage.alice(), "/mcp");
    let answer = guest.call("old", json!({})).await;

    assert_eq!(answer["error"]["code"], -32602, "{answer}");
    assert_eq!(answer["error"]["data"]["uri"], "a:b", "{answer}");
    let session = Session::open(&stage.alice(), "/mcp").await;
    assert_eq!(session.call("old", json!({})).await["error"]["code"], -32002);
}

#[tokio::test]
async fn a_request_of_this_era_begins_no_session_and_heeds_none() {
    let (_legacy, modern, stage) = both().await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let id = session.client.headers["mcp-session-id"].to_str().unwrap();
    let mut guest = Guest::new(&stage.alice(), "/mcp");
    guest.client = guest.client.with("mcp-session-id", id);

    let reply = guest.post(1, "tools/call", json!({"name": "new"})).await;

    assert_eq!(text(&reply.json()), "done");
    assert!(reply.headers.get("mcp-session-id").is_none());
    // Two clients at once may use one id.
    let gate = modern.hold("tools/call");
    let params = json!({"name": "new"});
    let (first, second, ()) = tokio::join!(
        guest.post(1, "tools/call", params.clone()),
        guest.post(1, "tools/call", params.clone()),
        async {
            modern.sees("tools/call", 3).await;
            gate.cancel();
        }
    );
    assert_eq!((text(&first.json()), text(&second.json())), ("done", "done"));
    // A session that is not known any more means nothing to this era.
    guest.client = guest.client.with("mcp-session-id", "made-up");
    let reply = guest.post(1, "tools/call", params).await;
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    let legacy = stage.alice().with("mcp-session-id", "made-up");
    assert_eq!(legacy.post("/mcp", call(1, "new", json!({}))).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_server_that_comes_back_in_another_era_is_spoken_to_in_that() {
    let mut server = Fixture::with_sessions().await;
    let stage = Stage::start(&[server.manifest("server")]).await;
    stage.server_is("server", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    let guest = Guest::new(&stage.alice(), "/mcp");
    let discovered = |seen: Seen| async move {
        let found = json!({
            "resultType": "complete", "supportedVersions": [MODERN], "capabilities": {"tools": {}},
        });
        result(&seen, &found)
    };

    for version in ["2025-11-25", MODERN, "2025-11-25"] {
        server.kill().await;
        session.call("work", json!({})).await;
        stage.server_is("server", "unreachable").await;
        // Its sessions are those of one era alone.
        server.keep_sessions(version != MODERN);
        if version == MODERN {
            server.on("server/discover", discovered);
        } else {
            server.behave();
        }
        server.revive().await;
        stage.server_is("server", "connected").await;

        let before = server.seen_of("tools/call").len();
        assert_eq!(text(&session.call("work", json!({})).await), "done");
        assert_eq!(text(&guest.call("work", json!({})).await), "done");
        let lists = server.seen_of("tools/list");
        let own = lists[lists.len() - 1].session();
        for seen in &server.seen_of("tools/call")[before..] {
            assert_eq!(seen.headers["mcp-protocol-version"], version);
            assert_eq!(seen.session().is_some(), version != MODERN);
            // Each client has its own, and none that of the gateway.
            assert!(seen.session().is_none() || seen.session() != own);
        }
    }
}

#[tokio::test]
async fn a_modern_server_that_goes_and_comes_back_is_used_again() {
    let (_legacy, mut modern, stage) = both().await;
    let guest = Guest::new(&stage.alice(), "/mcp");

    modern.kill().await;
    let answer = guest.call("new", json!({})).await;
    assert_eq!(answer["error"]["code"], -33000, "{answer}");
    modern.revive().await;
    stage.server_is("modern", "connected").await;

    let answer = eventually("the server", || async {
        let answer = guest.call("new", json!({})).await;
        answer.get("result").is_some().then_some(answer)
    })
    .await;
    assert_eq!(text(&answer), "done");
}
