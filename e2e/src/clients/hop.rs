//! A hop on loopback that adds a header to every request, for clients that cannot be told to send one.
//!
//! Everything else passes as it is, `Host` and `Origin` too, and a client that goes away goes away on both sides.

use std::{fmt, net::Ipv4Addr, sync::Arc};

use anyhow::{Context as _, Result};
use http::{HeaderName, HeaderValue, Request, Response, Uri, uri::Authority};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// The running hop; it ends with its handle.
pub struct Hop {
    port: u16,
    _server: JoinSet<()>,
}

struct Route {
    target: Authority,
    name: HeaderName,
    value: HeaderValue,
    client: Client<HttpConnector, Incoming>,
}

impl Hop {
    /// Starts one before `target`, `http://HOST:PORT`.
    pub async fn start(target: &str, name: &str, value: &str) -> Result<Self> {
        let target = target.parse::<Uri>()?.into_parts().authority.context("no host to go to")?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let route = Route { target, name: name.parse()?, value: value.parse()?, client };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let mut server = JoinSet::new();
        server.spawn(accept(listener, Arc::new(route)));

        Ok(Self { port, _server: server })
    }

    /// `http://localhost:PORT`: the suite wants this name.
    pub fn url(&self) -> String {
        format!("http://localhost:{}", self.port)
    }
}

impl fmt::Debug for Hop {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Hop").field("port", &self.port).finish_non_exhaustive()
    }
}

async fn accept(listener: TcpListener, route: Arc<Route>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&route)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, route: Arc<Route>) {
    let service = service_fn(|request| forward(request, Arc::clone(&route)));
    // Whoever went away knows; the other side hears of it when its stream ends.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn forward(mut request: Request<Incoming>, route: Arc<Route>) -> Result<Response<Incoming>> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let uri = format!("http://{}{path}", route.target).parse()?;
    *request.uri_mut() = uri;
    request.headers_mut().insert(route.name.clone(), route.value.clone());

    Ok(route.client.request(request).await?)
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::HeaderMap, routing::get};
    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Empty};

    use super::*;

    #[tokio::test]
    async fn a_header_is_added_and_the_host_stays() {
        let echo = |headers: HeaderMap| async move {
            format!("{:?}", (&headers["host"], &headers["x-key"]))
        };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let target = format!("http://{}", listener.local_addr().unwrap());
        let server = axum::serve(listener, Router::new().route("/where", get(echo)));
        let _server = tokio::spawn(server.into_future());
        let hop = Hop::start(&target, "x-key", "secret").await.unwrap();

        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let uri = format!("http://127.0.0.1:{}/where", hop.port);
        let request = Request::get(uri).header("host", "evil.example").body(Empty::new()).unwrap();
        let answer = client.request(request).await.unwrap().into_body();

        let answer = answer.collect().await.unwrap().to_bytes();
        assert_eq!(answer, r#"("evil.example", "secret")"#);
    }
}
