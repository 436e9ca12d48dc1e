//! MCP clients that leave every byte to the test.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::events::Events;
use super::within;

/// HTTP with the headers a client sends with everything.
#[derive(Debug, Clone)]
pub struct Client {
    pub address: SocketAddr,
    pub headers: HeaderMap,
    http: Http<HttpConnector, Full<Bytes>>,
}

/// A response, read.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        let http = Http::builder(TokioExecutor::new()).build_http();
        Self { address, headers: HeaderMap::new(), http }
            .with("content-type", "application/json")
            .with("accept", "application/json, text/event-stream")
    }

    /// The same client with a header, or with another value for it.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().unwrap();
        self.headers.insert(name, value.parse().unwrap());
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }

    /// The same client at another gateway, with connections of its own.
    pub fn at(&self, address: SocketAddr) -> Self {
        Self { headers: self.headers.clone(), ..Self::new(address) }
    }

    pub fn key(self, key: &str) -> Self {
        self.with("x-api-key", key)
    }

    /// Sends a request and returns as soon as the head of the response is there.
    pub async fn send(&self, method: Method, path: &str, body: String) -> Response<Incoming> {
        let uri = format!("http://{}{path}", self.address);
        let mut request = Request::new(Full::from(body));
        *request.method_mut() = method;
        *request.uri_mut() = uri.parse().unwrap();
        *request.headers_mut() = self.headers.clone();
        within("a response", self.http.request(request)).await.unwrap()
    }

    pub async fn post(&self, path: &str, body: impl ToString) -> Reply {
        read(self.send(Method::POST, path, body.to_string()).await).await
    }

    pub async fn get(&self, path: &str) -> Reply {
        read(self.send(Method::GET, path, String::new()).await).await
    }

    /// Opens a stream of events.
    pub async fn stream(&self, path: &str) -> Events {
        events(self.send(Method::GET, path, String::new()).await)
    }

    /// The answer to a request without a session.
    pub async fn one_shot(&self, path: &str, method: &str, params: Value) -> Value {
        self.post(path, request(1, method, params)).await.json()
    }
}

/// Reads a response to its end.
pub async fn read(response: Response<Incoming>) -> Reply {
    let (parts, body) = response.into_parts();
    let body = within("a body", body.collect()).await.unwrap().to_bytes();
    Reply { status: parts.status, headers: parts.headers, body }
}

/// The events of a response.
pub fn events(response: Response<Incoming>) -> Events {
    assert_eq!(response.status(), StatusCode::OK, "{response:?}");
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream", "{response:?}");
    Events::new(response.into_body())
}

