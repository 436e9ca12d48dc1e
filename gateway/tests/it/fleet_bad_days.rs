//! Several gateways: those that go, and those who only say that they are one.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::bridge::able;
use crate::support::client::{Client, Session, Sse, call, cancel, events, text};
use crate::support::fixture::{Fixture, done, driven, event, event_stream, replayable, tool};
use crate::support::fleet::{Fleet, knows, metric, peer_address};
use crate::support::raw::Raw;
use crate::support::stage::ALICE;
use crate::support::{eventually, within, within_time};

/// What does not wait for a gateway that is gone.
const AT_ONCE: Duration = Duration::from_secs(2);

/// A server that holds calls with the argument `slow` until the gate opens.
async fn slow_server() -> (Fixture, tokio_util::sync::CancellationToken) {
    let server = Fixture::with_sessions().await.announcing();
    let gate = tokio_util::sync::CancellationToken::new();
    let held = gate.clone();
    server.on("tools/call", move |seen| {
        let held = held.clone();
        async move {
            if seen.message["params"]["arguments"]["slow"] == true {
                held.cancelled().await;
            }
            done(&seen)
        }
    });
    (server, gate)
}

fn last_leg(server: &Fixture) -> String {
    server.seen_of("tools/call").last().unwrap().session().unwrap().to_owned()
}

#[tokio::test]
async fn a_gateway_that_drains_ends_what_others_passed_to_it() {
    let (server, gate) = slow_server().await;
    let mut fleet = Fleet::before(&server).await;
    let (_, at_b) = fleet.session(able()).await;
    let slow = at_b.with(|client| client);
    let slow = tokio::spawn(async move { slow.call("work", json!({"slow": true})).await });
    server.sees("tools/call", 1).await;
    let leg = last_leg(&server);

    let a = fleet.take("a");
    let drain = tokio::spawn(a.drain(Duration::from_secs(15)));
    knows(fleet.gateway("b"), 0).await;
    // New calls go on elsewhere at once.
    let next = within_time("a call at b", AT_ONCE, at_b.call("work", json!({}))).await;
    assert_eq!(text(&next), "done");
    assert_ne!(last_leg(&server), leg);
    assert!(!drain.is_finished(), "a call is open on it");
    gate.cancel();

    assert_eq!(text(&within("the call", slow).await.unwrap()), "done");
    within("the end of a", drain).await.unwrap();
    let moved = last_leg(&server);
    for _ in 0..3 {
        assert_eq!(text(&at_b.call("work", json!({})).await), "done");
    }
    assert_eq!(last_leg(&server), moved);
}

#[tokio::test]
async fn a_gateway_that_drains_passes_on_what_it_is_asked() {
    let (server, gate) = slow_server().await;
    let mut fleet = Fleet::before(&server).await;
    let (at_a, at_b) = fleet.session(able()).await;
    // Keeps a connection to it open.
    let slow = at_a.with(|client| client.at(client.address));
    let mut sse = Sse::open(&fleet.alice("a"), "/sse").await;
    assert_eq!(sse.post(call(1, "work", json!({"slow": true}))).await.status, StatusCode::ACCEPTED);
    let slow = tokio::spawn(async move { slow.call("work", json!({"slow": true})).await });
    server.sees("tools/call", 2).await;

    let drain = tokio::spawn(fleet.take("a").drain(Duration::from_secs(15)));
    knows(fleet.gateway("b"), 0).await;
    // Messages for a stream that is still open there, and news of its sessions.
    sse.client = sse.client.at(fleet.address("b"));
    assert_eq!(sse.post(call(2, "work", json!({}))).await.status, StatusCode::ACCEPTED);
    assert_eq!(text(&sse.events.answer(&2.into()).await), "done");
    assert_eq!(at_b.delete().await, StatusCode::NO_CONTENT);
    gate.cancel();

    assert_eq!(text(&within("the call", slow).await.unwrap()), "done");
    assert_eq!(text(&sse.events.answer(&1.into()).await), "done");
    within("the end of a", drain).await.unwrap();
}

#[tokio::test]
async fn a_gateway_that_is_gone_costs_its_sessions_a_leg_and_no_wait() {
    let (server, gate) = slow_server().await;
    let mut fleet = Fleet::before(&server).await;
    let (at_a, at_b) = fleet.session(able()).await;
    assert_eq!(text(&at_a.call("work", json!({})).await), "done");
    let leg = last_leg(&server);
    let slow = at_b.with(|client| client);
    let slow = tokio::spawn(async move { slow.call("work", json!({"slow": true})).await });
    server.sees("tools/call", 2).await;

    drop(fleet.take("a"));
    let broken = within_time("an answer", AT_ONCE, slow).await.unwrap();
    assert!(broken["error"]["message"].as_str().unwrap().contains("went away"), "{broken}");
    assert_eq!(broken["error"]["code"], -33000, "{broken}");
    let next = within_time("a call at b", AT_ONCE, at_b.call("work", json!({}))).await;

    assert_eq!(text(&next), "done");
    let moved = last_leg(&server);
    assert_ne!(moved, leg);
    assert_eq!(text(&at_b.call("work", json!({})).await), "done");
    assert_eq!(last_leg(&server), moved);
    gate.cancel();
}

