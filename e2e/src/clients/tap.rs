//! A reverse proxy on loopback between a client and what it speaks to, as an ingress would be.
//!
//! It records every exchange and, when told, breaks some: an answer of its own, a connection that drops, streams that
//! end. It never retries and never changes a body.

use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt, io,
    net::Ipv4Addr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    thread,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, BodyStream, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Body as HttpBody, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use super::stage::free_port;

type Body = BoxBody<Bytes, io::Error>;

/// What happens to a request instead of reaching the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this status and text.
    Status(u16, &'static str),
    /// Its connection ends without an answer.
    Drop,
}

/// One request and how it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange {
    /// `GET`, `POST`, `DELETE`.
    pub verb: String,
    /// The path, without the query.
    pub path: String,
    /// The JSON-RPC method, if there is one.
    pub method: Option<String>,
    /// The whole JSON-RPC message.
    pub message: Value,
    /// The session that the request belongs to: its header, or the query of its URL.
    pub session: Option<String>,
    /// The revision that the request names in its header.
    pub revision: Option<String>,
    /// The status, or nothing if the connection ended first.
    pub status: Option<u16>,
    /// Whether who asked went away before the answer was over.
    pub abandoned: bool,
}

/// The running proxy.
pub struct Tap {
    port: u16,
    url: String,
    wire: Arc<Wire>,
    server: JoinSet<()>,
}

struct Wire {
    target: Mutex<String>,
    client: Client<HttpConnector, Full<Bytes>>,
    faults: Mutex<VecDeque<(String, Fault)>>,
    exchanges: watch::Sender<Vec<Exchange>>,
    stream_ends: watch::Sender<u64>,
}

impl Tap {
    /// Starts before `target`, `http://HOST:PORT`.
    pub async fn start(target: &str) -> Result<Self> {
        let mut client = Client::builder(TokioExecutor::new());
        // A connection kept over a restart of the server would be a fault nobody asked for.
        client.pool_max_idle_per_host(0);
        let wire = Arc::new(Wire {
            target: Mutex::new(authority(target)?),
            client: client.build(HttpConnector::new()),
            faults: Mutex::default(),
            exchanges: watch::Sender::default(),
            stream_ends: watch::Sender::default(),
        });
        let port = free_port()?;
        let mut tap =
            Self { port, url: format!("http://127.0.0.1:{port}"), wire, server: JoinSet::new() };

        tap.come_back().await?;
        Ok(tap)
    }

    /// Drops every connection and refuses new ones.
    pub async fn go_away(&mut self) {
        self.server.shutdown().await;
    }

    /// Accepts connections again, on the same port.
    pub async fn come_back(&mut self) -> Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await?;
        self.server.spawn(accept(listener, Arc::clone(&self.wire)));
        Ok(())
    }

    /// `http://HOST:PORT` of the proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends what comes from now on to another server.
    pub fn retarget(&self, target: &str) -> Result<()> {
        *self.wire.target.lock().unwrap_or_else(PoisonError::into_inner) = authority(target)?;
        Ok(())
    }

    /// The next request with this JSON-RPC method meets a fault; repeated, the next after that too.
    pub fn break_next(&self, method: &str, fault: Fault) {
        let mut faults = self.wire.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.push_back((method.to_owned(), fault));
    }

    /// Ends the streams that stay open, as a proxy does that is told to stop.
    pub fn end_streams(&self) {
        self.wire.stream_ends.send_modify(|ends| *ends += 1);
    }

    /// Everything that has passed or was broken so far, in the order of the answers.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.wire.exchanges.borrow().clone()
    }

    /// How many exchanges satisfy `condition`.
    pub fn count(&self, condition: impl Fn(&Exchange) -> bool) -> usize {
        self.wire.exchanges.borrow().iter().filter(|exchange| condition(exchange)).count()
    }

    /// Waits until `least` exchanges satisfy `condition`.
    pub async fn wait_count(
        &self,
        what: &str,
        least: usize,
        condition: impl Fn(&Exchange) -> bool,
    ) -> Result<()> {
        let mut exchanges = self.wire.exchanges.subscribe();
        let counted = exchanges.wait_for(|exchanges| {
            exchanges.iter().filter(|exchange| condition(exchange)).count() >= least
        });

        super::within(&format!("{least} × {what} through the tap"), counted).await??;
        Ok(())
    }
}

impl Tap {
    /// Waits until what has passed satisfies `condition`.
    pub async fn wait(&self, what: &str, condition: impl Fn(&[Exchange]) -> bool) -> Result<()> {
        let mut exchanges = self.wire.exchanges.subscribe();
        let came = exchanges.wait_for(|exchanges| condition(exchanges));

        super::within(&format!("{what} through the tap"), came).await??;
        Ok(())
    }

    /// Waits until an exchange satisfies `then` after the `nth` that satisfied `first`.
    pub async fn wait_after(
        &self,
        what: &str,
        nth: usize,
        first: impl Fn(&Exchange) -> bool,
        then: impl Fn(&Exchange) -> bool,
    ) -> Result<()> {
        let mut exchanges = self.wire.exchanges.subscribe();
        let came = exchanges.wait_for(|exchanges| {
            let mut firsts = 0;
            exchanges.iter().any(|exchange| {
                firsts += usize::from(first(exchange));
                firsts >= nth && then(exchange)
            })
        });

        super::within(&format!("{what} through the tap"), came).await??;
        Ok(())
    }
}

