//! One HTTP request, for what needs no client of MCP.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

/// Status and body of a GET.
pub async fn get(address: SocketAddr, path: &str) -> Result<(u16, Bytes)> {
    let request = Request::get(path).body(Full::default())?;
    send(address, request).await
}

/// Status and body of the answer to a request.
pub async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Result<(u16, Bytes)> {
    let response = exchange(address, request).await?;
    Ok((response.status().as_u16(), response.into_body()))
}

/// The whole answer to a request.
pub async fn exchange(
    address: SocketAddr,
    mut request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>> {
    let exchange = async {
        let stream = TcpStream::connect(address).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the exchange.
        tokio::spawn(connection);
        if !request.headers().contains_key(header::HOST) {
            request.headers_mut().insert(header::HOST, address.to_string().parse()?);
        }
        let (parts, body) = sender.send_request(request).await?.into_parts();
        Ok(Response::from_parts(parts, body.collect().await?.to_bytes()))
    };
    timeout(PATIENCE, exchange).await.context("no answer in time")?
}

const PATIENCE: Duration = Duration::from_secs(30);
