//! A client that asks again and again until the answer is another.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    task::spawn_blocking,
    time::{Instant, timeout},
};

/// Between two questions. It is part of what is measured, on average with half of it.
const PAUSE: Duration = Duration::from_millis(1);
/// What takes longer than this is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a call was answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// A result.
    Called,
    /// The key is refused.
    Denied,
    /// No such tool for this key.
    Unknown,
    /// Something else: the server could not be reached, or the gateway is not ready.
    Failed,
}

/// One connection to a gateway.
#[derive(Debug)]
pub(super) struct Probe {
    address: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
}

impl Probe {
    pub(super) async fn to(address: SocketAddr) -> Result<Self> {
        Ok(Self { address, sender: connect(address).await? })
    }

    /// Calls a tool that takes a `message`, without a session.
    pub(super) async fn call(&mut self, tool: &str, key: &str) -> Result<Answer> {
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{"message":"x"}}}}}}"#
        );
        let request = Request::post("/mcp")
            .header(header::HOST, self.address.to_string())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header("X-Api-Key", key)
            .body(Full::from(body))?;
        // A gateway closes the connection of who is refused.
        if self.sender.ready().await.is_err() {
            self.sender = connect(self.address).await?;
        }
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let body = String::from_utf8_lossy(&body);
        Ok(match status {
            StatusCode::UNAUTHORIZED => Answer::Denied,
            StatusCode::OK if body.contains(r#""result""#) => Answer::Called,
            StatusCode::OK if body.contains("-32602") => Answer::Unknown,
            _ => Answer::Failed,
        })
    }

    /// When a call is first answered like this.
    pub(super) async fn until(&mut self, wanted: Answer, tool: &str, key: &str) -> Result<Instant> {
        let mut last = None;
        let asking = async {
            loop {
                let answer = self.call(tool, key).await?;
                if answer == wanted {
                    return anyhow::Ok(Instant::now());
                }
                last = Some(answer);
                pause().await?;
            }
        };
        match timeout(PATIENCE, asking).await {
            Ok(found) => found.context("the probe"),
            Err(_) => bail!("{tool} is still answered with {last:?}, not {wanted:?}"),
        }
    }
}

async fn connect(address: SocketAddr) -> Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the sender.
    tokio::spawn(connection);
    Ok(sender)
}

/// The runtime's own timer rounds up to milliseconds: a pause of one would be of two.
async fn pause() -> Result<()> {
    Ok(spawn_blocking(|| std::thread::sleep(PAUSE)).await?)
}