impl Exchange {
    /// Whether it is a request or notification of this JSON-RPC method that was answered well.
    pub fn is(&self, method: &str) -> bool {
        self.method.as_deref() == Some(method) && self.status.is_some_and(|status| status < 300)
    }

    /// Whether it is an event stream that was opened.
    pub fn is_stream(&self) -> bool {
        self.verb == "GET" && self.status == Some(200)
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tap").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- what passed the tap ---");
            for exchange in self.exchanges() {
                eprintln!("{exchange:?}");
            }
        }
    }
}

/// Opens the stream of events of 2026-07-28.
const LISTEN: &str = "subscriptions/listen";

async fn accept(listener: TcpListener, wire: Arc<Wire>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&wire)));
    }
}

async fn serve(stream: TcpStream, wire: Arc<Wire>) {
    let service = service_fn(|request| exchange(request, Arc::clone(&wire)));
    // An error is a fault that was asked for, or a client that went: both are in the record.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// One exchange. An error ends the connection without an answer.
async fn exchange(request: Request<Incoming>, wire: Arc<Wire>) -> Result<Response<Body>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let message = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    let method = message["method"].as_str().map(str::to_owned);
    let stays_open = head.method == Method::GET || method.as_deref() == Some(LISTEN);
    let (verb, path) = (head.method.to_string(), head.uri.path().to_owned());
    let header = |name: &str| Some(head.headers.get(name)?.to_str().ok()?.to_owned());
    let revision = header("mcp-protocol-version");
    let session = header("mcp-session-id").or_else(|| head.uri.query().map(str::to_owned));
    let fault = wire.fault(method.as_deref());
    let abandoned = true;
    let exchange =
        Exchange { verb, path, method, message, session, revision, status: None, abandoned };
    let mut record = Record { wire: Arc::clone(&wire), exchange: Some(exchange) };

    let answer = match fault {
        Some(Fault::Status(status, text)) => refuse(status, text),
        Some(Fault::Drop) => Err(anyhow::anyhow!("dropped on request")),
        None => wire.forward(Request::from_parts(head, Full::new(body)), stays_open).await,
    };
    let number = record.answered(answer.as_ref().ok().map(|answer| answer.status().as_u16()));
    Ok(answer?.map(|body| BodyExt::boxed(Watched { body, wire, number, over: false })))
}

/// Enters an exchange when its answer begins, or when nobody waits for that any more.
struct Record {
    wire: Arc<Wire>,
    exchange: Option<Exchange>,
}

impl Record {
    /// The exchange's number.
    fn answered(&mut self, status: Option<u16>) -> usize {
        let Some(exchange) = self.exchange.take() else { return 0 };
        self.wire.enter(Exchange { status, abandoned: false, ..exchange })
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            self.wire.enter(exchange);
        }
    }
}

/// The body of an answer. The exchange of that number was abandoned if it goes before its end.
struct Watched {
    body: Body,
    wire: Arc<Wire>,
    number: usize,
    over: bool,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.over = frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.over && !self.body.is_end_stream() {
            self.wire.exchanges.send_modify(|exchanges| {
                if let Some(exchange) = exchanges.get_mut(self.number) {
                    exchange.abandoned = true;
                }
            });
        }
    }
}

impl Wire {
    fn enter(&self, exchange: Exchange) -> usize {
        let mut number = 0;
        self.exchanges.send_modify(|exchanges| {
            number = exchanges.len();
            exchanges.push(exchange);
        });
        number
    }

    /// The fault that comes next, if it is for this method.
    fn fault(&self, method: Option<&str>) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let next = faults.iter().position(|(of, _)| Some(of.as_str()) == method)?;
        faults.remove(next).map(|(_, fault)| fault)
    }

    async fn forward(
        &self,
        mut request: Request<Full<Bytes>>,
        stays_open: bool,
    ) -> Result<Response<Body>> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let target = self.target.lock().unwrap_or_else(PoisonError::into_inner).clone();
        *request.uri_mut() = format!("http://{target}{path}").parse()?;
        request.headers_mut().insert(header::HOST, HeaderValue::from_str(&target)?);
        let answer = self.client.request(request).await?;
        if !stays_open {
            return Ok(answer.map(|body| body.map_err(io::Error::other).boxed()));
        }

        let mut ends = self.stream_ends.subscribe();
        Ok(answer.map(|body| {
            let end = async move { ends.changed().await };
            let frames = BodyStream::new(body).take_until(Box::pin(end));
            BodyExt::boxed(StreamBody::new(frames.map(|frame| frame.map_err(io::Error::other))))
        }))
    }
}

fn authority(url: &str) -> Result<String> {
    Ok(url.strip_prefix("http://").context("the target is not http")?.to_owned())
}

fn refuse(status: u16, text: &'static str) -> Result<Response<Body>> {
    let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *answer.status_mut() = StatusCode::from_u16(status)?;
    Ok(answer.map(|body| body.map_err(|never: Infallible| match never {}).boxed()))
}
