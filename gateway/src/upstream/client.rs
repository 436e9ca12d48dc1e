//! HTTP to one server: connections kept for each worker, each driven by the call that uses it.
//!
//! A connection has no task of its own: whoever waits for its answer polls it. That saves two
//! wake-ups a call, which is more than everything else the gateway does with it.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use http_body::{Body as _, Frame};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::connector::{Connector, Stream};
use super::fault::Fault;
use crate::worker;

/// How long a connection takes new requests. A pod that is to end takes clients for 5 s more, in the
/// first of which its Service comes to lead elsewhere: when it closes its idle connections, it has
/// none of ours, on which a request could be lost. Servers that close what was idle for 5 s find none
/// either.
const LIFETIME: Duration = Duration::from_secs(3);
/// Largest buffer of a connection: how much is read before others have their turn.
const MAX_BUFFER: usize = 64 * 1024;
/// Idle connections a worker keeps.
const MAX_IDLE: usize = 256;

/// The connections to one origin. Follows no redirect and uses no proxy.
#[derive(Debug)]
pub(crate) struct HttpClient {
    connector: Connector,
    /// By worker, so that the locks are free.
    idle: Box<[Mutex<Vec<Connection>>]>,
}

/// A connection on which a request can be sent.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// `None` once it ended: dropped at once, for that is what fails a request it never took.
    driver: Option<Pin<Box<Driver>>>,
    opened: Instant,
}

/// What reads and writes on a connection.
type Driver = http1::Connection<TokioIo<Stream>, Full<Bytes>>;

/// A request under way.
pub(crate) type Sending = Pin<Box<dyn Future<Output = Result<Response<Body>, Fault>> + Send>>;

impl HttpClient {
    pub(crate) fn new(connector: Connector) -> Arc<Self> {
        let idle = (0..=worker::count()).map(|_| Mutex::default()).collect();
        Arc::new(Self { connector, idle })
    }

    /// Sends a request. A connection that turns out to be closed before the request was written is
    /// replaced; nothing is ever written twice.
    pub(crate) fn send(self: &Arc<Self>, request: Request<Full<Bytes>>) -> Sending {
        let client = self.clone();
        Box::pin(async move {
            let mut request = request;
            loop {
                let (connection, used) = match client.take() {
                    Some(connection) => (connection, true),
                    None => (Connection::open(&client.connector).await?, false),
                };
                match connection.send(request, &client).await {
                    Ok(response) => return Ok(response),
                    Err((_, Some(unsent))) if used => request = unsent,
                    Err((fault, _)) => return Err(fault),
                }
            }
        })
    }

    /// Closes idle connections that are too old.
    pub(crate) fn sweep(&self) {
        for idle in &self.idle {
            idle.lock().unwrap_or_else(PoisonError::into_inner).retain(Connection::is_young);
        }
    }

    fn here(&self) -> Option<&Mutex<Vec<Connection>>> {
        // Threads that are no workers share the connections of control.
        self.idle.get(worker::index()).or_else(|| self.idle.first())
    }

    fn take(&self) -> Option<Connection> {
        let mut idle = self.here()?.lock().unwrap_or_else(PoisonError::into_inner);
        // The last one used is the least likely to be closed.
        while let Some(connection) = idle.pop() {
            if connection.is_young() {
                return Some(connection);
            }
        }
        None
    }

    fn put(&self, connection: Connection) {
        let Some(idle) = self.here() else { return };
        let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
        if connection.is_young() && idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }
}

impl Connection {
    async fn open(connector: &Connector) -> Result<Self, Fault> {
        let stream = connector.connect().await?;
        let (sender, driver) = http1::Builder::new()
            .writev(false)
            .max_buf_size(MAX_BUFFER)
            .handshake(TokioIo::new(stream))
            .await?;
        Ok(Self { sender, driver: Some(Box::pin(driver)), opened: Instant::now() })
    }

    fn is_young(&self) -> bool {
        self.opened.elapsed() < LIFETIME
    }

    /// The head of the answer. A request that was not written is given back.
    async fn send(
        mut self,
        request: Request<Full<Bytes>>,
        client: &Arc<HttpClient>,
    ) -> Result<Response<Body>, (Fault, Option<Request<Full<Bytes>>>)> {
        let answered = {
            let mut answer = pin!(self.sender.try_send_request(request));
            std::future::poll_fn(|cx| {
                drive(&mut self.driver, cx);
                answer.as_mut().poll(cx)
            })
            .await
        };
        match answered {
            Ok(response) => {
                let keeper = Some((self, client.clone()));
                Ok(response.map(|incoming| Body { incoming, keeper }))
            }
            Err(mut error) => {
                let unsent = error.take_message();
                Err((error.into_error().into(), unsent))
            }
        }
    }
}

