//! The floor: the least any gateway of this kind can do, on the libraries that Fairway uses.
//!
//! It checks a key by its HMAC digest, reads the JSON-RPC envelope, gives the call an id of its own
//! upstream and the client's id back downstream. It knows no policy, session, limit or metric.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use anyhow::{Context, Result, bail};
use aws_lc_rs::hmac;
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::ListenerExt,
};
use bytes::Bytes;
use clap::Args;
use futures_util::{StreamExt, stream};
use http::{
    HeaderMap, HeaderName, Method, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE},
};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{net::TcpListener, runtime};

use crate::bench::{
    API_KEY,
    process::{self, Process},
};

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Where the MCP server listens.
    upstream: SocketAddr,
}

/// Starts the floor before the server at `upstream` as a process of its own.
pub(super) fn start(upstream: SocketAddr) -> Result<(Process, SocketAddr)> {
    Process::listener(["floor".to_owned(), upstream.to_string()])
}

/// Serves on a port of the kernel's choice, printed as the first line.
///
/// One single-threaded runtime a core, all accepting from one socket: a call never changes its
/// thread. A work-stealing runtime and a socket a thread (SO_REUSEPORT) were tried and are slower.
pub(super) fn serve(options: &Options) -> Result<()> {
    process::raise_file_limit()?;
    let keys = Arc::new(Keys::new(API_KEY));
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;

    let mut workers = Vec::new();
    for _ in 0..thread::available_parallelism()?.get() {
        let listener = listener.try_clone()?;
        let router = router(Arc::clone(&keys), options.upstream)?;
        workers.push(thread::spawn(move || accept(listener, router)));
    }
    println!("{address}");
    workers.into_iter().try_for_each(|worker| {
        worker.join().unwrap_or_else(|_| bail!("a worker of the floor panicked"))
    })
}

fn accept(listener: std::net::TcpListener, router: Router) -> Result<()> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::from_std(listener)?.tap_io(|stream| {
            // Without it answers wait for the client's delayed acknowledgement.
            let _ = stream.set_nodelay(true);
        });
        Ok(axum::serve(listener, router).await?)
    })
}

fn router(keys: Arc<Keys>, upstream: SocketAddr) -> Result<Router> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let floor = Floor {
        keys,
        client: Client::builder(TokioExecutor::new()).build(connector),
        upstream: format!("http://{upstream}/mcp").parse().context("not an address")?,
        last_id: AtomicU64::new(0),
    };
    Ok(Router::new()
        .route("/mcp", post(forward))
        .route("/sse", get(idle_stream))
        .with_state(Arc::new(floor)))
}

struct Floor {
    keys: Arc<Keys>,
    client: Client<HttpConnector, Full<Bytes>>,
    upstream: Uri,
    last_id: AtomicU64,
}

async fn forward(State(floor): State<Arc<Floor>>, request: Request) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    floor.keys.user(&head.headers).ok_or(Refusal::UnknownKey)?;
    let body = axum::body::to_bytes(body, MAX_BODY).await.map_err(|_| Refusal::BadRequest)?;
    let envelope: Envelope<'_> = serde_json::from_slice(&body).map_err(|_| Refusal::BadRequest)?;

    let Some(id) = envelope.id else {
        let (head, body) = floor.send(&head.headers, body.clone()).await?;
        return Ok((head.status, body).into_response());
    };
    let own_id = floor.last_id.fetch_add(1, Ordering::Relaxed) + 1;
    let own_id = own_id.to_string();
    let (head, answer) =
        floor.send(&head.headers, splice(&body, id, own_id.as_bytes()).into()).await?;

    let envelope: Envelope<'_> =
        serde_json::from_slice(&answer).map_err(|_| Refusal::BadGateway)?;
    let answered = envelope.id.filter(|id| id.get() == own_id).ok_or(Refusal::BadGateway)?;
    let mut response = Response::new(Body::from(splice(&answer, answered, id.get().as_bytes())));
    *response.status_mut() = head.status;
    if let Some(kind) = head.headers.get(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, kind.clone());
    }
    Ok(response)
}

