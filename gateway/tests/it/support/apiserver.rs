//! An API server of a script: the Secrets of one namespace, listed and watched over HTTP.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::eventually;
use super::fixture::reply;
use super::running::Running;

/// Where the entries are.
pub const ENTRIES: &str = "fairway-entries";

#[derive(Debug, Default)]
struct Script {
    secrets: BTreeMap<String, Value>,
    version: u64,
    /// Events, each with its version.
    events: Vec<(u64, String)>,
    /// A watch from an earlier version than this is told that it is too old.
    compacted: u64,
    /// What is answered instead.
    refusal: Option<StatusCode>,
    lists: usize,
    watches: usize,
}

/// The server.
#[derive(Debug)]
pub struct ApiServer {
    script: Arc<Shared>,
    running: Running,
}

#[derive(Debug)]
struct Shared {
    script: Mutex<Script>,
    /// Version of the last event; a watch that should end sees another epoch.
    news: watch::Sender<(u64, u64)>,
}

impl ApiServer {
    pub async fn start() -> Self {
        let script = Script { version: 100, ..Script::default() };
        let script =
            Arc::new(Shared { script: Mutex::new(script), news: watch::Sender::new((100, 0)) });
        Self { running: Running::start(router(script.clone())).await, script }
    }

    /// How a client gets there.
    pub fn kubeconfig(&self) -> String {
        let cluster = json!({"name": "it", "cluster": {"server": format!("http://{}", self.running.address)}});
        let context = json!({"name": "it", "context": {"cluster": "it", "user": "it"}});
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [cluster], "contexts": [context], "users": [{"name": "it", "user": {}}],
        })
        .to_string()
    }

    /// Puts a Secret there and gives its version.
    pub fn put(&self, name: &str, kind: &str, data: &[(&str, &[u8])]) -> u64 {
        self.write(name, kind, data, true)
    }

    /// The same, but whoever watches is not told.
    pub fn put_unseen(&self, name: &str, kind: &str, data: &[(&str, &[u8])]) -> u64 {
        self.write(name, kind, data, false)
    }

    fn write(&self, name: &str, kind: &str, data: &[(&str, &[u8])], told: bool) -> u64 {
        let data: BTreeMap<_, _> =
            data.iter().map(|(key, value)| (*key, STANDARD.encode(value))).collect();
        let mut script = self.script.script.lock().unwrap();
        script.version += 1;
        let version = script.version;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": kind, "data": data,
            "metadata": {
                "name": name, "namespace": ENTRIES, "resourceVersion": version.to_string(),
            },
        });
        let before = script.secrets.insert(name.to_owned(), secret.clone());
        let what = if before.is_some() { "MODIFIED" } else { "ADDED" };
        self.say(script, what, &secret, told);
        version
    }

    pub fn delete(&self, name: &str) -> u64 {
        self.remove(name, true)
    }

    /// The same, but whoever watches is not told.
    pub fn delete_unseen(&self, name: &str) -> u64 {
        self.remove(name, false)
    }

    fn remove(&self, name: &str, told: bool) -> u64 {
        let mut script = self.script.script.lock().unwrap();
        script.version += 1;
        let version = script.version;
        let mut secret = script.secrets.remove(name).unwrap();
        secret["metadata"]["resourceVersion"] = json!(version.to_string());
        self.say(script, "DELETED", &secret, told);
        version
    }

    fn say(
        &self,
        mut script: std::sync::MutexGuard<'_, Script>,
        what: &str,
        secret: &Value,
        told: bool,
    ) {
        if told {
            let event = json!({"type": what, "object": secret}).to_string() + "\n";
            let version = script.version;
            script.events.push((version, event));
            drop(script);
            self.script.news.send_modify(|(last, _)| *last = version);
        }
    }

    /// Forgets all events so far and ends all watches: whoever comes back must list again.
    pub fn compact(&self) {
        let mut script = self.script.script.lock().unwrap();
        script.version += 1;
        script.compacted = script.version;
        script.events.clear();
        drop(script);
        self.end_watches();
    }

    pub fn end_watches(&self) {
        self.script.news.send_modify(|(_, epoch)| *epoch += 1);
    }

    /// Answers everything with this, from the next request on.
    pub fn refuse(&self, status: Option<StatusCode>) {
        self.script.script.lock().unwrap().refusal = status;
    }

    /// Lists and watches that were asked for.
    pub fn asked(&self) -> (usize, usize) {
        let script = self.script.script.lock().unwrap();
        (script.lists, script.watches)
    }

    /// Waits until that many more were refused or answered.
    pub async fn is_asked_again(&self) {
        let (lists, watches) = self.asked();
        eventually("another request", || async {
            let (now, then) = (self.asked(), (lists, watches));
            (now.0 + now.1 >= then.0 + then.1 + 2).then_some(())
        })
        .await;
    }

    pub async fn kill(&self) {
        self.running.kill().await;
    }

    pub async fn revive(&mut self) {
        let address = self.running.address;
        self.running = Running::start_at(address, router(self.script.clone())).await;
    }
}