#[tokio::test]
async fn what_may_be_done_twice_is_done_again_where_its_gateway_went_away() {
    let (server, gate) = slow_server().await;
    server.offer_definitions(vec![replayable("read"), tool("work")]);
    let mut fleet = Fleet::before(&server).await;
    let (_, at_b) = fleet.session(able()).await;
    let slow = |tool: &'static str| {
        let session = at_b.with(|client| client);
        let asks = call(tool, tool, json!({"slow": true}));
        tokio::spawn(async move { session.post(asks).await.json() })
    };
    let (reads, works) = (slow("read"), slow("work"));
    server.sees("tools/call", 2).await;

    drop(fleet.take("a"));
    let broken = within_time("an answer", AT_ONCE, works).await.unwrap();
    assert!(broken["error"]["message"].as_str().unwrap().contains("went away"), "{broken}");
    let called = server.sees("tools/call", 3).await;
    assert_eq!(called[2].message["params"]["name"], "read");
    gate.cancel();

    assert_eq!(text(&within("the call", reads).await.unwrap()), "done");
    assert_eq!(server.seen_of("tools/call").len(), 3);
}

#[tokio::test]
async fn a_call_whose_answer_has_begun_ends_with_an_error_where_its_gateway_went_away() {
    let server = Fixture::with_sessions().await.announcing();
    server.offer_definitions(vec![replayable("read")]);
    let held = Arc::new(Mutex::new(Vec::new()));
    let hold = held.clone();
    server.on("tools/call", move |_| {
        let (said, body) = driven();
        let log = json!({"level": "error", "data": "begun"});
        let log = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": log});
        said.try_send(event(&log.to_string())).unwrap();
        hold.lock().unwrap().push(said);
        async { event_stream(body) }
    });
    let mut fleet = Fleet::before(&server).await;
    let (_, at_b) = fleet.session(able()).await;
    let mut open = events(at_b.send(call("mine", "read", json!({}))).await);
    let begun = open.next().await.unwrap().json();
    assert_eq!(begun["params"]["data"], "begun", "{begun}");

    drop(fleet.take("a"));

    let broken = within_time("an answer", AT_ONCE, open.answer(&"mine".into())).await;
    assert!(broken["error"]["message"].as_str().unwrap().contains("went away"), "{broken}");
    assert_eq!(server.seen_of("tools/call").len(), 1);
    open.ends_within(AT_ONCE).await;
}

#[tokio::test]
async fn streams_and_sessions_live_through_a_rolling_replacement() {
    let server = Fixture::with_sessions().await.announcing();
    let mut fleet = Fleet::before(&server).await;
    let (at_a, at_b) = fleet.session(able()).await;
    assert_eq!(text(&at_a.call("work", json!({})).await), "done");
    let mut to_b = at_b.listen().await;
    let mut sse = Sse::open(&fleet.alice("b"), "/sse").await;
    let to_a = at_a.with(|client| client);

    fleet.join("c").await;
    fleet.server_is_connected("server").await;
    let at_c = at_a.with(|client| client.at(fleet.address("c")));
    let before = last_leg(&server);
    for session in [&to_a, &at_b, &at_c] {
        assert_eq!(text(&session.call("work", json!({})).await), "done");
        assert_eq!(last_leg(&server), before);
    }
    within("the end of a", fleet.take("a").drain(Duration::from_secs(15))).await;
    for name in ["b", "c"] {
        knows(fleet.gateway(name), 1).await;
    }

    let mut legs = Vec::new();
    for session in [&at_b, &at_c, &at_b, &at_c] {
        assert_eq!(text(&session.call("work", json!({})).await), "done");
        legs.push(last_leg(&server));
    }
    legs.dedup();
    assert!(legs.len() == 1 && legs[0] != before, "{legs:?}");
    for number in 0..3 {
        let news = json!({"jsonrpc": "2.0", "method": "notifications/vendor", "params": number});
        assert!(server.announce_to(&legs[0], &news));
    }
    for number in 0..3 {
        assert_eq!(to_b.next().await.unwrap().json()["params"], number);
    }
    assert_eq!(text(&sse.call("work", json!({})).await), "done");
    sse.client = sse.client.at(fleet.address("c"));
    assert_eq!(text(&sse.call("work", json!({})).await), "done");
}

