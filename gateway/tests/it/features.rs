//! Prompts, resources, templates and completion of several servers, and what passes by itself.

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::client::{Session, events, hello, request, text};
use crate::support::eventually;
use crate::support::fixture::{Fixture, Seen, done_text, event, event_stream, json_reply, tool};
use crate::support::guest::Guest;
use crate::support::manifests::{key_with, policy, server_with};
use crate::support::stage::Stage;

/// What a server says of itself that offers everything.
pub fn everything(name: &str) -> Value {
    json!({
        "capabilities": {
            "tools": {"listChanged": true},
            "prompts": {"listChanged": true},
            "resources": {"listChanged": true, "subscribe": true},
            "completions": {},
            "logging": {},
            "x-vendor": {"b": 1},
        },
        "serverInfo": {"name": name, "version": "1"},
        "instructions": format!("use {name} well"),
    })
}

/// Makes a server offer one of everything, and a resource that another one may offer as well.
pub fn offer_everything(server: &Fixture, name: &str) {
    server.introduces(everything(name));
    server.list("prompts", vec![json!({"name": "ask", "x-vendor": 1.5})]);
    server.list(
        "resources",
        vec![
            json!({"uri": "file:///shared", "name": name}),
            json!({"uri": format!("{name}:///own"), "name": name}),
        ],
    );
    server.list("resourceTemplates", vec![json!({"uriTemplate": "mem:///{key}", "name": name})]);
}

/// How the second of two servers shows a URI that the first one has too.
fn wrapped(uri: &str) -> String {
    format!("fairway+default+beta+{uri}")
}

/// The servers `alpha`, of the legacy era, and `beta`, of the modern one, and a gateway.
async fn alpha_and_beta() -> (Fixture, Fixture, Stage) {
    let (alpha, beta) = (Fixture::start().await, Fixture::modern().await);
    offer_everything(&alpha, "alpha");
    offer_everything(&beta, "beta");
    let stage = Stage::start(&[
        server_with("alpha", &alpha.url(), "tools: {prefix: \"a_\"}"),
        server_with("beta", &beta.url(), "tools: {prefix: \"b_\"}"),
    ])
    .await;
    stage.server_is("alpha", "connected").await;
    stage.server_is("beta", "connected").await;
    (alpha, beta, stage)
}

/// A client of either era.
enum Either {
    Legacy(Session),
    Modern(Guest),
}

impl Either {
    async fn both(stage: &Stage, path: &str) -> [Self; 2] {
        let session = Session::open(&stage.alice(), path).await;
        [Self::Legacy(session), Self::Modern(Guest::new(&stage.alice(), path))]
    }

    async fn request(&self, method: &str, params: Value) -> Value {
        match self {
            Self::Legacy(session) => session.request(method, params).await,
            Self::Modern(guest) => guest.request(method, params).await,
        }
    }
}

