//! How a scripted server of 2026-07-28 behaves.

use std::io;

use axum::body::Body;
use axum::response::Response;
use futures_util::stream::{self, StreamExt};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::fixture::{Fixture, Script, Seen, event, event_stream, json_reply, reply, unknown};

const LISTS: [&str; 5] =
    ["tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read"];

pub(super) fn behave(script: &Script, seen: &Seen) -> Response {
    if seen.http != Method::POST {
        return reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "");
    }
    if seen.id().is_null() {
        return reply(StatusCode::ACCEPTED, "text/plain", "");
    }
    match seen.method() {
        "server/discover" => complete(seen, discovered(script)),
        "subscriptions/listen" => listen(script, seen),
        "logging/setLevel" | "resources/subscribe" | "resources/unsubscribe" => {
            unknown(seen, StatusCode::NOT_FOUND)
        }
        method => match script.result_of(method, seen) {
            Some(result) => complete(seen, result),
            None => unknown(seen, StatusCode::NOT_FOUND),
        },
    }
}

fn discovered(script: &Script) -> Value {
    let mut hello = script.hello.lock().unwrap().clone();
    hello["supportedVersions"] = json!(["2026-07-28"]);
    hello["_meta"] = json!({"io.modelcontextprotocol/serverInfo": hello["serverInfo"]});
    hello
}

fn complete(seen: &Seen, mut result: Value) -> Response {
    result["resultType"] = "complete".into();
    if LISTS.contains(&seen.method()) || seen.method() == "server/discover" {
        result["ttlMs"] = 7.into();
        result["cacheScope"] = "public".into();
    }
    json_reply(json!({"jsonrpc": "2.0", "id": seen.id(), "result": result}).to_string())
}

/// Acknowledges, and passes on what is announced.
fn listen(script: &Script, seen: &Seen) -> Response {
    let news = script.news.lock().unwrap().as_ref().unwrap().subscribe();
    let meta = json!({"io.modelcontextprotocol/subscriptionId": seen.id()});
    let params = json!({"notifications": seen.message["params"]["notifications"], "_meta": meta});
    let method = "notifications/subscriptions/acknowledged";
    let first = json!({"jsonrpc": "2.0", "method": method, "params": params});
    let rest = stream::unfold(news, |mut news| async {
        let (_, message) = news.recv().await.ok()?;
        Some((Ok::<_, io::Error>(event(&message)), news))
    });
    let first = stream::once(async move { Ok(event(&first.to_string())) });
    event_stream(Body::from_stream(first.chain(rest)))
}

/// One input that it requires.
pub fn input(method: &str, params: Value) -> Value {
    json!({"method": method, "params": params})
}

impl Fixture {
    /// Requires input in so many rounds, each with these requests and the state `state-N`, before
    /// it answers calls. The text of its result are the responses of the last round.
    pub fn requires(&self, rounds: Vec<Value>) {
        self.on("tools/call", move |seen| {
            let params = &seen.message["params"];
            let state = params["requestState"].as_str().unwrap_or("state-0");
            let round: usize = state.strip_prefix("state-").unwrap().parse().unwrap();
            let response = match rounds.get(round) {
                Some(requests) => {
                    let result = json!({
                        "resultType": "input_required",
                        "inputRequests": requests,
                        "requestState": format!("state-{}", round + 1),
                    });
                    json_reply(
                        json!({"jsonrpc": "2.0", "id": seen.id(), "result": result}).to_string(),
                    )
                }
                None => {
                    let text = params["inputResponses"].to_string();
                    complete(&seen, json!({"content": [{"type": "text", "text": text}]}))
                }
            };
            async { response }
        });
    }
}
