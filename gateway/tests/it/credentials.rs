//! Credentials: the client's stay here, the server's go there, and none is shown.

use http::HeaderMap;
use serde_json::{Value, json};

use crate::support::client::{Session, Sse, answer, call, events, fault, text};
use crate::support::fixture::{Fixture, done, json_reply, reply, result};
use crate::support::guest::Guest;
use crate::support::manifests::{key, secret};
use crate::support::stage::Stage;
use crate::support::{eventually, logs};

const REF: &str = "credentials: {secretRef: {name: upstream, key: key}";

#[tokio::test]
async fn a_servers_credential_goes_with_every_request() {
    for (fields, header, value) in [
        (format!("{REF}}}"), "authorization", "Bearer first-secret"),
        (format!("{REF}, scheme: Token}}"), "authorization", "Token first-secret"),
        (format!("{REF}, header: X-Own-Key}}"), "x-own-key", "first-secret"),
    ] {
        let fixture = Fixture::with_sessions().await.announcing();
        let stage = Stage::start(&[fixture.manifest_with("server", &fields)]).await;
        stage.write("secret.yaml", &secret("upstream", "first-secret"));
        stage.server_is("server", "connected").await;
        let session = Session::open(&stage.alice(), "/mcp").await;
        assert_eq!(text(&session.call("work", json!({})).await), "done");
        session.delete().await;
        eventually("every kind of request", || async {
            let kinds = fixture.seen().into_iter().map(|seen| seen.http.to_string());
            let kinds: std::collections::BTreeSet<String> = kinds.collect();
            (kinds.len() == 3).then_some(())
        })
        .await;

        for seen in fixture.seen() {
            let sent = seen.headers.get(header).map(|value| value.to_str().unwrap());
            assert_eq!(sent, Some(value), "{} {}", seen.http, seen.method());
        }
    }
}

#[tokio::test]
async fn a_changed_credential_goes_with_the_next_request_on_the_same_leg() {
    let fixture = Fixture::with_sessions().await;
    let stage = Stage::start(&[fixture.manifest_with("server", &format!("{REF}}}"))]).await;
    stage.write("secret.yaml", &secret("upstream", "first-secret"));
    stage.server_is("server", "connected").await;
    let session = Session::open(&stage.alice(), "/mcp").await;
    session.call("work", json!({})).await;

    stage.write("secret.yaml", &secret("upstream", "second-secret"));

    eventually("the new credential", || async {
        assert_eq!(text(&session.call("work", json!({})).await), "done");
        let calls = fixture.seen_of("tools/call");
        let sent = calls.last().unwrap().headers["authorization"].to_str().unwrap().to_owned();
        (sent == "Bearer second-secret").then_some(())
    })
    .await;
    let calls = fixture.seen_of("tools/call");
    assert!(calls.iter().all(|call| call.session() == calls[0].session()));
}

/// Everything of a request that a server sees.
fn shown(headers: &HeaderMap, message: &Value) -> String {
    format!("{headers:?} {message}")
}