fn router(script: Arc<Shared>) -> Router {
    Router::new().fallback(serve).with_state(script)
}

struct Asked {
    watch: bool,
    version: String,
    limit: usize,
    /// Name after which the page begins.
    after: String,
}

impl Asked {
    fn of(query: &str) -> Self {
        let query: BTreeMap<_, _> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let text = |name: &str| query.get(name).cloned().unwrap_or_default();
        Self {
            watch: text("watch") == "true",
            version: text("resourceVersion"),
            limit: text("limit").parse().unwrap_or(usize::MAX),
            after: text("continue"),
        }
    }
}

async fn serve(State(shared): State<Arc<Shared>>, request: http::Request<Body>) -> Response {
    let asked = Asked::of(request.uri().query().unwrap_or_default());
    let path = request.uri().path();
    assert_eq!(path, format!("/api/v1/namespaces/{ENTRIES}/secrets"), "what RBAC allows");
    assert_eq!(request.method(), http::Method::GET);
    let mut script = shared.script.lock().unwrap();
    *if asked.watch { &mut script.watches } else { &mut script.lists } += 1;
    if let Some(code) = script.refusal {
        return status(code, "no");
    }
    if !asked.watch {
        return list(&script, &asked);
    }
    let from: u64 = asked.version.parse().unwrap();
    if from < script.compacted {
        let gone = json!({"type": "ERROR", "object": failure(StatusCode::GONE, "too old")});
        return reply(StatusCode::OK, "application/json", gone.to_string() + "\n");
    }
    drop(script);
    watch(shared, from)
}

/// In pages, as a large namespace is read.
fn list(script: &Script, asked: &Asked) -> Response {
    let after = (Bound::Excluded(asked.after.clone()), Bound::Unbounded);
    let rest: Vec<_> = script.secrets.range::<String, _>(after).collect();
    let page = &rest[..rest.len().min(asked.limit)];
    let more = page.last().filter(|_| page.len() < rest.len()).map(|(name, _)| name.as_str());
    let items: Vec<_> = page.iter().map(|(_, secret)| secret).collect();
    let list = json!({
        "apiVersion": "v1", "kind": "SecretList", "items": items,
        "metadata": {"resourceVersion": script.version.to_string(), "continue": more},
    });
    reply(StatusCode::OK, "application/json", list.to_string())
}

fn watch(shared: Arc<Shared>, from: u64) -> Response {
    let mut news = shared.news.subscribe();
    let epoch = news.borrow_and_update().1;
    let events = stream::unfold((shared, news, from), move |(shared, mut news, from)| async move {
        loop {
            if news.borrow_and_update().1 != epoch {
                return None;
            }
            let (version, event): (Vec<_>, Vec<_>) = {
                let script = shared.script.lock().unwrap();
                let next = script.events.partition_point(|(version, _)| *version <= from);
                script.events[next..].iter().cloned().unzip()
            };
            if let Some(last) = version.last() {
                let bytes = Bytes::from(event.concat());
                return Some((Ok::<_, io::Error>(bytes), (shared, news, *last)));
            }
            news.changed().await.ok()?;
        }
    });
    reply(StatusCode::OK, "application/json", Body::from_stream(events.boxed()))
}

fn failure(code: StatusCode, message: &str) -> Value {
    let reason = code.canonical_reason().unwrap();
    json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "metadata": {},
        "code": code.as_u16(), "reason": reason, "message": message,
    })
}

fn status(code: StatusCode, message: &str) -> Response {
    reply(code, "application/json", failure(code, message).to_string())
}