/// A request as text.
pub fn request(id: impl Into<Value>, method: &str, params: Value) -> String {
    let id: Value = id.into();
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

pub fn call(id: impl Into<Value>, tool: &str, arguments: Value) -> String {
    request(id, "tools/call", json!({"name": tool, "arguments": arguments}))
}

pub fn notification(method: &str, params: Value) -> String {
    json!({"jsonrpc": "2.0", "method": method, "params": params}).to_string()
}

pub fn cancel(id: impl Into<Value>) -> String {
    let id: Value = id.into();
    notification("notifications/cancelled", json!({"requestId": id}))
}

pub fn hello() -> Value {
    hello_with(json!({}))
}

pub fn hello_with(capabilities: Value) -> Value {
    let client = json!({"name": "test", "version": "1"});
    json!({"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": client})
}

/// The answer of a client to what a server asked.
pub fn answer(id: &Value, result: Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()
}

/// The text of a tool's result.
pub fn text(answer: &Value) -> &str {
    let text = answer["result"]["content"][0]["text"].as_str();
    text.unwrap_or_else(|| panic!("no result: {answer}"))
}

/// The message of an error answer from the gateway about a server.
pub fn fault(answer: &Value) -> &str {
    assert_eq!(answer["error"]["code"], -33000, "{answer}");
    answer["error"]["message"].as_str().unwrap()
}

pub fn tool_names(answer: &Value) -> Vec<String> {
    let tools = answer["result"]["tools"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let mut names: Vec<String> =
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect();
    names.sort_unstable();
    names
}

/// A session over Streamable HTTP.
#[derive(Debug)]
pub struct Session {
    pub client: Client,
    pub path: String,
    next_id: AtomicU64,
}

impl Session {
    pub async fn open(client: &Client, path: &str) -> Self {
        Self::open_with(client, path, json!({})).await
    }

    /// Of a client that can do more.
    pub async fn open_with(client: &Client, path: &str, capabilities: Value) -> Self {
        let reply = client.post(path, request(0, "initialize", hello_with(capabilities))).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        let id = reply.headers["mcp-session-id"].to_str().unwrap();
        let client = client.clone().with("mcp-session-id", id);
        let session = Self {
            client: client.with("mcp-protocol-version", "2025-11-25"),
            path: path.to_owned(),
            next_id: AtomicU64::new(1),
        };
        let initialized = notification("notifications/initialized", json!({}));
        assert_eq!(session.post(initialized).await.status, StatusCode::ACCEPTED);
        session
    }

    /// The same session at another gateway, or with another key.
    pub fn with(&self, change: impl FnOnce(Client) -> Client) -> Self {
        Self {
            client: change(self.client.clone()),
            path: self.path.clone(),
            next_id: AtomicU64::new(1000),
        }
    }

    pub async fn post(&self, body: impl ToString) -> Reply {
        self.client.post(&self.path, body).await
    }

    /// Posts and returns with the head of the response.
    pub async fn send(&self, body: impl ToString) -> Response<Incoming> {
        self.client.send(Method::POST, &self.path, body.to_string()).await
    }

    /// The answer to a request, as JSON or on a stream.
    pub async fn request(&self, method: &str, params: Value) -> Value {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let response = self.send(request(id, method, params)).await;
        if response.headers()[header::CONTENT_TYPE] == "text/event-stream" {
            events(response).answer(&id.into()).await
        } else {
            let answer = read(response).await.json();
            assert_eq!(answer["id"], id, "{answer}");
            answer
        }
    }

    pub async fn call(&self, tool: &str, arguments: Value) -> Value {
        self.request("tools/call", json!({"name": tool, "arguments": arguments})).await
    }

    pub async fn tools(&self) -> Vec<String> {
        tool_names(&self.request("tools/list", json!({})).await)
    }

    /// Opens the GET stream and reads what it begins with: a client without `Last-Event-ID` may
    /// have missed a change.
    pub async fn listen(&self) -> Events {
        let mut events = self.client.stream(&self.path).await;
        events.list_changed().await;
        events
    }

    pub async fn delete(&self) -> StatusCode {
        self.client.send(Method::DELETE, &self.path, String::new()).await.status()
    }
}

/// A session over HTTP+SSE.
#[derive(Debug)]
pub struct Sse {
    pub events: Events,
    /// Path and query where messages are posted.
    pub endpoint: String,
    /// What posts.
    pub client: Client,
    next_id: u64,
}

impl Sse {
    pub async fn open(client: &Client, path: &str) -> Self {
        let mut events = client.stream(path).await;
        let first = events.next().await.unwrap();
        assert_eq!(first.name, "endpoint", "{first:?}");
        // Who comes back after a break would not list again unless told to.
        assert!(events.next().await.is_some_and(|event| event.is_list_changed()));
        Self { events, endpoint: first.data, client: client.clone(), next_id: 1 }
    }

    pub async fn post(&self, body: impl ToString) -> Reply {
        self.client.post(&self.endpoint, body).await
    }

    pub async fn request(&mut self, method: &str, params: Value) -> Value {
        self.next_id += 1;
        let reply = self.post(request(self.next_id, method, params)).await;
        assert_eq!(reply.status, StatusCode::ACCEPTED, "{reply:?}");
        self.events.answer(&self.next_id.into()).await
    }

    pub async fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.request("tools/call", json!({"name": tool, "arguments": arguments})).await
    }

    pub async fn tools(&mut self) -> Vec<String> {
        tool_names(&self.request("tools/list", json!({})).await)
    }
}