/// Reads and writes what can be. Why a connection ended is told by the answer it ended in.
fn drive<D: Future + Unpin>(driver: &mut Option<D>, cx: &mut Context<'_>) {
    if let Some(running) = driver
        && Pin::new(running).poll(cx).is_ready()
    {
        *driver = None;
    }
}

/// The body of an answer. Read to its end, it gives the connection back.
#[derive(Debug)]
pub(crate) struct Body {
    incoming: Incoming,
    keeper: Option<(Connection, Arc<HttpClient>)>,
}

impl Body {
    /// The next bytes; trailers are skipped.
    pub(crate) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, hyper::Error>>> {
        loop {
            match ready!(self.poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Some(Err(error)) => {
                    self.keeper = None;
                    return Poll::Ready(Some(Err(error)));
                }
                None => return Poll::Ready(None),
            }
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut frame = Pin::new(&mut self.incoming).poll_frame(cx);
        if frame.is_pending()
            && let Some((connection, _)) = &mut self.keeper
        {
            drive(&mut connection.driver, cx);
            frame = Pin::new(&mut self.incoming).poll_frame(cx);
        }
        if matches!(frame, Poll::Ready(None)) || self.incoming.is_end_stream() {
            self.give_back(cx);
        }
        frame
    }

    /// Gives the connection back if nothing is left to read, without waiting for more.
    pub(crate) async fn release(mut self) {
        std::future::poll_fn(|cx| {
            let _ = self.poll_data(cx);
            Poll::Ready(())
        })
        .await;
    }

    fn give_back(&mut self, cx: &mut Context<'_>) {
        let Some((mut connection, client)) = self.keeper.take() else { return };
        // One more poll lets the driver see that the answer is over and want the next request.
        drive(&mut connection.driver, cx);
        if connection.driver.is_some() && connection.sender.is_ready() {
            client.put(connection);
        }
    }
}

/// What requests to one URL have in common.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    uri: Uri,
    headers: HeaderMap,
}

impl Template {
    /// For a URL of the origin; `host` overrides the URL's own.
    pub(crate) fn new(url: &Uri, host: Option<&HeaderValue>) -> Self {
        let mut headers = HeaderMap::new();
        let own = || HeaderValue::from_str(url.authority()?.as_str()).ok();
        if let Some(host) = host.cloned().or_else(own) {
            headers.insert(header::HOST, host);
        }
        let path = url.path_and_query().cloned();
        // On a connection of one's own the target is the path alone (RFC 9112 §3.2.1).
        Self { uri: path.map_or_else(Uri::default, Uri::from), headers }
    }

    pub(crate) fn with(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// For messages: takes an answer as JSON or as events.
    pub(crate) fn posting(self) -> Self {
        let both = HeaderValue::from_static("application/json, text/event-stream");
        self.with(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .with(header::ACCEPT, both)
    }

    /// For a stream of events.
    pub(crate) fn listening(self) -> Self {
        self.with(header::ACCEPT, HeaderValue::from_static("text/event-stream"))
    }

    pub(crate) fn request(&self, method: Method, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    pub(crate) fn holds(&self, name: &header::HeaderName) -> bool {
        self.headers.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use gateway_core::Endpoint;
    use hyper::server::conn::http1 as server;
    use hyper::service::service_fn;
    use tokio::net::TcpListener;

    use super::super::Egress;
    use super::*;

    /// A server that keeps connections, and how many it has had.
    async fn server() -> (Arc<HttpClient>, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let answer = service_fn(async |_| {
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from("{}"))))
                });
                let served = server::Builder::new().serve_connection(TokioIo::new(stream), answer);
                tokio::spawn(served);
            }
        });
        let url: Uri = format!("http://{address}/mcp").parse().unwrap();
        let endpoint = Endpoint {
            streamable: url.clone(),
            sse: url,
            transport: crds::Transport::Auto,
            host: None,
            address: None,
            authorities: None,
        };
        let connector = Connector::new(&endpoint, Egress::anywhere(), Duration::from_secs(5));
        (HttpClient::new(connector), accepted)
    }

    async fn call(client: &Arc<HttpClient>) {
        let request = Request::post("/mcp").body(Full::new(Bytes::from("{}"))).unwrap();
        let mut body = client.send(request).await.unwrap().into_body();
        while let Some(data) = poll_fn(|cx| body.poll_data(cx)).await {
            data.unwrap();
        }
    }

    #[tokio::test]
    async fn a_connection_that_is_used_all_the_time_is_replaced_all_the_same() {
        let (client, accepted) = server().await;

        call(&client).await;
        call(&client).await;
        assert_eq!(accepted.load(Ordering::SeqCst), 1);
        for _ in 0..2 {
            tokio::time::pause();
            tokio::time::advance(LIFETIME / 2).await;
            tokio::time::resume();
            call(&client).await;
        }

        assert_eq!(accepted.load(Ordering::SeqCst), 2);
    }
}
