//! A scripted MCP server over Streamable HTTP: it behaves until a test says how it does not.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use super::running::Running;
use super::{eventually, manifests, modern};

type Handler = Arc<dyn Fn(Seen) -> BoxFuture<'static, Response> + Send + Sync>;

/// A message, and the session it is for if it is not for all.
pub(super) type News = (Option<String>, String);

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub http: Method,
    pub headers: HeaderMap,
    pub message: Value,
}

impl Seen {
    pub fn id(&self) -> Value {
        self.message["id"].clone()
    }

    pub fn method(&self) -> &str {
        self.message["method"].as_str().unwrap_or_default()
    }

    pub fn session(&self) -> Option<&str> {
        self.headers.get("mcp-session-id").map(|id| id.to_str().unwrap())
    }
}

#[derive(Default)]
pub(super) struct Script {
    handlers: Mutex<HashMap<String, Handler>>,
    /// What is listed, by the member of the list that holds it.
    pub(super) lists: Mutex<HashMap<&'static str, Vec<Value>>>,
    /// What it says of itself.
    pub(super) hello: Mutex<Value>,
    seen: Mutex<Vec<Seen>>,
    /// Calls that wait for the end of their handler.
    open: AtomicUsize,
    /// `None` without sessions.
    sessions: Mutex<Option<BTreeSet<String>>>,
    begun: AtomicUsize,
    /// What is said to a session that is not known.
    lost: Mutex<Option<(StatusCode, String)>>,
    /// `None` without a GET stream.
    pub(super) news: Mutex<Option<broadcast::Sender<News>>>,
    /// Whether it speaks 2026-07-28, and nothing else.
    pub(super) is_modern: bool,
}

/// The server.
pub struct Fixture {
    script: Arc<Script>,
    running: Running,
}

impl Fixture {
    /// A server without sessions that has the tool `work`.
    pub async fn start() -> Self {
        Self::start_with(Script::default()).await
    }

    /// The same of 2026-07-28, which announces to who listens.
    pub async fn modern() -> Self {
        Self::start_with(Script { is_modern: true, ..Script::default() }).await.announcing()
    }

    async fn start_with(script: Script) -> Self {
        let script = Arc::new(script);
        let fixture = Self { running: Running::start(router(script.clone())).await, script };
        fixture.introduces(json!({
            "capabilities": {"tools": {"listChanged": true}},
            "serverInfo": {"name": "fixture", "version": "1"},
        }));
        fixture.offer(&["work"]);
        fixture
    }

    /// The same, with sessions.
    pub async fn with_sessions() -> Self {
        let fixture = Self::start().await;
        fixture.keep_sessions(true);
        fixture
    }

    /// Has sessions from now on, none of which it knows, or has none.
    pub fn keep_sessions(&self, keeps: bool) {
        *self.script.sessions.lock().unwrap() = keeps.then(BTreeSet::new);
    }

    /// Offers a stream on which it announces.
    pub fn announcing(self) -> Self {
        *self.script.news.lock().unwrap() = Some(broadcast::channel(16).0);
        self
    }

    /// Its manifest: its tools keep their names.
    pub fn manifest(&self, name: &str) -> String {
        manifests::server(name, &self.url())
    }

    /// Its manifest with more fields of `spec`.
    pub fn manifest_with(&self, name: &str, fields: &str) -> String {
        manifests::server_with(name, &self.url(), &format!("tools: {{prefix: \"\"}}\n{fields}"))
    }

    pub fn url(&self) -> String {
        self.running.url()
    }

    /// Has exactly these tools from now on.
    pub fn offer(&self, tools: &[&str]) {
        self.offer_definitions(tools.iter().map(|name| tool(name)).collect());
    }

    pub fn offer_definitions(&self, tools: Vec<Value>) {
        self.list("tools", tools);
    }

    /// Lists exactly these from now on, as this member of the list.
    pub fn list(&self, member: &'static str, items: Vec<Value>) {
        self.script.lists.lock().unwrap().insert(member, items);
    }

    /// Says this of itself to who comes from now on.
    pub fn introduces(&self, hello: Value) {
        *self.script.hello.lock().unwrap() = hello;
    }