/// A member of all items of a list, in the order of the list.
fn all(answer: &Value, list: &str, member: &str) -> Vec<String> {
    let items = answer["result"][list].as_array().unwrap_or_else(|| panic!("{answer}"));
    items.iter().map(|item| item[member].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn prompts_have_the_prefix_of_their_server_and_none_at_its_url() {
    let (alpha, beta, stage) = alpha_and_beta().await;
    for client in Either::both(&stage, "/mcp").await {
        let list = client.request("prompts/list", json!({})).await;
        assert_eq!(all(&list, "prompts", "name"), ["a_ask", "b_ask"]);
        assert_eq!(list["result"]["prompts"][0]["x-vendor"], 1.5, "{list}");
        for name in ["a_ask", "b_ask"] {
            let answer = client.request("prompts/get", json!({"name": name})).await;
            let message = &answer["result"]["messages"][0]["content"]["text"];
            assert_eq!(message, "prompt ask", "{answer}");
            let reference = json!({"type": "ref/prompt", "name": name});
            let params = json!({"ref": reference, "argument": {"name": "x", "value": "y"}});
            let answer = client.request("completion/complete", params).await;
            assert_eq!(answer["result"]["completion"]["values"], json!(["ask"]), "{answer}");
        }
    }
    for (path, server) in [("/mcp/alpha", &alpha), ("/mcp/beta", &beta)] {
        let before = server.seen_of("prompts/get").len();
        for client in Either::both(&stage, path).await {
            let list = client.request("prompts/list", json!({})).await;
            assert_eq!(all(&list, "prompts", "name"), ["ask"]);
            client.request("prompts/get", json!({"name": "ask", "arguments": {"a": "b"}})).await;
        }
        let seen = server.seen_of("prompts/get");
        assert_eq!(seen.len(), before + 2, "{path}");
        assert_eq!(seen[before].message["params"]["arguments"], json!({"a": "b"}));
    }
    for seen in beta.seen_of("prompts/get") {
        assert_eq!(seen.headers["mcp-name"], "ask");
    }
    for seen in beta.seen_of("completion/complete") {
        assert_eq!(seen.headers["mcp-method"], "completion/complete");
        assert!(seen.headers.get("mcp-name").is_none());
    }
}

#[tokio::test]
async fn resources_of_two_servers_with_one_uri_stay_apart() {
    let (alpha, beta, stage) = alpha_and_beta().await;
    let shown = wrapped("file:///shared");
    let template = wrapped("mem:///{key}");
    for client in Either::both(&stage, "/mcp").await {
        let mut list = all(&client.request("resources/list", json!({})).await, "resources", "uri");
        list.sort();
        assert_eq!(list, ["alpha:///own", "beta:///own", &shown, "file:///shared"]);
        let list = client.request("resources/templates/list", json!({})).await;
        let mut templates = all(&list, "resourceTemplates", "uriTemplate");
        templates.sort();
        assert_eq!(templates, [&*template, "mem:///{key}"]);

        for (uri, own, server) in [
            ("file:///shared", "file:///shared", &alpha),
            (&*shown, "file:///shared", &beta),
            ("beta:///own", "beta:///own", &beta),
            ("mem:///x", "mem:///x", &alpha),
            (&*wrapped("mem:///x"), "mem:///x", &beta),
        ] {
            let answer = client.request("resources/read", json!({"uri": uri})).await;
            let content = &answer["result"]["contents"][0];
            assert_eq!(
                (&content["uri"], content["text"].as_str()),
                (&json!(uri), Some(&*format!("text of {own}")))
            );
            let seen = server.seen_of("resources/read").pop().unwrap();
            assert_eq!(seen.message["params"]["uri"], own);
        }
        for (uri, server) in [("mem:///{key}", &alpha), (&*template, &beta)] {
            let reference = json!({"type": "ref/resource", "uri": uri});
            let params = json!({"ref": reference, "argument": {"name": "key", "value": "y"}});
            let answer = client.request("completion/complete", params).await;
            assert_eq!(
                answer["result"]["completion"]["values"],
                json!(["mem:///{key}"]),
                "{answer}"
            );
            assert!(!server.seen_of("completion/complete").is_empty());
        }
    }
    // At the URL of a server nothing is like another's.
    for client in Either::both(&stage, "/mcp/beta").await {
        let list = all(&client.request("resources/list", json!({})).await, "resources", "uri");
        assert_eq!(list, ["file:///shared", "beta:///own"]);
        let answer = client.request("resources/read", json!({"uri": "file:///shared"})).await;
        assert_eq!(answer["result"]["contents"][0]["uri"], "file:///shared", "{answer}");
        if matches!(client, Either::Modern(_)) {
            let result = &answer["result"];
            assert_eq!(result["resultType"], "complete");
            assert_eq!((&result["ttlMs"], &result["cacheScope"]), (&json!(7), &json!("private")));
        }
    }
}

#[tokio::test]
async fn uris_in_links_and_embedded_resources_are_those_of_the_list() {
    let (alpha, beta, stage) = alpha_and_beta().await;
    let shown = wrapped("file:///shared");
    let block = |uri: &str| {
        json!([
            {"type": "resource_link", "uri": uri, "name": "link"},
            {"type": "resource", "resource": {"uri": uri, "text": "file:///shared"}},
            {"type": "text", "text": "file:///shared"},
        ])
    };
    for server in [&alpha, &beta] {
        let content = block("file:///shared");
        server.on("tools/call", move |seen| {
            let result =
                json!({"content": content, "structuredContent": {"uri": "file:///shared"}});
            let answer = json!({"jsonrpc": "2.0", "id": seen.id(), "result": result});
            async move { json_reply(answer.to_string()) }
        });
    }
    for client in Either::both(&stage, "/mcp").await {
        for (tool, uri) in [("a_work", "file:///shared"), ("b_work", &*shown)] {
            let answer = client.request("tools/call", json!({"name": tool})).await;
            assert_eq!(answer["result"]["content"], block(uri), "{tool}");
            assert_eq!(answer["result"]["structuredContent"], json!({"uri": "file:///shared"}));
        }
    }
}

#[tokio::test]
async fn what_is_unknown_and_what_is_forbidden_are_one_answer() {
    let (_alpha, beta, stage) = alpha_and_beta().await;
    let delta = Fixture::start().await;
    offer_everything(&delta, "delta");
    stage.write("delta.yaml", &server_with("delta", &delta.url(), "tools: {prefix: \"d_\"}"));
    stage.server_is("delta", "connected").await;
    let reference = |kind: &str, key: &str, value: &str| json!({"ref": {"type": kind, key: value}, "argument": {"name": "a", "value": ""}});
    let template = wrapped("mem:///{key}");
    let rows: Vec<(&str, Value)> = vec![
        ("prompts/get", json!({"name": "b_ask"})),
        ("resources/read", json!({"uri": "beta:///own"})),
        ("resources/read", json!({"uri": wrapped("file:///shared")})),
        ("completion/complete", reference("ref/prompt", "name", "b_ask")),
        ("completion/complete", reference("ref/resource", "uri", &template)),
        ("resources/subscribe", json!({"uri": "beta:///own"})),
    ];

    // A URI that nobody lists goes to the only server there is, if there is but one.
    for (user, servers, alone) in [("charlie", "alpha", true), ("dora", "alpha, delta", false)] {
        let key = format!("{user}-key-000");
        let fields = format!("allow: {{servers: [{servers}]}}");
        stage.write(&format!("{user}.yaml"), &key_with(user, &key, &fields));
        let client = stage.client().key(&key);
        eventually("the key", || async {
            (client.get("/mcp").await.status != StatusCode::UNAUTHORIZED).then_some(())
        })
        .await;
        let session = Session::open(&client, "/mcp").await;
        let guest = Guest::new(&client, "/mcp");
        let either = [Either::Legacy(session), Either::Modern(guest)];
        for client in &either {
            for (method, forbidden) in &rows {
                let unknown =
                    forbidden.to_string().replace("beta", "gamma").replace("b_ask", "c_ask");
                let unknown = serde_json::from_str(&unknown).unwrap();
                let masked = |mut answer: Value| {
                    answer["id"].take();
                    let text = answer.to_string().replace("beta", "NAME").replace("gamma", "NAME");
                    text.replace("b_ask", "NAME").replace("c_ask", "NAME")
                };
                let one = masked(client.request(method, forbidden.clone()).await);
                let two = masked(client.request(method, unknown).await);
                assert_eq!(one, two, "{user} {method} {forbidden}");
                let passed = alone && forbidden["uri"] == "beta:///own";
                let legacy = matches!(client, Either::Legacy(_));
                if !(passed && (legacy || *method == "resources/read")) {
                    assert!(one.contains("\"code\":-32"), "{user} {method}: {one}");
                }
            }
        }
        let [Either::Legacy(session), Either::Modern(guest)] = either else { unreachable!() };
        let list = session.request("prompts/list", json!({})).await;
        assert_eq!(all(&list, "prompts", "name")[0], "a_ask");
        assert!(!list.to_string().contains("b_ask"), "{list}");
        let wanted = json!([wrapped("file:///shared"), "alpha:///own"]);
        let (_events, honoured) = guest.listen(1, json!({"resourceSubscriptions": wanted})).await;
        assert_eq!(honoured["resourceSubscriptions"], json!(["alpha:///own"]));
    }
    for method in ["prompts/get", "resources/read", "completion/complete"] {
        assert!(beta.seen_of(method).is_empty(), "{method}");
    }
}

#[tokio::test]
async fn methods_that_only_the_server_knows_pass_at_its_url() {
    let (alpha, beta, stage) = alpha_and_beta().await;
    for server in [&alpha, &beta] {
        server.on("vendor/do", |seen| async move {
            let result = json!({"given": seen.message["params"]["x"], "resultType": "vendor"});
            json_reply(json!({"jsonrpc": "2.0", "id": seen.id(), "result": result}).to_string())
        });
    }
    stage.write("charlie.yaml", &key_with("charlie", "charlie-key-000", ""));
    stage.write("policy.yaml", &policy("charlie", &["tools: [a_work]", "tools: [b_work]"]));
    let charlie = stage.client().key("charlie-key-000");
    eventually("the key", || async {
        (charlie.get("/mcp").await.status != StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;

    for path in ["/mcp/alpha", "/mcp/beta"] {
        for client in Either::both(&stage, path).await {
            let answer = client.request("vendor/do", json!({"x": [1.50, null]})).await;
            assert_eq!(answer["result"]["given"], json!([1.50, null]), "{path}: {answer}");
        }
        // A key that may use some tools alone may not use what nobody knows.
        let answer = charlie.post(path, request(1, "vendor/do", json!({"x": 1}))).await;
        assert!(
            !answer.status.is_success() || answer.json()["error"]["code"] == -32601,
            "{answer:?}"
        );
    }
    for client in Either::both(&stage, "/mcp").await {
        let answer = client.request("vendor/do", json!({"x": 1})).await;
        assert_eq!(answer["error"]["code"], -32601, "{answer}");
    }
    assert_eq!((alpha.seen_of("vendor/do").len(), beta.seen_of("vendor/do").len()), (2, 2));
    assert_eq!(beta.seen_of("vendor/do")[0].headers["mcp-method"], "vendor/do");
}

#[tokio::test]
async fn what_a_server_says_of_itself_is_shown_at_its_url() {
    let (_alpha, _beta, stage) = alpha_and_beta().await;
    for name in ["alpha", "beta"] {
        let reply =
            stage.alice().post(&format!("/mcp/{name}"), request(0, "initialize", hello())).await;
        let result = reply.json()["result"].clone();
        assert_eq!(result["capabilities"], everything(name)["capabilities"], "{result}");
        assert_eq!(result["instructions"], format!("use {name} well"), "{result}");
        assert_eq!(result["serverInfo"]["name"], name, "{result}");
    }
    let reply = stage.alice().post("/mcp", request(0, "initialize", hello())).await;
    let result = reply.json()["result"].clone();
    assert_eq!(result["serverInfo"]["name"], "fairway", "{result}");
    for feature in ["tools", "prompts", "resources"] {
        assert_eq!(result["capabilities"][feature]["listChanged"], true, "{result}");
    }
    assert!(result.get("instructions").is_none(), "{result}");
}

#[tokio::test]
async fn each_list_has_cursors_of_its_own() {
    let server = Fixture::start().await.announcing();
    server.introduces(everything("server"));
    let many = |make: &dyn Fn(usize) -> Value| -> Vec<Value> {
        (0..1100)
            .map(|number| {
                let mut item = make(number);
                item["description"] = "x".repeat(1000).into();
                item
            })
            .collect()
    };
    let fill = || {
        server.list("tools", many(&|n| tool(&format!("t-{n:04}"))));
        server.list("prompts", many(&|n| json!({"name": format!("p-{n:04}")})));
        server.list("resources", many(&|n| json!({"uri": format!("r:{n:04}"), "name": "r"})));
        server.list(
            "resourceTemplates",
            many(&|n| json!({"uriTemplate": format!("t{n:04}:{{x}}"), "name": "t"})),
        );
    };
    fill();
    let stage = Stage::start(&[server.manifest("server")]).await;
    stage.server_is("server", "connected").await;
    let lists = [
        ("tools/list", "tools"),
        ("prompts/list", "prompts"),
        ("resources/list", "resources"),
        ("resources/templates/list", "resourceTemplates"),
    ];

    for client in Either::both(&stage, "/mcp").await {
        let mut cursors = Vec::new();
        for (method, member) in lists {
            let first = client.request(method, json!({})).await;
            let cursor = first["result"]["nextCursor"].clone();
            let second = client.request(method, json!({"cursor": cursor})).await;
            let count = |page: &Value| page["result"][member].as_array().unwrap().len();
            assert_eq!(count(&first) + count(&second), 1100, "{method}");
            assert!(second["result"].get("nextCursor").is_none(), "{method}");
            cursors.push(cursor);
        }
        for (at, (method, _)) in lists.iter().enumerate() {
            for (of, cursor) in cursors.iter().enumerate().filter(|(of, _)| *of != at) {
                let answer = client.request(method, json!({"cursor": cursor})).await;
                assert_eq!(answer["error"]["code"], -32602, "{method} with that of {of}");
            }
        }
    }
    let session = Session::open(&stage.alice(), "/mcp").await;
    let mut stale = Vec::new();
    for (method, _) in &lists[1..] {
        stale.push(session.request(method, json!({})).await["result"]["nextCursor"].clone());
    }
    server.list("prompts", many(&|n| json!({"name": format!("q-{n:04}")})));
    server.list("resources", many(&|n| json!({"uri": format!("q:{n:04}"), "name": "r"})));
    assert!(
        server.announce(&json!({"jsonrpc": "2.0", "method": "notifications/prompts/list_changed"}))
    );
    eventually("the new lists", || async {
        let list = session.request("resources/list", json!({})).await;
        (list["result"]["resources"][0]["uri"] == "q:0000").then_some(())
    })
    .await;
    for ((method, _), cursor) in lists[1..].iter().zip(stale) {
        let answer = session.request(method, json!({"cursor": cursor})).await;
        assert_eq!(answer["error"]["code"], -32602, "{method}: {:.100}", answer.to_string());
    }
}

/// Logs at two levels in the middle of each call.
fn log_in_calls(server: &Fixture) {
    server.on("tools/call", |seen| async move {
        let log = |level: &str| {
            let params = json!({"level": level, "data": level});
            event(
                &json!({"jsonrpc": "2.0", "method": "notifications/message", "params": params})
                    .to_string(),
            )
        };
        event_stream([log("info"), log("error"), event(&done_text(&seen.id()))].concat())
    });
}

/// The levels of the log messages that come with a call.
async fn levels(session: &Session, tool: &str) -> Vec<Value> {
    let body = request("l", "tools/call", json!({"name": tool}));
    let mut open = events(session.send(body).await);
    open.answer(&"l".into()).await;
    open.passed.iter().map(|event| event.json()["params"]["level"].clone()).collect()
}

#[tokio::test]
async fn each_session_has_the_log_level_it_set() {
    let (shared, own, modern) =
        (Fixture::start().await, Fixture::with_sessions().await, Fixture::modern().await);
    let all = [(&shared, "shared"), (&own, "own"), (&modern, "modern")];
    let mut manifests = Vec::new();
    for (server, name) in all {
        offer_everything(server, name);
        server.offer(&[name]);
        log_in_calls(server);
        manifests.push(server.manifest(name));
    }
    let stage = Stage::start(&manifests).await;
    for (_, name) in all {
        stage.server_is(name, "connected").await;
    }
    let strict = Session::open(&stage.alice(), "/mcp").await;
    let lax = Session::open(&stage.alice(), "/mcp").await;
    for level in [json!("loud"), json!(7), Value::Null] {
        let answer = strict.request("logging/setLevel", json!({"level": level})).await;
        assert_eq!(answer["error"]["code"], -32602, "{answer}");
    }

    let set = |session: &Session, level: &str| {
        let params = json!({"level": level});
        let body = request("s", "logging/setLevel", params);
        let client = session.client.clone();
        async move { assert_eq!(client.post("/mcp", body).await.json()["result"], json!({})) }
    };
    set(&strict, "warning").await;
    for name in ["shared", "own", "modern"] {
        assert_eq!(levels(&strict, name).await, ["error"], "{name}");
        assert_eq!(levels(&lax, name).await, ["info", "error"], "{name}");
    }

    // The server of both is told nothing, one with a leg for each that of each.
    assert!(shared.seen_of("logging/setLevel").is_empty());
    let legs = own.seen_of("tools/call");
    let told = own.sees("logging/setLevel", 1).await;
    let shape =
        |seen: &Seen| (seen.session().unwrap().to_owned(), seen.message["params"]["level"].clone());
    assert_eq!(shape(&told[0]), (legs[0].session().unwrap().to_owned(), json!("warning")));
    set(&lax, "alert").await;
    let told = own.sees("logging/setLevel", 2).await;
    assert_eq!(shape(&told[1]), (legs[1].session().unwrap().to_owned(), json!("alert")));
    let stamped: Vec<Value> = modern
        .seen_of("tools/call")
        .iter()
        .map(|seen| seen.message["params"]["_meta"]["io.modelcontextprotocol/logLevel"].clone())
        .collect();
    assert_eq!(stamped, [json!("warning"), Value::Null]);
    assert!(modern.seen_of("logging/setLevel").is_empty());
    assert!(text(&strict.call("own", json!({})).await) == "done");
}
