//! Starts the server on a loopback port and talks to it: byte for byte, or as rmcp's client.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode, header},
};
use http_body_util::BodyExt;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rmcp::{
    RoleClient,
    model::{
        CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, Implementation,
        ProtocolVersion,
    },
    service::{ClientLifecycleMode, ClientServiceExt, RunningService},
    transport::StreamableHttpClientTransport,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, UnixListener},
    task::AbortHandle,
};

pub(crate) struct Server {
    address: SocketAddr,
    http: Client<HttpConnector, Body>,
    task: AbortHandle,
}

pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Body,
}

impl Server {
    pub(crate) async fn start(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = async move { axum::serve(listener, router).await };
        Self {
            address,
            http: Client::builder(TokioExecutor::new()).build_http(),
            task: tokio::spawn(serve).abort_handle(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        let uri = format!("http://{}{path}", self.address);
        self.send(Request::get(uri).body(Body::empty()).unwrap()).await
    }

    /// One message of protocol revision 2025-11-25.
    pub(crate) async fn post(&self, message: &Value) -> Reply {
        let request = Request::post(format!("http://{}/mcp", self.address))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-11-25")
            .body(Body::from(message.to_string()));
        self.send(request.unwrap()).await
    }

    async fn send(&self, request: Request<Body>) -> Reply {
        let (parts, body) = self.http.request(request).await.unwrap().into_parts();
        Reply { status: parts.status, headers: parts.headers, body: Body::new(body) }
    }
}

impl Server {
    /// Until the database is there, or is away, as the server sees it.
    pub(crate) async fn wait_for_health(&self, status: StatusCode) {
        let waiting = async {
            loop {
                let reply = self.get("/health").await;
                assert_eq!(reply.headers["content-type"], "application/json");
                if reply.status == status {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        assert!(waited.is_ok(), "/health never became {status}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Reply {
    pub(crate) async fn text(self) -> String {
        let bytes = self.body.collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    pub(crate) async fn json(self) -> Value {
        let text = self.text().await;
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

pub(crate) fn tools_call(name: &str, arguments: &Value) -> Value {
    let params = json!({ "name": name, "arguments": arguments });
    json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params })
}

/// rmcp's client, over a Unix socket so that no TLS stack is needed for it.
pub(crate) struct McpClient {
    pub(crate) peer: RunningService<RoleClient, ClientConfig>,
    task: AbortHandle,
    _socket: TempDir,
}

impl McpClient {
    pub(crate) async fn connect(router: Router, lifecycle: ClientLifecycleMode) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("server");
        let listener = UnixListener::bind(&socket).unwrap();
        let serve = async move { axum::serve(listener, router).await };
        let task = tokio::spawn(serve).abort_handle();
        let transport = StreamableHttpClientTransport::from_unix_socket(
            socket.to_str().unwrap(),
            "http://localhost/mcp",
        );
        let client =
            ClientConfig::new(ClientCapabilities::default(), Implementation::new("test", "1"))
                .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE);
        let peer = client.serve_with_lifecycle(transport, lifecycle).await.unwrap();
        Self { peer, task, _socket: directory }
    }

    pub(crate) async fn call(&self, name: &'static str, arguments: Value) -> CallToolResult {
        let arguments = serde_json::from_value(arguments).unwrap();
        let params = CallToolRequestParams::new(name).with_arguments(arguments);
        self.peer.call_tool(params).await.unwrap()
    }

    /// The answer to a query that succeeds.
    pub(crate) async fn rows(&self, sql: &str) -> String {
        let result = self.call("query", json!({ "sql": sql })).await;
        assert_ne!(result.is_error, Some(true), "{sql}: {}", text(&result));
        text(&result).to_owned()
    }

    /// The answer to a query that fails.
    pub(crate) async fn refusal(&self, sql: &str) -> String {
        let result = self.call("query", json!({ "sql": sql })).await;
        assert_eq!(result.is_error, Some(true), "{sql}: {}", text(&result));
        text(&result).to_owned()
    }
}

impl Drop for McpClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Both ways a client may begin: with a handshake, and without one since 2026-07-28.
pub(crate) fn lifecycles() -> [(&'static str, ClientLifecycleMode); 2] {
    let discover =
        ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    [("initialize", ClientLifecycleMode::Initialize), ("discover", discover)]
}

pub(crate) fn text(result: &CallToolResult) -> &str {
    &result.content.first().unwrap().as_text().unwrap().text
}