/// What went through a [`proxy`] to where it leads.
type Recorded = Arc<Mutex<Vec<Vec<u8>>>>;

/// Passes on connections, and keeps what is sent on each.
async fn proxy(to: std::net::SocketAddr) -> (std::net::SocketAddr, Recorded) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap(), pass_on(listener, to))
}

/// The same from here on, for connections that come to this listener.
pub fn pass_on(listener: TcpListener, to: std::net::SocketAddr) -> Recorded {
    let recorded = Recorded::default();
    let record = recorded.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(onward) = TcpStream::connect(to).await else { continue };
            let number = {
                let mut all = record.lock().unwrap();
                all.push(Vec::new());
                all.len() - 1
            };
            let ((mut from, mut back), (mut there, mut onward)) =
                (stream.into_split(), onward.into_split());
            let record = record.clone();
            tokio::spawn(async move { tokio::io::copy(&mut there, &mut back).await });
            tokio::spawn(async move {
                let mut bytes = vec![0; 65536];
                while let Ok(read @ 1..) = from.read(&mut bytes).await {
                    record.lock().unwrap()[number].extend_from_slice(&bytes[..read]);
                    if onward.write_all(&bytes[..read]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    recorded
}

/// Requests for a path among what was sent.
fn requests(recorded: &Recorded, line: &str) -> Vec<String> {
    let recorded = recorded.lock().unwrap();
    let mut found = Vec::new();
    for text in recorded.iter().map(|bytes| String::from_utf8_lossy(bytes)) {
        for (at, _) in text.match_indices(line) {
            let request = &text[at..];
            let (head, body) = request.split_once("\r\n\r\n").unwrap();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
            });
            let length: usize = length.unwrap();
            found.push(format!("{head}\r\n\r\n{}", &body[..length]));
        }
    }
    found
}

/// The status and the body with which a request as it stands is answered.
async fn told(address: std::net::SocketAddr, request: &str) -> String {
    let mut raw = Raw::connect(address).await;
    raw.send(request).await;
    raw.read_until("}").await
}

#[tokio::test]
async fn the_port_for_gateways_takes_nothing_else() {
    let server = Fixture::with_sessions().await;
    let mut fleet = Fleet::start(&[server.manifest("server")]).await;
    let to_a = peer_address(fleet.gateway("a"));
    drop(fleet.take("b"));
    knows(fleet.gateway("a"), 0).await;
    let (by, recorded) = proxy(to_a).await;
    fleet.join_at("b", vec![by.to_string()]).await;
    for name in ["a", "b"] {
        knows(fleet.gateway(name), 1).await;
    }
    fleet.server_is_connected("server").await;
    let at_a = Session::open(&fleet.alice("a"), "/mcp").await;
    let at_b = at_a.with(|client| client.at(fleet.address("b")));

    assert_eq!(text(&at_b.call("work", json!({"n": 1})).await), "done");
    let by_bearer = at_b.with(|client| {
        client.without("x-api-key").with("authorization", &format!("Bearer {ALICE}"))
    });
    assert_eq!(text(&by_bearer.call("work", json!({"n": 2})).await), "done");
    let by_query = at_b.with(|client| client.without("x-api-key"));
    let by_query =
        by_query.client.post(&format!("/mcp?api_key={ALICE}"), call(7, "work", json!({}))).await;
    assert!(by_query.text().contains("done"), "{by_query:?}");
    assert_eq!(server.seen_of("tools/call").len(), 3);

    let sent = requests(&recorded, "POST /mcp HTTP/1.1");
    assert_eq!(sent.len(), 3, "{sent:?}");
    for request in &sent {
        let lower = request.to_lowercase();
        assert!(lower.contains("fairway-mac:"), "{request}");
        assert!(!lower.contains(ALICE) && !lower.contains("authorization"), "{request}");
        assert!(!lower.contains("api-key") && !lower.contains("api_key"), "{request}");
        // What was taken once is not taken again.
        let again = told(to_a, request).await;
        assert!(again.starts_with("HTTP/1.1 403 ") && again.contains("second time"), "{again}");
        // Nor anything that was changed.
        let changed = request.replace("\"work\"", "\"walk\"");
        let changed = told(to_a, &changed).await;
        assert!(changed.starts_with("HTTP/1.1 403 "), "{changed}");
    }
    for bytes in recorded.lock().unwrap().iter() {
        assert!(!String::from_utf8_lossy(bytes).contains(ALICE));
    }
    // What all are told needs no connection each time.
    let before = recorded.lock().unwrap().len();
    for id in 0..50 {
        assert_eq!(at_b.post(cancel(id)).await.status, StatusCode::ACCEPTED);
    }
    let opened = recorded.lock().unwrap().len() - before;
    assert!(opened < 25, "{opened} connections");
    let session = at_a.client.headers["mcp-session-id"].clone();
    let session = session.to_str().unwrap();
    for path in ["/mcp", "/peer/hello", "/peer/say", "/sse", "/health", "/metrics", "/"] {
        let client = Client::new(to_a).key(ALICE).with("mcp-session-id", session);
        let sealed = client.clone().with("fairway-mac", &"A".repeat(43));
        for client in [client, sealed] {
            let posted = client.post(path, call(1, "work", json!({}))).await;
            assert_eq!(posted.status, StatusCode::FORBIDDEN, "{path}: {posted:?}");
            let got = client.get(path).await;
            assert_eq!(got.status, StatusCode::FORBIDDEN, "{path}: {got:?}");
        }
    }
    assert_eq!(server.seen_of("tools/call").len(), 3);
}

#[tokio::test]
async fn gateways_with_other_keys_are_no_peers() {
    let fleet = Fleet::start(&[]).await;
    let to_a = peer_address(fleet.gateway("a"));
    let mut strangers = Fleet::start(&[]).await;

    strangers.join_at("stranger", vec![to_a.to_string()]).await;

    let stranger = strangers.gateway("stranger");
    let admin = Client::new(stranger.admin_address());
    // It has looked, and found nobody.
    eventually("a gateway that looked", || async {
        (admin.get("/readyz").await.status == StatusCode::OK).then_some(())
    })
    .await;
    knows(stranger, 0).await;
    for name in ["a", "b"] {
        knows(fleet.gateway(name), 1).await;
    }
    let session = Session::open(&Client::new(stranger.address()).key(ALICE), "/mcp").await;
    let elsewhere = session.with(|client| client.at(fleet.address("a")));
    let ping: Value = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    assert_eq!(elsewhere.post(ping).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn who_passes_on_what_it_is_asked_is_not_taken_for_another_gateway() {
    let mut fleet = Fleet::start(&[]).await;
    let to_a = peer_address(fleet.gateway("a"));
    drop(fleet.take("b"));
    knows(fleet.gateway("a"), 0).await;
    // As one that got the address of a gateway that is gone.
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let thief = listener.local_addr().unwrap();
    let recorded = pass_on(listener, to_a);

    fleet.join_at("b", vec![thief.to_string()]).await;

    eventually("several hellos", || async {
        (requests(&recorded, "POST /peer/hello HTTP/1.1").len() > 2).then_some(())
    })
    .await;
    for name in ["a", "b"] {
        knows(fleet.gateway(name), 0).await;
    }
    let refused = metric(fleet.gateway("a"), "fairway_unauthorized_requests_total").await;
    assert!(refused >= Some(2.0), "{refused:?}");
}

/// Passes on what gateways ask each other, and answers what clients ask itself.
async fn impostor(to: std::net::SocketAddr) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let forged = json!({"content": [{"type": "text", "text": "forged"}]});
    let forged = json!({"jsonrpc": "2.0", "id": 1, "result": forged}).to_string();
    let head = format!("content-type: application/json\r\ncontent-length: {}", forged.len());
    let forged = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{forged}");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let Ok(mut onward) = TcpStream::connect(to).await else { continue };
            let forged = forged.clone();
            tokio::spawn(async move {
                let (mut asked, mut told) = (vec![0; 65536], vec![0; 65536]);
                loop {
                    let (stream, bytes) = tokio::select! {
                        Ok(read @ 1..) = stream.read(&mut asked) => {
                            let bytes = &asked[..read];
                            let is_ours = bytes.starts_with(b"POST /mcp ");
                            if is_ours { (&mut stream, forged.as_bytes()) } else { (&mut onward, bytes) }
                        }
                        Ok(read @ 1..) = onward.read(&mut told) => (&mut stream, &told[..read]),
                        else => break,
                    };
                    if stream.write_all(bytes).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

#[tokio::test]
async fn who_answers_in_place_of_a_gateway_is_not_believed() {
    let server = Fixture::with_sessions().await;
    let mut fleet = Fleet::start(&[server.manifest("server")]).await;
    let to_a = peer_address(fleet.gateway("a"));
    drop(fleet.take("b"));
    knows(fleet.gateway("a"), 0).await;
    fleet.join_at("b", vec![impostor(to_a).await.to_string()]).await;
    for name in ["a", "b"] {
        knows(fleet.gateway(name), 1).await;
    }
    fleet.server_is_connected("server").await;
    let at_a = Session::open(&fleet.alice("a"), "/mcp").await;
    let at_b = at_a.with(|client| client.at(fleet.address("b")));

    assert_eq!(text(&at_b.call("work", json!({})).await), "done");

    let unreached = r#"fairway_relays_total{outcome="unreached"}"#;
    let unreached = metric(fleet.gateway("b"), unreached).await;
    assert!(unreached >= Some(1.0), "{unreached:?}");
}
