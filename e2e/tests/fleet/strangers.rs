//! Somebody's session in the hands of others, at each gateway and at the port that gateways have for each other: it is
//! refused, and nothing is told.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use e2e::cluster::{
    Program, Release,
    http::exchange,
    release::{HOME, until},
};
use http::{Method, Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};

/// Where clients reach a gateway, and other gateways do.
const CLIENTS: u16 = 8080;
const PEERS: u16 = 9091;

/// A pod that goes is gone in less.
const MINUTE: Duration = Duration::from_secs(60);

/// Headers of a request.
type Shown<'a> = Vec<(&'a str, &'a str)>;

#[tokio::test]
async fn a_session_is_nobody_elses_at_any_gateway() {
    let release = Release::alone().await.unwrap();
    if !release.cluster().is_own() {
        return;
    }
    release.upgrade(&["gateway.replicas=2"]).await.unwrap();
    let victim = release.tenant("victim").await.unwrap();
    victim.run("secret", release.image(Program::Everything).unwrap(), json!({})).await.unwrap();
    victim.allow("all", "bob", &["*"]).await.unwrap();
    victim.ready("mcpserver", "secret").await.unwrap();
    let bob = victim.key("bob", json!({"user": "bob"})).await.unwrap();
    let attacker = release.tenant("attacker").await.unwrap();
    attacker.allow("all", "bob", &["*", "*/*"]).await.unwrap();
    let mallory = attacker.key("bob", json!({"user": "bob"})).await.unwrap();
    let two = || async { Ok(gateways(&release).await?.len() == 2) };
    until("two gateways, and none that still goes", MINUTE, two).await.unwrap();
    let gateways = gateways(&release).await.unwrap();

    let first = SocketAddr::new(gateways[0], CLIENTS);
    let session = open(first, &bob).await.unwrap();
    let mut forged = session.clone().into_bytes();
    let middle = forged.len() / 2;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    let own = |session| vec![("x-api-key", bob.as_str()), ("mcp-session-id", session)];

    for gateway in &gateways {
        let at = SocketAddr::new(*gateway, CLIENTS);
        let strangers: [(&str, u16, Shown<'_>); 4] = [
            ("a foreign key", 401, vec![("x-api-key", "fw_foreign"), ("mcp-session-id", &session)]),
            (
                "another tenant's key",
                404,
                vec![("x-api-key", &mallory), ("mcp-session-id", &session)],
            ),
            ("a forged token", 404, own(&forged)),
            ("no key", 401, vec![("mcp-session-id", &session)]),
        ];
        for (who, status, shown) in &strangers {
            for (method, body) in requests() {
                let answer = ask(at, method.clone(), "/mcp", shown, body).await.unwrap();
                assert_eq!(answer.status(), *status, "{who}, {method} at {at}: {answer:?}");
                assert_tells_nothing(&answer, who);
            }
        }
        for (who, shown) in [
            ("the owner", own(&session)),
            ("a forged seal", [own(&session), seal("A", "AAAAAAAAAAA")].concat()),
            ("another tenant", vec![("x-api-key", &*mallory), ("mcp-session-id", &*session)]),
        ] {
            let at = SocketAddr::new(*gateway, PEERS);
            for path in ["/mcp", "/peer/hello", "/peer/say", "/peer/took", "/health"] {
                for (method, body) in requests() {
                    let answer = ask(at, method.clone(), path, &shown, body).await.unwrap();
                    assert_eq!(answer.status(), 403, "{who}, {method} {path} at {at}: {answer:?}");
                    assert_tells_nothing(&answer, who);
                }
            }
        }
    }

    // Nobody has ended it, at either.
    for gateway in &gateways {
        let at = SocketAddr::new(*gateway, CLIENTS);
        let (method, body) = call();
        let answer = ask(at, method, "/mcp", &own(&session), body).await.unwrap();
        let told = String::from_utf8_lossy(answer.body()).into_owned();
        assert!(answer.status() == 200 && told.contains("mine"), "{at}: {answer:?}");
    }
}

/// All that can be done in a session; the last would end it.
fn requests() -> [(Method, Option<Value>); 4] {
    let list = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}});
    [(Method::POST, Some(list)), call(), (Method::GET, None), (Method::DELETE, None)]
}

fn call() -> (Method, Option<Value>) {
    let params = json!({"name": "secret_echo", "arguments": {"message": "mine"}});
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params});
    (Method::POST, Some(call))
}

/// What gateways put on what they send each other, as somebody would who has no key.
fn seal<'a>(mac: &'a str, tag: &'a str) -> Shown<'a> {
    vec![
        ("fairway-to", tag),
        ("fairway-from", tag),
        ("fairway-at", "0"),
        ("fairway-number", "1-1"),
        ("fairway-body", mac),
        ("fairway-mac", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    ]
}

fn assert_tells_nothing(answer: &Response<Bytes>, who: &str) {
    let told = String::from_utf8_lossy(answer.body());
    assert!(!told.contains("secret") && !told.contains("mine"), "{who} was told {told}");
}

/// Begins a session.
async fn open(at: SocketAddr, key: &str) -> Result<String> {
    let params = json!({
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "e2e", "version": "1"},
    });
    let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
    let answer = ask(at, Method::POST, "/mcp", &[("x-api-key", key)], Some(initialize)).await?;
    let session = answer.headers().get("mcp-session-id").context("no session was begun")?;
    Ok(session.to_str()?.to_owned())
}

async fn ask(
    at: SocketAddr,
    method: Method,
    path: &str,
    shown: &[(&str, &str)],
    body: Option<Value>,
) -> Result<Response<Bytes>> {
    let mut request = Request::builder().method(method).uri(path);
    request = request.header("accept", "application/json, text/event-stream");
    request = request.header("content-type", "application/json");
    for (name, value) in shown {
        request = request.header(*name, *value);
    }
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    exchange(at, request.body(Full::new(Bytes::from(body)))?).await
}

/// The addresses of the pods of gateways.
async fn gateways(release: &Release) -> Result<Vec<IpAddr>> {
    let of = "--selector=app.kubernetes.io/component=gateway";
    let path = "--output=jsonpath={.items[*].status.podIP}";
    let arguments = ["--namespace", HOME, "get", "pods", of, path];
    let printed = release.cluster().kubectl(&arguments).await?;
    Ok(printed.split_whitespace().map(str::parse).collect::<Result<_, _>>()?)
}
