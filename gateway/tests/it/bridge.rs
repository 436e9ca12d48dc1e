//! What servers ask of clients in the middle of a call, between clients and servers of either era.

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};

use crate::support::client::{
    Client, Session, Sse, answer, call, events, fault, hello_with, request, text,
};
use crate::support::events::Events;
use crate::support::fixture::{Fixture, done_text, driven, event, event_stream, json_reply};
use crate::support::guest::Guest;
use crate::support::legacy::Legacy;
use crate::support::modern::input;
use crate::support::stage::Stage;
use crate::support::{eventually, within};

pub const KINDS: [&str; 3] = ["elicitation/create", "sampling/createMessage", "roots/list"];

/// A client that can do everything.
pub fn able() -> Value {
    json!({"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {"listChanged": true}})
}

/// What a server asks with a method.
pub fn asked(method: &str) -> Value {
    match method {
        "elicitation/create" => {
            json!({"message": "who?", "requestedSchema": {"type": "object", "properties": {}}})
        }
        "sampling/createMessage" => json!({"messages": [], "maxTokens": 1, "x-vendor": 1.5}),
        _ => json!({}),
    }
}

/// What a client answers to it.
pub fn answered(method: &str) -> Value {
    match method {
        "elicitation/create" => json!({"action": "accept", "content": {"name": "A"}}),
        "sampling/createMessage" => {
            json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "hi"}})
        }
        _ => json!({"roots": [{"uri": "file:///a"}]}),
    }
}

pub fn question(id: Value, method: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": asked(method)})
}

/// All kinds of questions, with ids of all kinds.
pub fn questions() -> Vec<Value> {
    let ids = [json!("q-0"), json!(0), json!("7")];
    ids.into_iter().zip(KINDS).map(|(id, method)| question(id, method)).collect()
}

/// What the server of [`questions`] hears, as it tells in its result.
pub fn told(answer: &Value) -> Vec<Value> {
    serde_json::from_str(text(answer)).unwrap()
}

/// Reads a question of each method and answers it; the ids under which the client was asked.
pub async fn converse(
    events: &mut Events,
    (client, path): (&Client, &str),
    methods: &[&str],
) -> Vec<Value> {
    let mut ids = Vec::new();
    for method in methods {
        let message = events.message(method).await;
        assert_eq!(message["params"], asked(method), "{message}");
        assert!(message["id"].is_u64(), "{message}");
        let reply = client.post(path, answer(&message["id"], answered(method))).await;
        assert_eq!(reply.status, StatusCode::ACCEPTED, "{reply:?}");
        ids.push(message["id"].clone());
    }
    ids
}

async fn stage(server: &Fixture) -> Stage {
    let stage = Stage::start(&[server.manifest("server")]).await;
    stage.server_is("server", "connected").await;
    stage
}

/// A session over HTTP+SSE of a client that can do so much.
async fn sse(client: &Client, capabilities: Value) -> Sse {
    let mut sse = Sse::open(client, "/sse").await;
    sse.request("initialize", hello_with(capabilities)).await;
    sse
}

