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
use super::pods::Pod;
use super::trust::Trust;

/// A connection to a server.
pub(crate) type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// Connects to one origin.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    host: String,
    to: To,
    /// `None` for plain http.
    trust: Option<Arc<Trust>>,
    /// For name, connection and handshake together.
    limit: Duration,
}

/// What is dialled.
#[derive(Debug, Clone)]
enum To {
    /// This, as it is.
    Address(SocketAddr),
    /// One pod of several.
    Pod(Arc<Pod>),
    /// At this port what the host resolves to, if that is permitted.
    Host(u16, Arc<Egress>),
}

impl Connector {
    pub(crate) fn new(endpoint: &Endpoint, egress: Arc<Egress>, limit: Duration) -> Self {
        let origin = &endpoint.streamable;
        let tls = origin.scheme_str() == Some("https");
        let port = endpoint.port();
        let host = origin.host().unwrap_or_default();
        // In a URL an IPv6 address stands in brackets.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let to = match endpoint.address {
            Some(address) => To::Address(SocketAddr::new(address, port)),
            None => To::Host(port, egress),
        };
        let trust = tls.then(|| Arc::new(Trust::new(endpoint.authorities.clone())));
        Self { host, to, trust, limit }
    }

    /// To an address that is known to be good, over plain http.
    pub(crate) fn to(address: SocketAddr, limit: Duration) -> Self {
        Self { host: address.ip().to_string(), to: To::Address(address), trust: None, limit }
    }

    /// The same to one pod of the server.
    pub(super) fn to_pod(&self, pod: Arc<Pod>) -> Self {
        Self { to: To::Pod(pod), ..self.clone() }
    }

    /// Where one pod alone will do and does not, the session that it kept is lost.
    pub(crate) async fn connect(&self) -> Result<Stream, Fault> {
        let connected = self.connect_in_time().await;
        let To::Pod(pod) = &self.to else { return connected };
        pod.note(connected.is_ok());
        connected.map_err(|_| Fault::SessionLost)
    }

    async fn connect_in_time(&self) -> Result<Stream, Fault> {
        match timeout(self.limit, self.try_connect()).await {
            Ok(connected) => connected.map_err(|error| Fault::Unreachable(error.to_string())),
            Err(_) => {
                let limit = self.limit.as_millis();
                Err(Fault::Unreachable(format!("no connection within {limit} ms")))
            }
        }
    }

    async fn try_connect(&self) -> io::Result<Stream> {
        let stream = match &self.to {
            To::Address(address) => TcpStream::connect(address).await?,
            To::Pod(pod) => TcpStream::connect(pod.address().await?).await?,
            To::Host(port, egress) => {
                let checked = egress.addresses(&self.host, *port).await?;
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use gateway_core::Forbidden;
    use tokio::net::TcpListener;

    use super::super::egress::{Egress, Resolved};
    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn forbidden(ranges: &[&str], allowed: &[&str]) -> Forbidden {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Forbidden { ranges: parse(ranges), allowed: parse(allowed) }
    }

    fn endpoint(url: &str) -> Endpoint {
        let url: http::Uri = url.parse().unwrap();
        Endpoint {
            streamable: url.clone(),
            sse: url,
            transport: crds::Transport::Auto,
            host: None,
            address: None,
            authorities: None,
        }
    }

    fn resolve(names: &'static [&'static str]) -> Resolved {
        let parse = |name: &&str| name.parse::<SocketAddr>().unwrap();
        Box::pin(async move { Ok(names.iter().map(parse).collect()) })
    }

    async fn fault(connector: &Connector) -> String {
        connector.connect().await.err().map(|fault| fault.to_string()).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_name_with_one_forbidden_address_is_refused_whole() {
        let names: fn(String, u16) -> Resolved =
            |_, _| resolve(&["192.0.2.1:80", "[::ffff:10.96.0.1]:80"]);
        let egress = Egress::resolving(forbidden(&["10.96.0.0/16"], &[]), names);
        let connector = Connector::new(&endpoint("http://rebind.test/mcp"), egress, LIMIT);

        let fault = fault(&connector).await;

        assert!(fault.contains("use spec.service"), "{fault}");
        assert!(!fault.contains("10.96"), "{fault}");
    }

    #[tokio::test]
    async fn the_address_that_was_checked_is_dialled() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        // Another address each time, as a name that is made to change its mind.
        let names: fn(String, u16) -> Resolved = |_, port| {
            let first = ASKED.fetch_add(1, Ordering::SeqCst) == 0;
            let address = if first { [127, 0, 0, 1] } else { [169, 254, 169, 254] };
            Box::pin(async move { Ok(vec![SocketAddr::from((address, port))]) })
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://rebind.test:{}/mcp", listener.local_addr().unwrap().port());
        let egress = Egress::resolving(forbidden(&[], &["127.0.0.1"]), names);
        let connector = Connector::new(&endpoint(&url), egress, LIMIT);

        assert!(connector.connect().await.is_ok());
        assert_eq!(ASKED.load(Ordering::SeqCst), 1);
        assert!(fault(&connector).await.contains("not permitted"));
    }

    #[tokio::test]
    async fn addresses_in_disguise_are_refused_and_service_addresses_are_not() {
        let egress = Egress::unknown();
        let url = "http://192.0.2.1/mcp";
        let refusal = fault(&Connector::new(&endpoint(url), egress.clone(), LIMIT)).await;
        assert!(refusal.contains("not known yet"), "{refusal}");

        egress.forbid(forbidden(&["10.0.0.0/8"], &[]));
        for host in [
            "127.0.0.1",
            "localhost",
            "2130706433",
            "0x7f.1",
            "0",
            "10.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:a00:1]",
            "[64:ff9b::10.0.0.1]",
            "[2002:a00:1::]",
            "[fe80::1]",
            "169.254.169.254",
        ] {
            let endpoint = endpoint(&format!("http://{host}/mcp"));
            let fault = fault(&Connector::new(&endpoint, egress.clone(), LIMIT)).await;
            assert!(fault.contains("not permitted"), "{host}: {fault}");
        }

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut service = endpoint(&format!("http://no-such-name.invalid:{port}/mcp"));
        service.address = Some("127.0.0.1".parse().unwrap());
        assert!(Connector::new(&service, egress, LIMIT).connect().await.is_ok());
    }
}
