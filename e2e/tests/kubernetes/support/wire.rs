//! Plain HTTP towards the gateway, for what no official client does or shows.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use e2e::cluster::Release;
use http::{HeaderMap, HeaderName, Method, Request, Response, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};

use super::MINUTE;

/// What requests to one URL have in common.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    address: SocketAddr,
    path: String,
    headers: HeaderMap,
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// An event stream that is open.
#[derive(Debug)]
pub(crate) struct Stream {
    state: watch::Receiver<State>,
    _reader: JoinSet<()>,
}

#[derive(Debug, Default)]
struct State {
    text: String,
    ended: Option<Instant>,
}

impl Caller {
    /// Without a key, at `/mcp`.
    pub(crate) fn nobody(release: &Release) -> Result<Self> {
        let address = release.cluster().ingress()?;
        Ok(Self { address, path: "/mcp".to_owned(), headers: HeaderMap::new() })
    }

    /// With a key, at `/mcp`.
    pub(crate) fn new(release: &Release, key: &str) -> Result<Self> {
        Ok(Self::nobody(release)?.with("x-api-key", key))
    }

    /// The same at another path.
    pub(crate) fn at(&self, path: &str) -> Self {
        Self { path: path.to_owned(), ..self.clone() }
    }

    /// The same with another header, in place of one of that name.
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut headers = self.headers.clone();
        let name: HeaderName = name.parse().unwrap();
        headers.insert(name, value.parse().unwrap());
        Self { headers, ..self.clone() }
    }

    /// Sends a request of JSON-RPC.
    pub(crate) async fn ask(&self, method: &str, params: Value) -> Result<Answer> {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        self.post(&message).await
    }

    /// Sends any message.
    pub(crate) async fn post(&self, message: &Value) -> Result<Answer> {
        let response = self.send(Method::POST, message.to_string()).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = timeout(MINUTE, response.into_body().collect()).await.context("no end")??;
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        Ok(Answer { status, headers, text })
    }

    /// The status of an answer to a request for the list of tools.
    pub(crate) async fn status(&self) -> Result<u16> {
        Ok(self.ask("tools/list", json!({})).await?.status)
    }

    /// The names of the tools, sorted.
    pub(crate) async fn tools(&self) -> Result<Vec<String>> {
        let answer = self.ask("tools/list", json!({})).await?;
        ensure!(answer.status == 200, "{answer:?}");
        let tools = answer.json()["result"]["tools"].as_array().cloned();
        let tools = tools.with_context(|| format!("{answer:?}"))?;
        let name = |tool: &Value| tool["name"].as_str().unwrap_or_default().to_owned();
        let mut names: Vec<_> = tools.iter().map(name).collect();
        names.sort();
        Ok(names)
    }

    /// Calls a tool.
    pub(crate) async fn call(&self, tool: &str, arguments: Value) -> Result<Answer> {
        self.ask("tools/call", json!({"name": tool, "arguments": arguments})).await
    }

    /// Begins a session, and gives who speaks in it.
    pub(crate) async fn open(&self) -> Result<Self> {
        let params = json!({
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "e2e", "version": "1"},
        });
        let answer = self.ask("initialize", params).await?;
        let session = answer.headers.get("mcp-session-id").and_then(|id| id.to_str().ok());
        let session = session.with_context(|| format!("no session: {answer:?}"))?;
        let session = self.with("mcp-session-id", session);
        let initialized = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
        let accepted = session.post(&initialized).await?;
        ensure!(accepted.status == 202, "{accepted:?}");
        Ok(session)
    }

    /// The id of the session that this speaks in.
    pub(crate) fn session(&self) -> Option<&str> {
        self.headers.get("mcp-session-id")?.to_str().ok()
    }

    /// Opens the stream of this URL: that of a session at `/mcp`, or one of HTTP+SSE.
    pub(crate) async fn listen(&self) -> Result<Stream> {
        let response = self.send(Method::GET, String::new()).await?;
        if response.status() != 200 {
            bail!("no stream at {}: {}", self.path, response.status());
        }
        Ok(Stream::read(response.into_body()))
    }

    /// What a GET answers, if it is not a stream.
    pub(crate) async fn get(&self) -> Result<Answer> {
        let response = self.send(Method::GET, String::new()).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        if status == 200 {
            return Ok(Answer { status, headers, text: String::new() });
        }
        let body = timeout(MINUTE, response.into_body().collect()).await.context("no end")??;
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        Ok(Answer { status, headers, text })
    }

    async fn send(&self, method: Method, body: String) -> Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(&self.path);
        if let Some(headers) = request.headers_mut() {
            headers.insert(header::HOST, self.address.to_string().parse()?);
            headers.insert(header::CONTENT_TYPE, "application/json".parse()?);
            headers.insert(header::ACCEPT, "application/json, text/event-stream".parse()?);
            headers.extend(self.headers.clone());
        }
        let request = request.body(Full::new(Bytes::from(body)))?;
        let exchange = async {
            let stream = TcpStream::connect(self.address).await?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            // Ends with the exchange.
            tokio::spawn(connection);
            anyhow::Ok(sender.send_request(request).await?)
        };
        timeout(MINUTE, exchange).await.with_context(|| format!("no answer at {}", self.path))?
    }
}

impl Answer {
    /// The body as JSON; null if it is something else.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// The text that a tool answered.
    pub(crate) fn content(&self) -> String {
        self.json()["result"]["content"][0]["text"].as_str().unwrap_or_default().to_owned()
    }

    /// The code of a JSON-RPC error.
    pub(crate) fn code(&self) -> Option<i64> {
        self.json()["error"]["code"].as_i64()
    }

    /// The text of an error, be it of JSON-RPC or of HTTP.
    pub(crate) fn error(&self) -> String {
        let error = &self.json()["error"];
        error["message"].as_str().or(error.as_str()).unwrap_or_default().to_owned()
    }
}

impl Stream {
    fn read(mut body: Incoming) -> Self {
        let (sender, state) = watch::channel(State::default());
        let mut reader = JoinSet::new();
        reader.spawn(async move {
            while let Some(Ok(frame)) = body.frame().await {
                let data = frame.into_data().unwrap_or_default();
                sender.send_modify(|state| state.text += &String::from_utf8_lossy(&data));
            }
            sender.send_modify(|state| state.ended = Some(Instant::now()));
        });
        Self { state, _reader: reader }
    }

    /// Waits until this text came, and gives everything that did.
    pub(crate) async fn hears(&self, text: &str) -> Result<String> {
        let mut state = self.state.clone();
        let heard = state.wait_for(|state| state.text.contains(text));
        let heard =
            timeout(MINUTE, heard).await.with_context(|| format!("never heard {text}"))??;
        Ok(heard.text.clone())
    }

    /// Where messages are posted, for a stream of HTTP+SSE.
    pub(crate) async fn endpoint(&self) -> Result<String> {
        let text = self.hears("session_id=").await?;
        let line = text.lines().find_map(|line| line.strip_prefix("data: "));
        Ok(line.context("no endpoint")?.to_owned())
    }

    /// Whether it is open.
    pub(crate) fn is_open(&self) -> bool {
        self.state.borrow().ended.is_none()
    }

    /// Waits for its end, and says how long after `moment` it came.
    pub(crate) async fn ends_after(&self, moment: Instant) -> Result<Duration> {
        let mut state = self.state.clone();
        let ended = timeout(MINUTE, state.wait_for(|state| state.ended.is_some()));
        let ended = ended.await.context("the stream goes on")??.ended;
        Ok(ended.unwrap_or(moment).saturating_duration_since(moment))
    }
}
