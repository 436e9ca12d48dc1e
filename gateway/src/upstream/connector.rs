//! The one way out: resolves, checks, connects and, for https, shakes hands. Follows no redirect and
//! uses no proxy.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::Endpoint;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

use super::egress::Egress;
use super::fault::Fault;
use super::trust::Trust;

/// A connection to a server.
pub(crate) type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// Connects to one origin.
#[derive(Debug)]
pub(crate) struct Connector {
    host: String,
    port: u16,
    /// Dialled as it is; else what the host resolves to, if that is permitted.
    address: Option<SocketAddr>,
    egress: Arc<Egress>,
    /// `None` for plain http.
    trust: Option<Trust>,
    /// For name, connection and handshake together.
    limit: Duration,
}

impl Connector {
    pub(crate) fn new(endpoint: &Endpoint, egress: Arc<Egress>, limit: Duration) -> Self {
        let origin = &endpoint.streamable;
        let tls = origin.scheme_str() == Some("https");
        let port = origin.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let host = origin.host().unwrap_or_default();
        // In a URL an IPv6 address stands in brackets.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let address = endpoint.address.map(|address| SocketAddr::new(address, port));
        let trust = tls.then(|| Trust::new(endpoint.authorities.clone()));
        Self { host, port, address, egress, trust, limit }
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

    async fn try_connect(&self) -> io::Result<Stream> {
        let stream = match self.address {
            Some(address) => TcpStream::connect(address).await?,
            None => {
                let checked = self.egress.addresses(&self.host, self.port).await?;
                // Addresses, not the name: it could resolve to others the next time.
                TcpStream::connect(checked.as_slice()).await?
            }
        };
        stream.set_nodelay(true)?;
        // A server that is cut off without a word would never be missed on a stream that is open.
        let keep_alive = socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(30))
            .with_interval(Duration::from_secs(10))
            .with_retries(3);
        socket2::SockRef::from(&stream).set_tcp_keepalive(&keep_alive)?;
        let Some(trust) = &self.trust else { return Ok(Either::Left(stream)) };
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        let tls = TlsConnector::from(trust.config()?).connect(name, stream).await?;
        Ok(Either::Right(tls))
    }
}
