//! The one way out: resolves, connects and, for https, shakes hands.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::Uri;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::fault::Fault;

/// A connection to a server.
pub(crate) type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// Connects to one origin.
#[derive(Debug)]
pub(crate) struct Connector {
    host: String,
    port: u16,
    tls: bool,
    /// For name, connection and handshake together.
    limit: Duration,
}

impl Connector {
    pub(crate) fn new(origin: &Uri, limit: Duration) -> Self {
        let tls = origin.scheme_str() == Some("https");
        let port = origin.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let host = origin.host().unwrap_or_default();
        // In a URL an IPv6 address stands in brackets.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Self { host, port, tls, limit }
    }

    pub(crate) async fn connect(&self) -> Result<Stream, Fault> {
        match timeout(self.limit, self.try_connect()).await {
            Ok(connected) => connected.map_err(|error| Fault::Unreachable(error.to_string())),
            Err(_) => {
                let limit = self.limit.as_millis();
                Err(Fault::Unreachable(format!("no connection within {limit} ms")))
            }
        }
    }

    async fn try_connect(&self) -> std::io::Result<Stream> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        stream.set_nodelay(true)?;
        // A server that is cut off without a word would never be missed on a stream that is open.
        let keep_alive = socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(30))
            .with_interval(Duration::from_secs(10))
            .with_retries(3);
        socket2::SockRef::from(&stream).set_tcp_keepalive(&keep_alive)?;
        if !self.tls {
            return Ok(Either::Left(stream));
        }
        let name = ServerName::try_from(self.host.clone()).map_err(std::io::Error::other)?;
        let tls = TlsConnector::from(tls_config()?).connect(name, stream).await?;
        Ok(Either::Right(tls))
    }
}

/// Trusts what the system trusts.
fn tls_config() -> std::io::Result<Arc<ClientConfig>> {
    static CONFIG: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    CONFIG
        .get_or_init(|| load_tls_config().map_err(str::to_owned))
        .clone()
        .map_err(std::io::Error::other)
}

fn load_tls_config() -> Result<Arc<ClientConfig>, &'static str> {
    let mut roots = rustls::RootCertStore::empty();
    let (trusted, _) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if trusted == 0 {
        return Err("this system has no certificate authorities; install ca-certificates");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let config = builder.with_safe_default_protocol_versions().map_err(|_| "no version of TLS")?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}
