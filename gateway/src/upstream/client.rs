//! HTTP to one server: a client for each worker, so that no two share a pool.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use gateway_core::{Endpoint, ServerEntry};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

use crate::worker;

/// Servers commonly close an idle connection after 5 s; ours go first.
const IDLE: Duration = Duration::from_secs(4);

type Inner = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// The clients of one server. Follows no redirect and uses no proxy.
#[derive(Debug)]
pub(crate) struct HttpClient {
    connect_timeout: Duration,
    workers: Box<[OnceLock<Inner>]>,
}

impl HttpClient {
    pub(crate) fn new(connect_timeout: Duration) -> Self {
        let workers = (0..=worker::count()).map(|_| OnceLock::new()).collect();
        Self { connect_timeout, workers }
    }

    pub(crate) fn send(&self, request: Request<Full<Bytes>>) -> ResponseFuture {
        // Threads that are no workers share the client of control.
        let slot = self.workers.get(worker::index()).or_else(|| self.workers.first());
        match slot {
            Some(slot) => slot.get_or_init(|| self.connect()).request(request),
            None => self.connect().request(request),
        }
    }

    fn connect(&self) -> Inner {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(self.connect_timeout));
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls_config().as_ref().clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector)
    }
}

/// Trusts what the system trusts. Without any such certificate only plain HTTP works.
fn tls_config() -> &'static Arc<ClientConfig> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    CONFIG.get_or_init(|| {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = || {
            ClientConfig::builder_with_provider(provider.clone())
                .with_safe_default_protocol_versions()
                .expect("the provider supports the default versions of TLS")
        };
        let config = builder().with_native_roots().map_or_else(
            |error| {
                tracing::warn!(%error, "no certificate authorities found, https servers will be refused");
                builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
            },
            |roots| roots.with_no_client_auth(),
        );
        Arc::new(config)
    })
}

/// Requests to one server, with its credential.
#[derive(Debug)]
pub(crate) struct Requests<'a> {
    pub(crate) entry: &'a ServerEntry,
    pub(crate) endpoint: &'a Endpoint,
}

impl Requests<'_> {
    /// One message.
    pub(crate) fn post(&self, to: &Uri, headers: &HeaderMap, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = self.request(Method::POST, to, headers, body);
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            header::ACCEPT,
            HeaderValue::from_static("application/json, text/event-stream"),
        );
        request
    }

    /// Opens a stream of events.
    pub(crate) fn get(&self, from: &Uri, headers: &HeaderMap) -> Request<Full<Bytes>> {
        let mut request = self.request(Method::GET, from, headers, Bytes::new());
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        request
    }

    /// Ends a session.
    pub(crate) fn delete(&self, at: &Uri, headers: &HeaderMap) -> Request<Full<Bytes>> {
        self.request(Method::DELETE, at, headers, Bytes::new())
    }

    fn request(
        &self,
        method: Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers.clone();
        if let Some(host) = &self.endpoint.host {
            request.headers_mut().insert(header::HOST, host.clone());
        }
        if let Some(credential) = &self.entry.credential {
            request.headers_mut().insert(credential.header.clone(), credential.value.clone());
        }
        request
    }
}
