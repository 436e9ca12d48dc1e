//! An MCP server of the tests' own, outside the cluster, that does what it is told: it wants a credential, changes its
//! tools, redirects, and remembers who asked.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use anyhow::{Result, bail};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, Method, Response, StatusCode, header},
};
use e2e::cluster::{Release, Tenant};
use futures_util::stream;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

/// The server, until it is dropped.
#[derive(Debug)]
pub(crate) struct Stub {
    address: SocketAddr,
    manner: Arc<Manner>,
    _server: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Manner {
    tools: Mutex<Vec<Value>>,
    wants: Mutex<Option<String>>,
    redirects: Mutex<Option<(StatusCode, String)>>,
    seen: Mutex<Vec<Seen>>,
    changes: watch::Sender<u64>,
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// The method of JSON-RPC; empty if there was none.
    pub(crate) method: String,
    pub(crate) headers: HeaderMap,
}

impl Stub {
    /// Starts one with these tools, where the cluster reaches it.
    pub(crate) async fn start(release: &Release, tools: &[(&str, &str)]) -> Result<Self> {
        let listener = TcpListener::bind((release.cluster().host_ip().await?, 0)).await?;
        let (address, manner) = (listener.local_addr()?, Arc::<Manner>::default());
        let router = Router::new().fallback(answer).with_state(manner.clone());
        let mut server = JoinSet::new();
        server.spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("the stub stopped: {error}");
            }
        });
        let stub = Self { address, manner, _server: server };
        stub.offer(tools);
        Ok(stub)
    }

    /// From now on it has these tools, with these descriptions, and says that they changed.
    pub(crate) fn offer(&self, tools: &[(&str, &str)]) {
        let tool = |(name, description): &(&str, &str)| json!({"name": name, "description": description, "inputSchema": {"type": "object"}});
        *lock(&self.manner.tools) = tools.iter().map(tool).collect();
        self.manner.changes.send_modify(|changes| *changes += 1);
    }

    /// From now on it wants this in the header Authorization.
    pub(crate) fn wants(&self, authorization: &str) {
        *lock(&self.manner.wants) = Some(authorization.to_owned());
    }

    /// From now on it sends everybody there.
    pub(crate) fn redirects(&self, status: u16, url: &str) {
        let status = StatusCode::from_u16(status).unwrap();
        *lock(&self.manner.redirects) = Some((status, url.to_owned()));
    }

    /// What came so far, the oldest first.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        lock(&self.manner.seen).clone()
    }

    /// Where it listens: an address of the node, to which no `url` may lead.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives it a Service of this namespace with an address to which a `url` may lead, and gives that URL.
    pub(crate) async fn publish(&self, tenant: &Tenant, name: &str) -> Result<String> {
        static NEXT: AtomicU8 = AtomicU8::new(0);

        // Others may have taken some of the sixteen.
        let mut refused = None;
        for _ in 0..16 {
            let number = 240 + NEXT.fetch_add(1, Ordering::Relaxed) % 15;
            let address = format!("10.96.255.{number}");
            match self.serve(tenant, name, json!(address)).await {
                Ok(()) => return Ok(format!("http://{name}.{}.svc/mcp", tenant.name())),
                Err(error) => refused = Some(error),
            }
        }
        bail!("no address is free: {refused:?}")
    }

    /// A Service without a selector that leads here.
    pub(crate) async fn serve(&self, tenant: &Tenant, name: &str, address: Value) -> Result<()> {
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"clusterIP": address, "ports": [{"name": "mcp", "port": 80}]},
        });
        tenant.namespace().apply(&service.to_string()).await?;
        let slice = slice(name, &[&self.address.ip().to_string()], self.address.port());
        tenant.namespace().apply(&slice.to_string()).await.map(drop)
    }
}

/// The endpoints of a Service that selects nothing.
pub(crate) fn slice(service: &str, addresses: &[&str], port: u16) -> Value {
    let endpoints: Vec<_> = addresses.iter().map(|ip| json!({"addresses": [ip]})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-outside"),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "mcp", "port": port, "protocol": "TCP"}],
        "endpoints": endpoints,
    })
}

async fn answer(
    State(manner): State<Arc<Manner>>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let message: Value = serde_json::from_slice(&body).unwrap_or_default();
    let asked = message["method"].as_str().unwrap_or_default().to_owned();
    let shown = headers.get(header::AUTHORIZATION).and_then(|shown| shown.to_str().ok());
    let wanted = lock(&manner.wants).clone();
    let admitted = wanted.is_none() || shown.map(str::to_owned) == wanted;
    lock(&manner.seen).push(Seen { method: asked.clone(), headers });

    if let Some((status, url)) = lock(&manner.redirects).clone() {
        let mut response = bare(status);
        response.headers_mut().insert(header::LOCATION, url.parse().unwrap());
        return response;
    }
    if !admitted {
        return bare(StatusCode::UNAUTHORIZED);
    }
    match (method, message.get("id")) {
        (Method::GET, _) => news(&manner),
        (Method::POST, Some(id)) => result(id, &reply(&manner, &asked, &message)),
        (Method::POST, None) => bare(StatusCode::ACCEPTED),
        _ => bare(StatusCode::METHOD_NOT_ALLOWED),
    }
}

fn reply(manner: &Manner, asked: &str, message: &Value) -> Value {
    match asked {
        "initialize" => json!({
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {"tools": {"listChanged": true}},
            "serverInfo": {"name": "stub", "version": "1"},
        }),
        "tools/list" => json!({"tools": *lock(&manner.tools)}),
        "tools/call" => {
            let text = format!("{} was called", message["params"]["name"]);
            json!({"content": [{"type": "text", "text": text}]})
        }
        _ => json!({}),
    }
}

/// The stream on which it says that its tools changed.
fn news(manner: &Manner) -> Response<Body> {
    let mut changes = manner.changes.subscribe();
    changes.mark_unchanged();
    let changed = stream::unfold(changes, |mut changes| async {
        changes.changed().await.ok()?;
        let message = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
        Some((Ok::<_, Infallible>(format!("event: message\ndata: {message}\n\n")), changes))
    });
    let mut response = Response::new(Body::from_stream(changed));
    let kind = "text/event-stream".parse().unwrap();
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn result(id: &Value, result: &Value) -> Response<Body> {
    let body = json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string();
    let mut response = Response::new(Body::from(body));
    let kind = "application/json".parse().unwrap();
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn bare(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