#[tokio::test]
async fn a_legacy_server_asks_a_legacy_client() {
    let server = Fixture::with_sessions().await;
    let mut all = questions();
    all.insert(1, json!({"jsonrpc": "2.0", "id": "p", "method": "ping"}));
    server.asks(all);
    let stage = stage(&server).await;
    let session = Session::open_with(&stage.alice(), "/mcp", able()).await;
    let mut sse = sse(&stage.bob(), able()).await;

    let mut open = events(session.send(call("mine", "work", json!({}))).await);
    let ids = converse(&mut open, (&session.client, "/mcp"), &KINDS).await;
    let over_http = open.answer(&"mine".into()).await;
    assert_eq!(sse.post(call(77, "work", json!({}))).await.status, StatusCode::ACCEPTED);
    converse(&mut sse.events, (&sse.client, &sse.endpoint), &KINDS).await;
    let over_sse = sse.events.answer(&77.into()).await;

    assert_eq!(ids.len(), 3);
    for over in [over_http, over_sse] {
        let told = told(&over);
        assert_eq!(told.len(), 4, "{over}");
        // A ping is none of the client's business.
        assert_eq!((&told[1]["id"], &told[1]["result"]), (&json!("p"), &json!({})));
        for (at, (id, method)) in [json!("q-0"), json!(0), json!("7")].iter().zip(KINDS).enumerate()
        {
            let heard = &told[if at == 0 { 0 } else { at + 1 }];
            assert_eq!((&heard["id"], &heard["result"]), (id, &answered(method)), "{heard}");
        }
    }
    // Each leg says what its client can do, the gateway's own nothing.
    let hellos = server.seen_of("initialize");
    let said: Vec<&Value> =
        hellos.iter().map(|seen| &seen.message["params"]["capabilities"]).collect();
    assert_eq!(said, [&json!({}), &able(), &able()]);
}

#[tokio::test]
async fn a_legacy_server_asks_a_modern_client_round_by_round() {
    let server = Fixture::with_sessions().await;
    server.asks(questions());
    let stage = stage(&server).await;
    let guest = Guest::new(&stage.alice(), "/mcp").can(able());
    let mut json = Guest::new(&stage.alice(), "/mcp").can(able());
    json.client = json.client.with("accept", "application/json");

    for guest in [guest, json] {
        let before = server.seen_of("tools/call").len();
        let mut result = guest.call("work", json!({})).await;
        for method in KINDS {
            assert_eq!(result["result"]["resultType"], "input_required", "{result}");
            let inputs = result["result"]["inputRequests"].as_object().unwrap().clone();
            assert_eq!(inputs.len(), 1, "{result}");
            let (key, asks) = inputs.iter().next().unwrap();
            assert_eq!(*asks, input(method, asked(method)));
            result = guest.answer("work", &result, json!({key: answered(method)})).await;
        }

        assert_eq!(result["result"]["resultType"], "complete", "{result}");
        let told = told(&result);
        for (heard, asked) in told.iter().zip(questions()) {
            let method = asked["method"].as_str().unwrap();
            assert_eq!(
                heard,
                &json!({"jsonrpc": "2.0", "id": asked["id"], "result": answered(method)})
            );
        }
        // For the server it was one call.
        assert_eq!(server.seen_of("tools/call").len(), before + 1);
    }
}

#[tokio::test]
async fn a_modern_server_asks_a_legacy_client() {
    let server = Fixture::modern().await;
    server.requires(vec![
        json!({"a": input(KINDS[0], asked(KINDS[0])), "b \"é": input(KINDS[1], asked(KINDS[1]))}),
        json!({"c": input(KINDS[2], asked(KINDS[2]))}),
    ]);
    let stage = stage(&server).await;
    let session = Session::open_with(&stage.alice(), "/mcp", able()).await;
    let mut sse = sse(&stage.bob(), able()).await;

    let mut open = events(session.send(call("mine", "work", json!({"n": 1.50}))).await);
    converse(&mut open, (&session.client, "/mcp"), &KINDS).await;
    let over_http = open.answer(&"mine".into()).await;
    sse.post(call(77, "work", json!({}))).await;
    converse(&mut sse.events, (&sse.client, &sse.endpoint), &KINDS).await;
    let over_sse = sse.events.answer(&77.into()).await;

    let responses = |answer: &Value| serde_json::from_str::<Value>(text(answer)).unwrap();
    for over in [&over_http, &over_sse] {
        assert_eq!(responses(over), json!({"c": answered(KINDS[2])}));
        assert!(over["result"].get("resultType").is_none(), "{over}");
    }
    let calls = server.seen_of("tools/call");
    assert_eq!(calls.len(), 6);
    let (first, second) = (&calls[0].message["params"], &calls[1].message["params"]);
    assert!(first.get("requestState").is_none() && first.get("inputResponses").is_none());
    assert_eq!(second["requestState"], "state-1");
    assert_eq!(
        second["inputResponses"],
        json!({"a": answered(KINDS[0]), "b \"é": answered(KINDS[1])})
    );
    assert_eq!(second["arguments"], first["arguments"]);
    assert_eq!(first["_meta"]["io.modelcontextprotocol/clientCapabilities"], able());
    assert_ne!(calls[0].id(), calls[1].id(), "each try is a request of its own");
}