    /// Answers requests of a method by this from now on.
    pub fn on<F>(&self, method: &str, handler: impl Fn(Seen) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Response> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |seen| Box::pin(handler(seen)));
        self.script.handlers.lock().unwrap().insert(method.to_owned(), handler);
    }

    /// Behaves, but answers requests of a method only when the gate is opened.
    pub fn hold(&self, method: &str) -> CancellationToken {
        let (gate, script) = (CancellationToken::new(), self.script.clone());
        let held = gate.clone();
        self.on(method, move |seen| {
            let (held, script) = (held.clone(), script.clone());
            async move {
                held.cancelled().await;
                script.behave(&seen)
            }
        });
        gate
    }

    /// Behaves again.
    pub fn behave(&self) {
        self.script.handlers.lock().unwrap().clear();
    }

    /// Says something on all GET streams. False if none is open.
    pub fn announce(&self, message: &Value) -> bool {
        self.tell(None, message)
    }

    /// Ends all GET streams; others may be opened.
    pub fn end_streams(&self) {
        if let Some(news) = &mut *self.script.news.lock().unwrap() {
            *news = broadcast::channel(16).0;
        }
    }

    /// Says something on the GET streams of a session. False if none is open at all.
    pub fn announce_to(&self, session: &str, message: &Value) -> bool {
        self.tell(Some(session.to_owned()), message)
    }

    fn tell(&self, session: Option<String>, message: &Value) -> bool {
        let news = self.script.news.lock().unwrap();
        news.as_ref().is_some_and(|news| news.send((session, message.to_string())).is_ok())
    }

    /// Asks its client these questions, one after the other, in the middle of each call, and tells
    /// the answers as the text of its result. One without an id has that of the call, as text.
    pub fn asks(&self, questions: Vec<Value>) {
        let script = self.script.clone();
        self.on("tools/call", move |seen| {
            let response = script.ask(&seen, questions.clone());
            async { response }
        });
    }

    /// Everything it was sent.
    pub fn seen(&self) -> Vec<Seen> {
        self.script.seen.lock().unwrap().clone()
    }

    pub fn seen_of(&self, method: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.method() == method).collect()
    }

    /// Waits for so many requests of a method.
    pub async fn sees(&self, method: &str, count: usize) -> Vec<Seen> {
        eventually(&format!("{count} of {method}"), || async {
            let seen = self.seen_of(method);
            (seen.len() >= count).then_some(seen)
        })
        .await
    }

    /// Handlers that are under way.
    pub fn open(&self) -> usize {
        self.script.open.load(Ordering::SeqCst)
    }

    /// Waits until no handler of its is under way.
    pub async fn is_left_alone(&self) {
        eventually("the end of all calls", || async { (self.open() == 0).then_some(()) }).await;
    }

    /// Forgets all sessions, and says so like this, with the id of the request for `$id`.
    pub fn forget_sessions(&self, status: StatusCode, body: &str) {
        *self.script.lost.lock().unwrap() = Some((status, body.to_owned()));
        *self.script.sessions.lock().unwrap() = Some(BTreeSet::new());
    }

    pub fn sessions(&self) -> BTreeSet<String> {
        self.script.sessions.lock().unwrap().clone().unwrap_or_default()
    }

    pub async fn kill(&self) {
        self.running.kill().await;
    }

    /// Starts it again after [`Self::kill`], without the sessions it had.
    pub async fn revive(&mut self) {
        if let Some(sessions) = &mut *self.script.sessions.lock().unwrap() {
            sessions.clear();
        }
        self.running = Running::start_at(self.running.address, router(self.script.clone())).await;
    }
}

/// A definition.
pub fn tool(name: &str) -> Value {
    json!({"name": name, "inputSchema": {"type": "object"}})
}

/// A definition of a tool that may be called twice.
pub fn replayable(name: &str) -> Value {
    json!({"name": name, "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": true}})
}

fn router(script: Arc<Script>) -> Router {
    Router::new().fallback(serve).with_state(script)
}

async fn serve(State(script): State<Arc<Script>>, request: http::Request<Body>) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let message = serde_json::from_slice(&body).unwrap_or_default();
    let seen = Seen { http: parts.method, headers: parts.headers, message };
    script.seen.lock().unwrap().push(seen.clone());
    let handler = script.handlers.lock().unwrap().get(seen.method()).cloned();
    if let Some(refusal) = script.refuse(&seen) {
        return refusal;
    }
    match handler {
        Some(handler) => {
            let _open = Open::new(&script.open);
            handler(seen).await
        }
        None => script.behave(&seen),
    }
}

