//! A scripted MCP server over HTTP+SSE: a stream with an `endpoint`, messages posted beside it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::fixture::{done_text, event, reply, tool};
use super::running::Running;
use super::{eventually, manifests};

/// Says what goes out on the stream for a call.
type OnCall = Arc<dyn Fn(&Value) -> Vec<String> + Send + Sync>;

struct Script {
    streams: Mutex<BTreeMap<usize, mpsc::Sender<String>>>,
    opened: Mutex<usize>,
    tools: Mutex<Vec<Value>>,
    seen: Mutex<Vec<(usize, Value, HeaderMap)>>,
    on_call: Mutex<OnCall>,
    on_answer: Mutex<OnCall>,
}

/// The server.
pub struct Legacy {
    script: Arc<Script>,
    running: Running,
}

impl Legacy {
    /// A server with the tool `work`.
    pub async fn start() -> Self {
        let script = Arc::new(Script {
            streams: Mutex::default(),
            opened: Mutex::default(),
            tools: Mutex::new(vec![tool("work")]),
            seen: Mutex::default(),
            on_call: Mutex::new(Arc::new(|call| vec![done_text(&call["id"])])),
            on_answer: Mutex::new(Arc::new(|_| Vec::new())),
        });
        Self { running: Running::start(router(script.clone())).await, script }
    }

    /// Its manifest: its tools keep their names, and which transport it speaks is left to be seen.
    pub fn manifest(&self, name: &str) -> String {
        manifests::server(name, &format!("http://{}/sse", self.running.address))
    }

    pub fn offer(&self, tools: &[&str]) {
        *self.script.tools.lock().unwrap() = tools.iter().map(|name| tool(name)).collect();
    }

    /// Answers calls by these messages from now on.
    pub fn on_call(&self, answer: impl Fn(&Value) -> Vec<String> + Send + Sync + 'static) {
        *self.script.on_call.lock().unwrap() = Arc::new(answer);
    }

    /// Says these messages when its client answers what it asked, from now on.
    pub fn on_answer(&self, next: impl Fn(&Value) -> Vec<String> + Send + Sync + 'static) {
        *self.script.on_answer.lock().unwrap() = Arc::new(next);
    }

    /// Says something on all open streams.
    pub async fn announce(&self, message: &Value) {
        let streams: Vec<_> = self.script.streams.lock().unwrap().values().cloned().collect();
        for stream in streams {
            // One that ended is none of the test's business.
            let _ = stream.send(message.to_string()).await;
        }
    }

    /// Ends all open streams.
    pub fn end_streams(&self) {
        self.script.streams.lock().unwrap().clear();
    }

    /// Messages posted, with the number of their stream.
    pub fn seen_of(&self, method: &str) -> Vec<(usize, Value)> {
        let seen = self.script.seen.lock().unwrap();
        let of_method = seen.iter().filter(|(_, message, _)| message["method"] == method);
        of_method.map(|(stream, message, _)| (*stream, message.clone())).collect()
    }

    /// Answers of the client to requests of the server.
    pub fn answers(&self) -> Vec<Value> {
        let seen = self.script.seen.lock().unwrap();
        let messages = seen.iter().map(|(_, message, _)| message.clone());
        messages.filter(|message| message.get("method").is_none()).collect()
    }

    pub async fn sees(&self, method: &str, count: usize) -> Vec<(usize, Value)> {
        eventually(&format!("{count} of {method}"), || async {
            let seen = self.seen_of(method);
            (seen.len() >= count).then_some(seen)
        })
        .await
    }

    pub async fn kill(&self) {
        self.end_streams();
        self.running.kill().await;
    }

    pub async fn revive(&mut self) {
        self.running = Running::start_at(self.running.address, router(self.script.clone())).await;
    }
}

fn router(script: Arc<Script>) -> Router {
    Router::new().route("/sse", get(open)).route("/messages", post(take)).with_state(script)
}

async fn open(State(script): State<Arc<Script>>) -> Response {
    let number = {
        let mut opened = script.opened.lock().unwrap();
        *opened += 1;
        *opened
    };
    let (sender, received) = mpsc::channel::<String>(64);
    script.streams.lock().unwrap().insert(number, sender);
    let start = format!("event: endpoint\ndata: /messages?stream={number}\n\n");
    let start = Bytes::from(start);
    let events = stream::unfold((Some(start), received), |(start, mut received)| async {
        let bytes = match start {
            Some(start) => start,
            None => event(&received.recv().await?),
        };
        Some((Ok::<_, io::Error>(bytes), (None, received)))
    });
    reply(StatusCode::OK, "text/event-stream", Body::from_stream(events))
}

async fn take(
    State(script): State<Arc<Script>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let number: usize = query.unwrap().strip_prefix("stream=").unwrap().parse().unwrap();
    let message: Value = serde_json::from_slice(&body).unwrap();
    let stream = script.streams.lock().unwrap().get(&number).cloned();
    let Some(stream) = stream else {
        return reply(StatusCode::NOT_FOUND, "text/plain", "no such stream");
    };
    script.seen.lock().unwrap().push((number, message.clone(), headers));
    for answer in script.answers(&message) {
        // A client that went away is none of the test's business.
        let _ = stream.send(answer).await;
    }
    reply(StatusCode::ACCEPTED, "text/plain", "Accepted")
}

impl Script {
    fn answers(&self, message: &Value) -> Vec<String> {
        let id = &message["id"];
        let result =
            |result: Value| vec![json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()];
        match message["method"].as_str() {
            Some("initialize") => result(json!({
                "protocolVersion": "2024-11-05",
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "legacy", "version": "1"},
            })),
            Some("tools/list") => result(json!({"tools": *self.tools.lock().unwrap()})),
            Some("tools/call") => {
                let on_call = self.on_call.lock().unwrap().clone();
                on_call(message)
            }
            Some(_) => Vec::new(),
            None => {
                let on_answer = self.on_answer.lock().unwrap().clone();
                on_answer(message)
            }
        }
    }
}