#[tokio::test]
async fn what_a_client_shows_never_reaches_a_server_and_no_secret_is_told() {
    logs::keep();
    let fixture = Fixture::with_sessions().await.announcing();
    let manifest = fixture.manifest_with("server", &format!("{REF}, header: X-Own-Key}}"));
    let stage = Stage::start(&[manifest]).await;
    stage.write("secret.yaml", &secret("upstream", "sesame-of-the-server"));
    stage.write("dora.yaml", &key("dora", "sesame-of-dora"));
    stage.server_is("server", "connected").await;
    let cookie = |client: crate::support::client::Client| {
        client.with("cookie", "sesame-cookie").with("x-forwarded-for", "sesame-proxy")
    };
    let by_header = cookie(stage.client().key("sesame-of-dora"));
    let by_bearer = cookie(stage.client().with("authorization", "Bearer sesame-of-dora"));
    let session = Session::open(&by_header, "/mcp").await;
    let listening = session.listen().await;
    let mut sse = Sse::open(&cookie(stage.client()), "/sse?api_key=sesame-of-dora").await;

    for _ in 0..2 {
        assert_eq!(text(&session.call("work", json!({})).await), "done");
        assert_eq!(text(&sse.call("work", json!({})).await), "done");
        let one_shot = by_bearer.post("/mcp?api_key=sesame-of-dora", call(1, "work", json!({})));
        assert_eq!(text(&one_shot.await.json()), "done");
    }
    by_bearer.clone().key("sesame-unknown").post("/mcp", call(1, "work", json!({}))).await;
    let endpoint = sse.endpoint.split_once("session_id=").unwrap().1.to_owned();
    let session_id = session.client.headers["mcp-session-id"].to_str().unwrap().to_owned();

    // In every kind of trouble, too.
    let mut told = Vec::new();
    fixture.on("tools/call", |seen| async move {
        // A server that repeats what it got.
        reply(http::StatusCode::UNAUTHORIZED, "text/plain", format!("{:?}", seen.headers))
    });
    told.push(fault(&session.call("work", json!({})).await).to_owned());
    fixture.on("tools/call", |seen| async move { json_reply(format!("{:?}", seen.headers)) });
    told.push(fault(&session.call("work", json!({})).await).to_owned());
    fixture.on("initialize", |seen| async move {
        let error = json!({"code": -32000, "message": format!("{:?}", seen.headers)});
        json_reply(json!({"jsonrpc": "2.0", "id": seen.id(), "error": error}).to_string())
    });
    fixture.forget_sessions(http::StatusCode::NOT_FOUND, "");
    told.push(fault(&session.call("work", json!({})).await).to_owned());
    let down = stage.server_is("server", "unreachable").await;
    assert!(down["reason"].as_str().unwrap().contains("-32000"), "{down}");
    drop((listening, sse));

    for seen in fixture.seen() {
        let shown = shown(&seen.headers, &seen.message).replace("sesame-of-the-server", "");
        assert!(!shown.contains("sesame"), "{shown}");
        assert!(!shown.contains(&session_id) && !shown.contains(&endpoint), "{shown}");
    }
    for path in ["/readyz", "/health", "/metrics"] {
        told.push(stage.admin().get(path).await.text().to_owned());
        told.push(stage.client().get(path).await.text().to_owned());
    }
    told.push(logs::text());
    assert!(told.last().unwrap().contains("server is unreachable"));
    for told in told {
        for secret in ["sesame", &session_id, &endpoint] {
            let at = told.find(secret);
            assert!(at.is_none(), "{secret}: {}", &told[at.unwrap_or(0).saturating_sub(200)..]);
        }
    }
}

/// A page to visit is as good as a key to it, and a state is the server's own.
#[tokio::test]
async fn what_servers_and_clients_keep_between_them_is_not_logged() {
    logs::keep();
    let server = Fixture::modern().await;
    let page = json!({"mode": "url", "url": "https://sesame-page.example", "message": "m"});
    let page = json!({"a": {"method": "elicitation/create", "params": page}});
    server.on("tools/call", move |seen| {
        let asks = seen.message["params"]["inputResponses"].is_null();
        let required = json!({
            "resultType": "input_required", "inputRequests": page, "requestState": "sesame-state",
        });
        let response = if asks { result(&seen, &required) } else { done(&seen) };
        async { response }
    });
    let stage = Stage::start(&[server.manifest("asking")]).await;
    stage.server_is("asking", "connected").await;
    let able = json!({"elicitation": {"form": {}, "url": {}}});
    let guest = Guest::new(&stage.alice(), "/mcp").can(able.clone());
    let session = Session::open_with(&stage.bob(), "/mcp", able).await;

    let required = guest.call("work", json!({})).await;
    assert_eq!(required["result"]["requestState"], "sesame-state", "{required}");
    guest.answer("work", &required, json!({"a": {"action": "accept"}})).await;
    let mut open = events(session.send(call(1, "work", json!({}))).await);
    let asked = open.message("elicitation/create").await;
    assert!(asked.to_string().contains("sesame-page"), "{asked}");
    session.post(answer(&asked["id"], json!({"action": "accept"}))).await;
    open.answer(&1.into()).await;

    let logged = logs::text();
    for secret in ["sesame-page", "sesame-state"] {
        assert!(!logged.contains(secret), "{secret} is logged");
    }
}

#[tokio::test]
async fn a_server_without_its_secret_is_not_spoken_to() {
    let fixture = Fixture::start().await;
    let stage = Stage::start(&[fixture.manifest_with("server", &format!("{REF}}}"))]).await;

    let ready = stage.ready_when("the rejection", |ready| ready["rejected"][0].is_object()).await;

    let reason = ready["rejected"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("upstream") && reason.contains("does not exist"), "{reason}");
    assert!(fixture.seen().is_empty());
    stage.write("secret.yaml", &secret("upstream", "first-secret"));
    stage.server_is("server", "connected").await;
}