struct Open<'a>(&'a AtomicUsize);

impl<'a> Open<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Script {
    fn refuse(&self, seen: &Seen) -> Option<Response> {
        let sessions = self.sessions.lock().unwrap();
        let known = sessions.as_ref()?;
        if seen.method() == "initialize" || seen.session().is_some_and(|id| known.contains(id)) {
            return None;
        }
        let lost = self.lost.lock().unwrap().clone();
        let (status, body) =
            lost.unwrap_or_else(|| (StatusCode::NOT_FOUND, "no session".to_owned()));
        let body = body.replace("$id", &seen.id().to_string());
        let media_type = if body.starts_with('{') { "application/json" } else { "text/plain" };
        Some(reply(status, media_type, body))
    }

    fn behave(&self, seen: &Seen) -> Response {
        if self.is_modern {
            return modern::behave(self, seen);
        }
        match seen.http {
            Method::GET => return self.listen(seen.session()),
            Method::DELETE => {
                let mut sessions = self.sessions.lock().unwrap();
                let known = sessions.as_mut().zip(seen.session());
                known.map(|(sessions, id)| sessions.remove(id));
                return reply(StatusCode::NO_CONTENT, "text/plain", "");
            }
            _ => {}
        }
        match seen.method() {
            "initialize" => self.initialize(seen),
            method => match self.result_of(method, seen) {
                Some(found) => result(seen, &found),
                None if seen.id().is_null() || method.is_empty() => {
                    reply(StatusCode::ACCEPTED, "text/plain", "")
                }
                None => unknown(seen, StatusCode::OK),
            },
        }
    }

    /// What is the same in both eras.
    pub(super) fn result_of(&self, method: &str, seen: &Seen) -> Option<Value> {
        let params = &seen.message["params"];
        let member = match method {
            "tools/list" => "tools",
            "prompts/list" => "prompts",
            "resources/list" => "resources",
            "resources/templates/list" => "resourceTemplates",
            "tools/call" => return Some(json!({"content": [{"type": "text", "text": "done"}]})),
            "prompts/get" => {
                let text = format!("prompt {}", params["name"].as_str().unwrap());
                let content = json!({"type": "text", "text": text});
                return Some(json!({"messages": [{"role": "user", "content": content}]}));
            }
            "resources/read" => {
                let uri = &params["uri"];
                let text = format!("text of {}", uri.as_str().unwrap());
                return Some(json!({"contents": [{"uri": uri, "text": text}]}));
            }
            "completion/complete" => {
                let given = &params["ref"];
                let value = given.get("name").or_else(|| given.get("uri")).unwrap();
                return Some(json!({"completion": {"values": [value]}}));
            }
            "resources/subscribe" | "resources/unsubscribe" | "logging/setLevel" => {
                return Some(json!({}));
            }
            _ => return None,
        };
        let items = self.lists.lock().unwrap().get(member).cloned().unwrap_or_default();
        Some(json!({member: items}))
    }

    /// Answers a call with a stream on which these questions are asked first.
    fn ask(self: &Arc<Self>, call: &Seen, questions: Vec<Value>) -> Response {
        let (sender, body) = driven();
        let (script, call) = (self.clone(), call.clone());
        tokio::spawn(async move {
            let mut answers = Vec::new();
            for mut question in questions {
                if question["id"].is_null() {
                    question["id"] = format!("q-{}", call.id()).into();
                }
                let known = script.answers(&call, &question["id"]).len();
                // A client that went away is none of the test's business.
                let _ = sender.send(event(&question.to_string())).await;
                let answer = eventually("an answer", || async {
                    let told = script.answers(&call, &question["id"]).get(known).cloned();
                    told.or_else(|| sender.is_closed().then_some(Value::Null))
                });
                answers.push(answer.await);
            }
            let content = json!([{"type": "text", "text": Value::from(answers).to_string()}]);
            let done = json!({"jsonrpc": "2.0", "id": call.id(), "result": {"content": content}});
            let _ = sender.send(event(&done.to_string())).await;
        });
        event_stream(body)
    }

    /// Answers in the session of a call to what was asked with an id.
    fn answers(&self, call: &Seen, id: &Value) -> Vec<Value> {
        let seen = self.seen.lock().unwrap();
        let answers = seen.iter().filter(|seen| seen.message.get("method").is_none());
        answers
            .filter(|seen| seen.id() == *id && seen.session() == call.session())
            .map(|seen| seen.message.clone())
            .collect()
    }

    fn initialize(&self, seen: &Seen) -> Response {
        let mut hello = self.hello.lock().unwrap().clone();
        hello["protocolVersion"] = "2025-11-25".into();
        let mut response = result(seen, &hello);
        if let Some(sessions) = &mut *self.sessions.lock().unwrap() {
            let id = format!("upstream-{}", self.begun.fetch_add(1, Ordering::SeqCst));
            response.headers_mut().insert("mcp-session-id", id.parse().unwrap());
            sessions.insert(id);
        }
        response
    }

    fn listen(&self, session: Option<&str>) -> Response {
        let Some(news) = self.news.lock().unwrap().as_ref().map(broadcast::Sender::subscribe)
        else {
            return reply(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "no stream");
        };
        let events = stream::unfold((news, session.map(str::to_owned)), |(mut news, own)| async {
            loop {
                let (session, message) = news.recv().await.ok()?;
                if session.is_none() || session == own {
                    return Some((Ok::<_, io::Error>(event(&message)), (news, own)));
                }
            }
        });
        reply(StatusCode::OK, "text/event-stream", Body::from_stream(events))
    }
}