impl Floor {
    async fn send(
        &self,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<(http::response::Parts, Bytes), Refusal> {
        let mut request = http::Request::new(Full::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.upstream.clone();
        for name in &FORWARDED {
            if let Some(value) = headers.get(name) {
                request.headers_mut().insert(name, value.clone());
            }
        }
        let answer = self.client.request(request).await.map_err(|_| Refusal::BadGateway)?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|_| Refusal::BadGateway)?.to_bytes();
        Ok((head, body))
    }
}

/// One idle legacy stream: what memory it costs on these libraries alone.
async fn idle_stream(
    State(floor): State<Arc<Floor>>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    floor.keys.user(&headers).ok_or(Refusal::UnknownKey)?;
    let endpoint = Bytes::from_static(b"event: endpoint\ndata: /messages\n\n");
    let events = stream::iter([Ok::<_, std::io::Error>(endpoint)]).chain(stream::pending());
    let headers = [(CONTENT_TYPE, "text/event-stream"), (CACHE_CONTROL, "no-cache")];
    Ok((headers, Body::from_stream(events)).into_response())
}

/// The fields of a JSON-RPC message that its transport needs.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

/// Users by the digest of their key.
struct Keys {
    pepper: hmac::Key,
    users: HashMap<Vec<u8>, &'static str>,
}

impl Keys {
    fn new(key: &str) -> Self {
        let pepper = hmac::Key::new(hmac::HMAC_SHA256, b"pepper");
        let digest = hmac::sign(&pepper, key.as_bytes()).as_ref().to_vec();
        Self { pepper, users: HashMap::from([(digest, "bench")]) }
    }

    fn user(&self, headers: &HeaderMap) -> Option<&'static str> {
        let key = match headers.get(AUTHORIZATION) {
            Some(value) => value.as_bytes().strip_prefix(b"Bearer ")?,
            None => headers.get("x-api-key")?.as_bytes(),
        };
        self.users.get(hmac::sign(&self.pepper, key).as_ref()).copied()
    }
}

enum Refusal {
    UnknownKey,
    BadRequest,
    BadGateway,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self {
            Self::UnknownKey => StatusCode::UNAUTHORIZED,
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
        }
        .into_response()
    }
}

/// Replaces `part`, a slice of `whole`, by `replacement`.
fn splice(whole: &[u8], part: &RawValue, replacement: &[u8]) -> Vec<u8> {
    let part = part.get().as_bytes();
    let start = part.as_ptr().addr() - whole.as_ptr().addr();
    let mut spliced = Vec::with_capacity(whole.len() - part.len() + replacement.len());
    spliced.extend_from_slice(&whole[..start]);
    spliced.extend_from_slice(replacement);
    spliced.extend_from_slice(&whole[start + part.len()..]);
    spliced
}

const FORWARDED: [HeaderName; 3] =
    [ACCEPT, CONTENT_TYPE, HeaderName::from_static("mcp-protocol-version")];

/// Fairway's limit for a request body.
const MAX_BODY: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn splice_replaces_the_id_where_it_stands() {
        let whole = br#"{"result":{"id":7}, "id" : "a\"b" ,"x":1}"#;
        let envelope: Envelope<'_> = serde_json::from_slice(whole).unwrap();

        let spliced = splice(whole, envelope.id.unwrap(), b"42");

        assert_eq!(spliced, br#"{"result":{"id":7}, "id" : 42 ,"x":1}"#);
    }

    #[test]
    fn keys_are_taken_from_either_header_and_others_refused() {
        let keys = Keys::new("secret");
        let with = |name: &'static str, value: &'static str| {
            keys.user(&HeaderMap::from_iter([(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )]))
        };

        assert_eq!(with("authorization", "Bearer secret"), Some("bench"));
        assert_eq!(with("x-api-key", "secret"), Some("bench"));
        assert_eq!(with("authorization", "Bearer other"), None);
        assert_eq!(keys.user(&HeaderMap::new()), None);
    }
}
