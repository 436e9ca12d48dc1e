//! A client of 2026-07-28.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{Method, Response, StatusCode, header};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::client::{Client, Reply, events, read, request};
use super::events::Events;

/// A client that says with each request what it can do.
#[derive(Debug)]
pub struct Guest {
    pub client: Client,
    pub path: String,
    /// What stands in `_meta` of each request.
    pub meta: Value,
    next_id: AtomicU64,
}

impl Guest {
    pub fn new(client: &Client, path: &str) -> Self {
        let meta = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "guest", "version": "1"},
        });
        let client = client.clone().with("mcp-protocol-version", "2026-07-28");
        Self { client, path: path.to_owned(), meta, next_id: AtomicU64::new(1) }
    }

    /// The same with capabilities.
    pub fn can(self, capabilities: Value) -> Self {
        self.with("io.modelcontextprotocol/clientCapabilities", capabilities)
    }

    /// The same with a member of `_meta`.
    pub fn with(mut self, member: &str, value: Value) -> Self {
        self.meta[member] = value;
        self
    }

    /// `params` with what every request of this client has.
    pub fn params(&self, params: &Value) -> Value {
        let mut params = params.clone();
        let own = params["_meta"].as_object().cloned().unwrap_or_default();
        let mut meta = self.meta.clone();
        own.into_iter().for_each(|(name, value)| meta[name] = value);
        params["_meta"] = meta;
        params
    }

    /// The same client for a request of a method that names something.
    pub fn heading(&self, method: &str, params: &Value) -> Client {
        let client = self.client.clone().with("mcp-method", method);
        let name = match method {
            "tools/call" | "prompts/get" => params["name"].as_str(),
            "resources/read" => params["uri"].as_str(),
            _ => None,
        };
        name.into_iter().fold(client, |client, name| client.with("mcp-name", name))
    }

    /// Sends a request and returns with the head of the response.
    pub async fn send(
        &self,
        id: impl Into<Value>,
        method: &str,
        params: Value,
    ) -> Response<Incoming> {
        let body = request(id, method, self.params(&params));
        self.heading(method, &params).send(Method::POST, &self.path, body).await
    }

    pub async fn post(&self, id: impl Into<Value>, method: &str, params: Value) -> Reply {
        read(self.send(id, method, params).await).await
    }

    /// The answer to a request, as JSON or on a stream.
    pub async fn request(&self, method: &str, params: Value) -> Value {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let response = self.send(id, method, params).await;
        if response.headers()[header::CONTENT_TYPE] == "text/event-stream" {
            return events(response).answer(&id.into()).await;
        }
        let answer = read(response).await.json();
        assert_eq!(answer["id"], id, "{answer}");
        answer
    }

    pub async fn call(&self, tool: &str, arguments: Value) -> Value {
        self.request("tools/call", json!({"name": tool, "arguments": arguments})).await
    }

    /// Calls again with what was answered to a result that required input.
    pub async fn answer(&self, tool: &str, required: &Value, responses: Value) -> Value {
        let state = &required["result"]["requestState"];
        let params = json!({
            "name": tool, "arguments": {}, "inputResponses": responses, "requestState": state,
        });
        self.request("tools/call", params).await
    }

    /// Listens, and reads what is honoured of what was asked for.
    pub async fn listen(&self, id: impl Into<Value>, filter: Value) -> (Events, Value) {
        let params = json!({"notifications": filter});
        let response = self.send(id, "subscriptions/listen", params).await;
        assert_eq!(response.status(), StatusCode::OK, "{response:?}");
        let mut events = events(response);
        let first = events.next().await.unwrap().json();
        assert_eq!(first["method"], "notifications/subscriptions/acknowledged", "{first}");
        let honoured = first["params"]["notifications"].clone();
        (events, honoured)
    }
}