/// A response with anything in it.
pub fn reply(status: StatusCode, media_type: &str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, media_type.parse().unwrap());
    response
}

pub fn json_reply(body: impl Into<Body>) -> Response {
    reply(StatusCode::OK, "application/json", body)
}

pub fn event_stream(body: impl Into<Body>) -> Response {
    reply(StatusCode::OK, "text/event-stream", body)
}

/// A result for a request.
pub fn result(seen: &Seen, result: &Value) -> Response {
    json_reply(json!({"jsonrpc": "2.0", "id": seen.id(), "result": result}).to_string())
}

/// The result of a tool that says `done`.
pub fn done(seen: &Seen) -> Response {
    json_reply(done_text(&seen.id()))
}

pub fn done_text(id: &Value) -> String {
    let content = json!([{"type": "text", "text": "done"}]);
    json!({"jsonrpc": "2.0", "id": id, "result": {"content": content}}).to_string()
}

/// The error for a method that is not known.
pub fn unknown(seen: &Seen, status: StatusCode) -> Response {
    let error = json!({"code": -32601, "message": "not a method of mine"});
    let answer = json!({"jsonrpc": "2.0", "id": seen.id(), "error": error});
    reply(status, "application/json", answer.to_string())
}

/// A message as an event.
pub fn event(message: &str) -> Bytes {
    format!("event: message\ndata: {message}\n\n").into()
}

/// A part of a body.
#[derive(Debug, Clone)]
pub enum Part {
    Bytes(Bytes),
    /// Goes on when this is cancelled.
    Gate(CancellationToken),
    /// Closes the connection in the middle.
    Break,
    Hang,
}

pub fn part(bytes: impl Into<Bytes>) -> Part {
    Part::Bytes(bytes.into())
}

/// A body that comes in parts.
pub fn body(parts: Vec<Part>) -> Body {
    let parts = stream::iter(parts).filter_map(|part| async {
        match part {
            Part::Bytes(bytes) => Some(Ok(bytes)),
            Part::Gate(gate) => {
                gate.cancelled().await;
                None
            }
            Part::Break => {
                // Lets hyper write what came before.
                tokio::task::yield_now().await;
                Some(Err(io::Error::other("broken")))
            }
            Part::Hang => std::future::pending().await,
        }
    });
    Body::from_stream(parts)
}

/// A body whose parts are sent by a test.
pub fn driven() -> (mpsc::Sender<Bytes>, Body) {
    let (sender, received) = mpsc::channel(16);
    let parts = stream::unfold(received, |mut received: mpsc::Receiver<Bytes>| async {
        Some((Ok::<_, io::Error>(received.recv().await?), received))
    });
    (sender, Body::from_stream(parts))
}
