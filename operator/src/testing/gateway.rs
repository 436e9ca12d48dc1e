//! A gateway as far as the operator sees it: a pod, a report and lists of tools.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream;
use gateway_core::Catalog;
use gateway_core::report::{Hello, Line, Watermark};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

/// What opens its admin port.
const TOKEN: &str = "Bearer admin-token";

/// A gateway that runs until it is dropped.
pub(crate) struct Gateway {
    pub(crate) pod: String,
    port: u16,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    /// What a new reader is told first.
    told: Mutex<Vec<Bytes>>,
    news: broadcast::Sender<Bytes>,
    /// By server.
    lists: Mutex<HashMap<String, Vec<u8>>>,
    readers: Mutex<usize>,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Gateway {
    pub(crate) async fn start(pod: &str) -> Self {
        let shared = Arc::new(Shared {
            told: Mutex::default(),
            news: broadcast::channel(64).0,
            lists: Mutex::default(),
            readers: Mutex::default(),
        });
        let router = Router::new()
            .route("/report", get(report))
            .route("/catalog/{namespace}/{server}", get(list))
            .with_state(shared.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let gateway = Self { pod: pod.to_owned(), port, shared, task };
        gateway.tell(&Line::Hello(Hello {
            pod: pod.to_owned(),
            uid: pod.to_owned(),
            version: "1".to_owned(),
        }));
        gateway
    }

    /// Its pod, as Kubernetes has it. Its UID is its name.
    pub(crate) fn pod(&self, ready: bool) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": self.pod, "namespace": "fairway", "uid": self.pod,
                "labels": {"component": "gateway"},
            },
            "spec": {"containers": [{
                "name": "gateway", "ports": [{"name": "admin", "containerPort": self.port}],
            }]},
            "status": {
                "podIP": "127.0.0.1", "phase": "Running",
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
            },
        })
    }

    /// Reports something, now and to whoever reads later.
    pub(crate) fn tell(&self, line: &Line) {
        let mut line = serde_json::to_vec(line).unwrap();
        line.push(b'\n');
        self.tell_raw(line.into());
    }

    pub(crate) fn tell_raw(&self, line: Bytes) {
        let mut told = self.shared.told.lock().unwrap();
        told.push(line.clone());
        // Nobody reads yet.
        let _ = self.shared.news.send(line);
    }

    /// Reports that it knows everything, whatever is written.
    pub(crate) fn knows_all(&self) {
        let watermark = Watermark { resource_version: u64::MAX, complete: true };
        self.tell(&Line::Table(watermark));
    }

    /// Has this list of a server of the team.
    pub(crate) fn lists(&self, server: &str, catalog: &Catalog) {
        let json = catalog.to_json();
        self.shared.lists.lock().unwrap().insert(format!("team/{server}"), json);
    }

    /// How often its report was asked for.
    pub(crate) fn readers(&self) -> usize {
        *self.shared.readers.lock().unwrap()
    }
}

async fn report(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if headers.get("authorization").is_none_or(|value| value != TOKEN) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let told = shared.told.lock().unwrap();
    *shared.readers.lock().unwrap() += 1;
    let (told, news) = (told.clone(), shared.news.subscribe());
    let told = stream::iter(told.into_iter().map(Ok::<_, Infallible>));
    let news = stream::unfold(news, |mut news| async move {
        let line = news.recv().await.ok()?;
        Some((Ok(line), news))
    });
    Body::from_stream(futures_util::StreamExt::chain(told, news)).into_response()
}

async fn list(
    State(shared): State<Arc<Shared>>,
    Path((namespace, server)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let lists = shared.lists.lock().unwrap();
    match lists.get(&format!("{namespace}/{server}")) {
        _ if headers.get("authorization").is_none_or(|value| value != TOKEN) => {
            StatusCode::UNAUTHORIZED.into_response()
        }
        Some(list) => list.clone().into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
