//! One MCP client on one raw HTTP/1 connection, which believes no answer it has not checked.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST},
};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{
    net::TcpStream,
    runtime,
    time::{Instant, sleep, timeout},
};

use crate::bench::{API_KEY, mock};

/// A client with an open session, ready to call `echo`.
pub(super) struct Caller {
    connection: SendRequest<Full<Bytes>>,
    headers: HeaderMap,
    last_id: u64,
    /// A JSON string that no other client sends, so that a crossed answer shows.
    message: String,
    expected: String,
}

impl Caller {
    /// Connects and initializes a session.
    pub(super) async fn connect(address: SocketAddr, number: usize) -> Result<Self> {
        let mut caller = Self::open(address, number).await?;

        let initialize = format!(
            r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{VERSION}","capabilities":{{}},"clientInfo":{{"name":"bench","version":"1.0.0"}}}}}}"#
        );
        let response = caller.post(initialize).await?;
        ensure!(response.status() == StatusCode::OK, "initialize: {}", describe(&response));
        if let Some(session) = response.headers().get(&SESSION_ID) {
            caller.headers.insert(SESSION_ID, session.clone());
        }
        caller.headers.insert(PROTOCOL_VERSION, HeaderValue::from_static(VERSION));

        let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
        let response = caller.post(initialized.to_owned()).await?;
        ensure!(response.status() == StatusCode::ACCEPTED, "initialized: {}", describe(&response));
        Ok(caller)
    }

    /// Calls the tool once; anything but the one right answer is an error.
    pub(super) async fn call(&mut self) -> Result<()> {
        self.last_id += 1;
        let id = self.last_id;
        let body = format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"echo","arguments":{{"message":{}}}}}}}"#,
            self.message
        );
        let response = self.post(body).await?;
        if let Err(error) = check(&response, id, &self.expected) {
            bail!("{error}: {}", describe(&response));
        }
        Ok(())
    }

    /// Opens the connection without a word of MCP.
    async fn open(address: SocketAddr, number: usize) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("cannot connect")?;
        stream.set_nodelay(true)?;
        let (connection, driver) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends when the sender it serves is dropped; its errors show as failed requests.
        tokio::spawn(async { drop(driver.await) });

        let host = HeaderValue::from_str(&address.to_string())?;
        let headers = HeaderMap::from_iter([
            (HOST, host),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (ACCEPT, HeaderValue::from_static("application/json, text/event-stream")),
            (AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {API_KEY}"))?),
        ]);
        let message = format!(r#""client {number}: {}""#, "x".repeat(MESSAGE_FILLER));
        let expected = mock::echo_result(&message);
        Ok(Self { connection, headers, last_id: 0, message, expected })
    }

    async fn post(&mut self, body: String) -> Result<Response<Bytes>> {
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static("/mcp");
        *request.headers_mut() = self.headers.clone();
        self.send(request).await
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>> {
        self.connection.ready().await?;
        let (head, body) = self.connection.send_request(request).await?.into_parts();
        Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
    }
}

fn check(response: &Response<Bytes>, id: u64, expected: &str) -> Result<()> {
    #[derive(Deserialize)]
    struct Answer<'a> {
        id: u64,
        #[serde(borrow)]
        result: &'a RawValue,
    }

    ensure!(response.status() == StatusCode::OK, "status is not 200");
    let answer: Answer<'_> =
        serde_json::from_slice(response.body()).context("the body is no JSON-RPC result")?;
    ensure!(answer.id == id, "not the answer to call {id}");
    ensure!(answer.result.get() == expected, "not the expected result");
    Ok(())
}

/// Waits until a checked call through `address` succeeds.
pub(super) fn wait_until_callable(address: SocketAddr, within: Duration) -> Result<()> {
    poll(within, || async { Caller::connect(address, 0).await?.call().await })
}

/// Waits until a GET of `path` answers 200 with a body that `accept` takes.
pub(super) fn wait_until_body(
    address: SocketAddr,
    path: &'static str,
    accept: fn(&[u8]) -> bool,
    within: Duration,
) -> Result<()> {
    poll(within, || async {
        let mut caller = Caller::open(address, 0).await?;
        let mut request = Request::new(Full::default());
        *request.uri_mut() = Uri::from_static(path);
        *request.headers_mut() = caller.headers.clone();
        let response = caller.send(request).await?;
        let ready = response.status() == StatusCode::OK && accept(response.body());
        ensure!(ready, "GET {path}: {}", describe(&response));
        Ok(())
    })
}

fn poll<F: Future<Output = Result<()>>>(
    within: Duration,
    mut attempt: impl FnMut() -> F,
) -> Result<()> {
    runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let deadline = Instant::now() + within;
        loop {
            let outcome = timeout(within, attempt()).await.context("no answer").flatten();
            match outcome {
                Err(_) if Instant::now() < deadline => sleep(POLL).await,
                outcome => return outcome,
            }
        }
    })
}

fn describe(response: &Response<Bytes>) -> String {
    let body = String::from_utf8_lossy(response.body());
    format!("{} {}", response.status(), body.chars().take(DESCRIBED).collect::<String>())
}

const VERSION: &str = "2025-11-25";
const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// Brings the answer to about 300 bytes.
const MESSAGE_FILLER: usize = 190;

/// Enough of a wrong answer to see what is wrong with it.
const DESCRIBED: usize = 400;

const POLL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_one_right_answer_is_believed() {
        let answer = |status: StatusCode, body: &'static str| {
            let mut response = Response::new(Bytes::from_static(body.as_bytes()));
            *response.status_mut() = status;
            check(&response, 7, r#"{"x":1.0}"#).is_ok()
        };

        assert!(answer(StatusCode::OK, r#"{"jsonrpc":"2.0","id":7,"result":{"x":1.0}}"#));
        for body in [
            r#"{"jsonrpc":"2.0","id":8,"result":{"x":1.0}}"#,
            r#"{"jsonrpc":"2.0","id":"7","result":{"x":1.0}}"#,
            r#"{"jsonrpc":"2.0","id":7,"result":{"x":1}}"#,
            r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"no"}}"#,
            "",
        ] {
            assert!(!answer(StatusCode::OK, body), "{body}");
        }
        let right = r#"{"jsonrpc":"2.0","id":7,"result":{"x":1.0}}"#;
        assert!(!answer(StatusCode::INTERNAL_SERVER_ERROR, right));
    }
}