#[tokio::test]
async fn a_modern_server_asks_a_modern_client_by_itself() {
    let server = Fixture::modern().await;
    let requests = json!({"a": input(KINDS[0], asked(KINDS[0])), "b": input(KINDS[2], json!({}))});
    server.requires(vec![requests.clone(), json!({"c": input(KINDS[2], json!({}))})]);
    let stage = stage(&server).await;
    let guest = Guest::new(&stage.alice(), "/mcp").can(able());

    let first = guest.call("work", json!({})).await;

    assert_eq!(first["result"]["inputRequests"], requests, "{first}");
    assert_eq!(first["result"]["requestState"], "state-1", "{first}");
    assert!(first["result"].get("ttlMs").is_none(), "what asks is not kept: {first}");
    // Nothing is kept here: any gateway, and any client with the key, may go on.
    let responses = json!({"a": answered(KINDS[0]), "b": answered(KINDS[2])});
    let other = Guest::new(&stage.alice(), "/mcp").can(able());
    let second = other.answer("work", &first, responses.clone()).await;
    assert_eq!(second["result"]["requestState"], "state-2", "{second}");
    assert_eq!(server.seen_of("tools/call")[1].message["params"]["inputResponses"], responses);
    let done = other.answer("work", &second, json!({"c": 1})).await;
    assert_eq!(text(&done), r#"{"c":1}"#);
}

#[tokio::test]
async fn a_server_over_http_and_sse_asks_clients_of_both_eras() {
    let server = Legacy::start().await;
    server.on_call(|call| vec![question(json!(format!("q-{}", call["id"])), KINDS[0]).to_string()]);
    server.on_answer(|answer| {
        let call: Value = answer["id"].as_str().unwrap()["q-".len()..].parse().unwrap();
        assert_eq!(answer["result"], answered(KINDS[0]));
        vec![done_text(&call)]
    });
    let stage = Stage::start(&[server.manifest("server")]).await;
    stage.server_is("server", "connected").await;

    let session = Session::open_with(&stage.alice(), "/mcp", able()).await;
    let mut open = events(session.send(call("mine", "work", json!({}))).await);
    converse(&mut open, (&session.client, "/mcp"), &KINDS[..1]).await;
    assert_eq!(text(&open.answer(&"mine".into()).await), "done");

    let guest = Guest::new(&stage.bob(), "/mcp").can(able());
    let required = guest.call("work", json!({})).await;
    let inputs = required["result"]["inputRequests"].as_object().unwrap().clone();
    let key = inputs.keys().next().unwrap();
    let done = guest.answer("work", &required, json!({key: answered(KINDS[0])})).await;
    assert_eq!(text(&done), "done");
}

#[tokio::test]
async fn clients_that_are_asked_at_once_get_only_their_own() {
    let legacy = Fixture::with_sessions().await;
    legacy.offer(&["old"]);
    legacy.asks(vec![json!({"jsonrpc": "2.0", "method": KINDS[0], "params": asked(KINDS[0])})]);
    let modern = Fixture::modern().await;
    modern.offer(&["new"]);
    modern.requires(vec![json!({"a": input(KINDS[0], asked(KINDS[0]))})]);
    let stage = Stage::start(&[legacy.manifest("legacy"), modern.manifest("modern")]).await;
    stage.server_is("legacy", "connected").await;
    stage.server_is("modern", "connected").await;

    let clients = (0..8).map(|number| {
        let client = if number % 2 == 0 { stage.alice() } else { stage.bob() };
        async move {
            let own = json!({"action": "accept", "content": {"number": number}});
            let session = Session::open_with(&client, "/mcp", able()).await;
            let guest = Guest::new(&client, "/mcp").can(able());
            for tool in ["old", "new"] {
                let mut open = events(session.send(call(1, tool, json!({}))).await);
                let message = open.message(KINDS[0]).await;
                session.post(answer(&message["id"], own.clone())).await;
                let answer = open.answer(&1.into()).await;
                assert!(text(&answer).contains(&own.to_string()), "{number} {tool}: {answer}");
                let other =
                    |event: &crate::support::events::Event| event.json()["method"] == KINDS[0];
                assert!(!open.passed.iter().any(other), "{number} {tool}: {:?}", open.passed);

                let required = guest.call(tool, json!({})).await;
                let inputs = required["result"]["inputRequests"].as_object().unwrap().clone();
                let key = inputs.keys().next().unwrap();
                let answer = guest.answer(tool, &required, json!({key: own})).await;
                assert!(text(&answer).contains(&own.to_string()), "{number} {tool}: {answer}");
            }
        }
    });
    within("all clients", join_all(clients)).await;
}

#[tokio::test]
async fn a_modern_server_that_is_never_content_is_given_up() {
    let server = Fixture::modern().await;
    server.requires(vec![json!({"a": input("roots/list", json!({}))}); 12]);
    let stage = stage(&server).await;
    let session = Session::open_with(&stage.alice(), "/mcp", able()).await;

    let mut open = events(session.send(call(1, "work", json!({}))).await);
    converse(&mut open, (&session.client, "/mcp"), &["roots/list"; 10]).await;
    let answer = open.answer(&1.into()).await;

    assert!(fault(&answer).contains("ten rounds"), "{answer}");
    assert_eq!(server.seen_of("tools/call").len(), 11);
}

#[tokio::test]
async fn who_never_said_that_it_can_is_never_asked() {
    let (legacy, modern) = (Fixture::with_sessions().await, Fixture::modern().await);
    legacy.offer(&["old"]);
    legacy.asks(vec![question(json!("q"), KINDS[0])]);
    modern.offer(&["new"]);
    modern.requires(vec![json!({"a": input(KINDS[0], asked(KINDS[0]))})]);
    let stage = Stage::start(&[legacy.manifest("legacy"), modern.manifest("modern")]).await;
    stage.server_is("legacy", "connected").await;
    stage.server_is("modern", "connected").await;
    let session = Session::open_with(&stage.alice(), "/mcp", json!({"roots": {}})).await;
    let mut sse = sse(&stage.alice(), json!({"sampling": {}})).await;
    let guest = Guest::new(&stage.alice(), "/mcp").can(json!({"elicitation": {"url": {}}}));

    let over_sse = sse.call("old", json!({})).await;
    for answer in
        [session.call("old", json!({})).await, over_sse, guest.call("old", json!({})).await]
    {
        assert_eq!(told(&answer)[0]["error"]["code"], -32601, "{answer}");
    }
    let over_sse = sse.call("new", json!({})).await;
    for answer in [session.call("new", json!({})).await, over_sse] {
        assert!(fault(&answer).contains("input that this client does not give"), "{answer}");
    }
    assert!(sse.events.passed.is_empty(), "{:?}", sse.events.passed);
}

#[tokio::test]
async fn the_refusal_of_a_client_reaches_the_server() {
    let (legacy, modern) = (Fixture::with_sessions().await, Fixture::modern().await);
    legacy.offer(&["old"]);
    legacy.asks(vec![question(json!("q"), KINDS[1])]);
    modern.offer(&["form"]);
    modern.requires(vec![json!({"a": input(KINDS[0], asked(KINDS[0]))})]);
    let sampling = Fixture::modern().await;
    sampling.offer(&["sample"]);
    sampling.requires(vec![json!({"a": input(KINDS[1], asked(KINDS[1]))})]);
    let stage = Stage::start(&[
        legacy.manifest("legacy"),
        modern.manifest("modern"),
        sampling.manifest("sampling"),
    ])
    .await;
    for server in ["legacy", "modern", "sampling"] {
        stage.server_is(server, "connected").await;
    }
    let session = Session::open_with(&stage.alice(), "/mcp", able()).await;

    let mut answers = Vec::new();
    for (tool, method) in [("old", KINDS[1]), ("form", KINDS[0]), ("sample", KINDS[1])] {
        let mut open = events(session.send(call(1, tool, json!({}))).await);
        let id = open.message(method).await["id"].clone();
        let error = json!({"code": -1, "message": "not now", "data": {"why": 1}});
        session.post(json!({"jsonrpc": "2.0", "id": id, "error": error})).await;
        answers.push(open.answer(&1.into()).await);
    }

    let error = json!({"code": -1, "message": "not now", "data": {"why": 1}});
    assert_eq!(told(&answers[0]), [json!({"jsonrpc": "2.0", "id": "q", "error": error})]);
    // A person who does not answer is one who cancels.
    assert_eq!(text(&answers[1]), r#"{"a":{"action":"cancel"}}"#);
    assert!(fault(&answers[2]).contains("error -1"), "{}", answers[2]);
}

#[tokio::test]
async fn a_state_serves_its_key_and_its_request_once() {
    let server = Fixture::with_sessions().await;
    server.offer(&["work", "other"]);
    server.asks(vec![question(json!("q"), KINDS[0])]);
    let stage = stage(&server).await;
    let alice = Guest::new(&stage.alice(), "/mcp").can(able());
    let bob = Guest::new(&stage.bob(), "/mcp").can(able());
    let required = alice.call("work", json!({})).await;
    let state = required["result"]["requestState"].clone();
    let inputs = required["result"]["inputRequests"].as_object().unwrap().clone();
    let responses = json!({inputs.keys().next().unwrap(): answered(KINDS[0])});
    let with = |name: &str, arguments: Value, state: &Value| {
        json!({
            "name": name, "arguments": arguments, "inputResponses": responses, "requestState": state,
        })
    };
    let good = with("work", json!({}), &state);
    let made_up = state.as_str().unwrap().replace(|c: char| c.is_ascii_digit(), "A");
    let short = json!("fairway-call:AAAA");

    for (what, guest, params) in [
        ("another key", &bob, good.clone()),
        ("another tool", &alice, with("other", json!({}), &state)),
        ("other arguments", &alice, with("work", json!({"a": 1}), &state)),
        ("made up", &alice, with("work", json!({}), &json!(format!("{made_up}A")))),
        ("too short", &alice, with("work", json!({}), &short)),
    ] {
        let answer = guest.request("tools/call", params).await;
        assert_eq!(answer["error"]["code"], -32602, "{what}: {answer}");
    }
    let done = alice.request("tools/call", good.clone()).await;
    assert_eq!(told(&done)[0]["result"], answered(KINDS[0]));
    let again = alice.request("tools/call", good).await;
    assert_eq!(again["error"]["code"], -32602, "used twice: {again}");
    assert_eq!(server.seen_of("tools/call").len(), 1);
}

#[tokio::test]
async fn a_state_of_the_clients_own_making_reaches_no_legacy_server() {
    let server = Fixture::with_sessions().await;
    let stage = stage(&server).await;
    let guest = Guest::new(&stage.alice(), "/mcp");
    let params = json!({"name": "work", "inputResponses": {"a": 1}, "requestState": "mine"});

    let answer = guest.request("tools/call", params).await;

    assert_eq!(text(&answer), "done");
    let seen = &server.seen_of("tools/call")[0].message["params"];
    assert!(seen.get("requestState").is_none() && seen.get("inputResponses").is_none(), "{seen}");
}

#[tokio::test]
async fn pages_that_a_legacy_server_wants_visited_become_required_input() {
    let server = Fixture::start().await;
    let page =
        json!({"mode": "url", "url": "https://a.example", "message": "m", "elicitationId": "e"});
    let elicitations = json!({"elicitations": [page.clone()]});
    let error = json!({"code": -32042, "message": "visit", "data": elicitations});
    server.on("tools/call", move |seen| {
        let answer = json!({"jsonrpc": "2.0", "id": seen.id(), "error": error});
        async move { json_reply(answer.to_string()) }
    });
    let stage = stage(&server).await;
    let guest = Guest::new(&stage.alice(), "/mcp").can(able());

    let required = guest.call("work", json!({})).await;

    assert_eq!(required["result"]["resultType"], "input_required", "{required}");
    let inputs = required["result"]["inputRequests"].as_object().unwrap().clone();
    assert_eq!(inputs.values().collect::<Vec<_>>(), [&input(KINDS[0], page)]);
    // Who cannot visit pages is told what it lacks, a legacy client what the server said.
    let unable = Guest::new(&stage.alice(), "/mcp").can(json!({"elicitation": {}}));
    let reply = unable.post(1, "tools/call", json!({"name": "work"})).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{reply:?}");
    assert_eq!(reply.json()["error"]["code"], -32021, "{reply:?}");
    let session = Session::open_with(&stage.alice(), "/mcp", able()).await;
    assert_eq!(session.call("work", json!({})).await["error"]["code"], -32042);
    // Nothing waits: the call is simply made again.
    server.on("tools/call", |seen| async move { json_reply(done_text(&seen.id())) });
    let key = inputs.keys().next().unwrap();
    let done = guest.answer("work", &required, json!({key: {"action": "accept"}})).await;
    assert_eq!(text(&done), "done");
}

#[tokio::test]
async fn a_server_of_all_clients_may_ask_none() {
    let server = Fixture::start().await;
    server.asks(questions());
    let stage = stage(&server).await;
    let session = Session::open_with(&stage.alice(), "/mcp", able()).await;
    let guest = Guest::new(&stage.bob(), "/mcp").can(able());

    let unasked = session.call("work", json!({})).await;

    for answer in [unasked, guest.call("work", json!({})).await] {
        let told = told(&answer);
        assert_eq!(told.len(), 3, "{answer}");
        for heard in told {
            assert_eq!(heard["error"]["code"], -32601, "{answer}");
        }
    }
}

#[tokio::test]
async fn a_client_that_takes_no_events_is_asked_on_its_own_stream() {
    let (legacy, modern) = (Fixture::with_sessions().await, Fixture::modern().await);
    legacy.offer(&["old"]);
    legacy.asks(vec![question(json!("q"), KINDS[0])]);
    modern.offer(&["new"]);
    modern.requires(vec![json!({"a": input(KINDS[0], asked(KINDS[0]))})]);
    let stage = Stage::start(&[legacy.manifest("legacy"), modern.manifest("modern")]).await;
    stage.server_is("legacy", "connected").await;
    stage.server_is("modern", "connected").await;
    let session = Session::open_with(&stage.alice(), "/mcp", able()).await;
    let plain = session.with(|client| client.with("accept", "application/json"));

    // Nobody hears the question.
    let unheard = plain.call("old", json!({})).await;
    assert_eq!(told(&unheard)[0]["error"]["code"], -32601, "{unheard}");
    let unheard = plain.call("new", json!({})).await;
    assert!(fault(&unheard).contains("no open stream"), "{unheard}");
    let mut listening = session.listen().await;
    for tool in ["old", "new"] {
        let (answer, ids) = tokio::join!(
            plain.call(tool, json!({})),
            converse(&mut listening, (&session.client, "/mcp"), &KINDS[..1])
        );
        assert_eq!(ids.len(), 1);
        assert!(text(&answer).contains(r#""action":"accept""#), "{tool}: {answer}");
    }
}

#[tokio::test]
async fn a_question_that_the_server_takes_back_is_taken_back() {
    let server = Fixture::with_sessions().await;
    let stage = stage(&server).await;
    let session = Session::open_with(&stage.alice(), "/mcp", able()).await;
    let (say, stream) = driven();
    let stream = std::sync::Mutex::new(Some(stream));
    server.on("tools/call", move |_| {
        let stream = stream.lock().unwrap().take().unwrap();
        async { event_stream(stream) }
    });

    let sending = session.send(call(1, "work", json!({})));
    let asking = async {
        say.send(event(&question(json!("q"), KINDS[0]).to_string())).await.unwrap();
    };
    let mut open = events(tokio::join!(sending, asking).0);
    let id = open.message(KINDS[0]).await["id"].clone();
    let params = json!({"requestId": "q", "reason": "late"});
    let gone = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params});
    say.send(event(&gone.to_string())).await.unwrap();
    let taken_back = open.message("notifications/cancelled").await;

    assert_eq!(taken_back["params"], json!({"requestId": id, "reason": "late"}));
    // An answer that comes all the same is dropped.
    session.post(answer(&id, answered(KINDS[0]))).await;
    session.post(answer(&json!("q"), answered(KINDS[0]))).await;
    let call = &server.seen_of("tools/call")[0];
    say.send(event(&done_text(&call.id()))).await.unwrap();
    assert_eq!(text(&open.answer(&1.into()).await), "done");
    assert!(!server.seen().iter().any(|seen| seen.id() == "q"));
}

#[tokio::test]
async fn a_task_is_told_as_what_a_legacy_client_cannot_have() {
    let server = Fixture::modern().await;
    server.on("tools/call", |seen| async move {
        let result = json!({"resultType": "task", "taskId": "t", "status": "working"});
        json_reply(json!({"jsonrpc": "2.0", "id": seen.id(), "result": result}).to_string())
    });
    let stage = stage(&server).await;

    let legacy = Session::open(&stage.alice(), "/mcp").await.call("work", json!({})).await;
    let extension = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    let guest = Guest::new(&stage.alice(), "/mcp").can(extension);
    let modern = guest.call("work", json!({})).await;

    assert!(fault(&legacy).contains("wants a task"), "{legacy}");
    assert_eq!(modern["result"]["resultType"], "task", "{modern}");
}

#[tokio::test]
async fn a_client_that_leaves_or_cancels_is_not_waited_for() {
    let (legacy, modern) = (Fixture::with_sessions().await, Fixture::modern().await);
    legacy.offer(&["old"]);
    legacy.asks(vec![question(json!("q"), KINDS[0])]);
    modern.offer(&["new"]);
    modern.requires(vec![json!({"a": input(KINDS[0], asked(KINDS[0]))})]);
    let stage = Stage::start(&[legacy.manifest("legacy"), modern.manifest("modern")]).await;
    stage.server_is("legacy", "connected").await;
    stage.server_is("modern", "connected").await;
    let session = Session::open_with(&stage.alice(), "/mcp", able()).await;

    for (number, tool) in ["old", "new"].into_iter().enumerate() {
        let mut open = events(session.send(call(number, tool, json!({}))).await);
        let id = open.message(KINDS[0]).await["id"].clone();
        session.post(crate::support::client::cancel(number)).await;
        // A legacy server is given time to end by itself.
        assert!(open.next().await.is_none(), "{tool}");
        assert_eq!(
            session.post(answer(&id, answered(KINDS[0]))).await.status,
            StatusCode::ACCEPTED
        );
    }
    legacy.sees("notifications/cancelled", 1).await;
    assert_eq!(modern.seen_of("tools/call").len(), 1);
    let cancelled = |server: &str| {
        format!(
            r#"fairway_tool_calls_total{{namespace="default",server="{server}",outcome="cancelled"}}"#
        )
    };
    for server in ["legacy", "modern"] {
        eventually(server, || async {
            (stage.metric(&cancelled(server)).await == Some(1.0)).then_some(())
        })
        .await;
    }
    // Both go on with others.
    let ping = session.post(request(9, "ping", json!({}))).await;
    assert_eq!(ping.json()["result"], json!({}));
}
