//! Starts the server on a loopback port and talks to it: byte for byte, or as rmcp's client.
#![allow(deprecated, reason = "sampling and roots are what is tested here")]

use std::net::SocketAddr;

use axum::{
    body::Body,
    http::{HeaderMap, Request, StatusCode, header},
};
use http_body_util::BodyExt as _;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rmcp::{
    ClientHandler, ErrorData, RoleClient,
    model::{
        CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig,
        CreateMessageRequestParams, CreateMessageResult, ElicitRequestParams, ElicitResult,
        ElicitationAction, Implementation, ListRootsResult, ProtocolVersion,
        ResourceUpdatedNotificationParam, Root, SamplingMessage,
    },
    service::{
        ClientLifecycleMode, ClientServiceExt as _, NotificationContext, RequestContext,
        RunningService,
    },
    transport::StreamableHttpClientTransport,
};
use serde_json::{Value, json};
use server_conformance::{Config, Era, router};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::mpsc,
    task::AbortHandle,
};

pub(crate) fn config(era: Era) -> Config {
    Config { era, allowed_hosts: Vec::new() }
}

/// The server, spoken to byte for byte.
pub(crate) struct Server {
    address: SocketAddr,
    http: Client<HttpConnector, Body>,
    task: AbortHandle,
}

pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Server {
    pub(crate) async fn start(era: Era) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = router(&config(era)).unwrap();
        let serve = async move { axum::serve(listener, router).await };
        Self {
            address,
            http: Client::builder(TokioExecutor::new()).build_http(),
            task: tokio::spawn(serve).abort_handle(),
        }
    }

    pub(crate) async fn post(&self, message: &Value, headers: &[(&str, &str)]) -> Reply {
        let mut request = Request::post(format!("http://{}/mcp", self.address))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(message.to_string())).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        let uri = format!("http://{}{path}", self.address);
        self.send(Request::get(uri).body(Body::empty()).unwrap()).await
    }

    async fn send(&self, request: Request<Body>) -> Reply {
        let (parts, body) = self.http.request(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Reply { status: parts.status, headers: parts.headers, text }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Reply {
    /// The one message in it, be it JSON or an event.
    pub(crate) fn message(&self) -> Value {
        let mut data = self.text.lines().filter_map(|line| line.strip_prefix("data: "));
        let json = data.next_back().unwrap_or(&self.text);
        serde_json::from_str(json).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub(crate) fn code(&self) -> Option<i64> {
        self.message()["error"]["code"].as_i64()
    }
}

/// A client that has something to say whenever it is asked, and writes down what it is told.
#[derive(Clone)]
pub(crate) struct Person {
    capabilities: ClientCapabilities,
    heard: mpsc::Sender<String>,
}

impl ClientHandler for Person {
    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(self.capabilities.clone(), Implementation::new("test", "1"))
            .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
    }

    async fn create_message(
        &self,
        request: CreateMessageRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        assert_eq!(request.max_tokens, 100);
        Ok(CreateMessageResult::new(SamplingMessage::assistant_text("Paris"), "test".to_owned()))
    }

    async fn list_roots(
        &self,
        _context: RequestContext<RoleClient>,
    ) -> Result<ListRootsResult, ErrorData> {
        Ok(ListRootsResult::new(vec![Root::new("file:///home/test")]))
    }

    /// Writes its name into each line of text.
    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let form = serde_json::to_value(&request).unwrap();
        let fields = form["requestedSchema"]["properties"].as_object().unwrap();
        let lines = fields.iter().filter(|(_, field)| **field == json!({ "type": "string" }));
        let content: Value = lines.map(|(name, _)| (name.clone(), json!(name))).collect();
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(content))
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.heard.send("tools".to_owned()).await.unwrap();
    }

    async fn on_resource_updated(
        &self,
        update: ResourceUpdatedNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        self.heard.send(update.uri).await.unwrap();
    }
}

/// rmcp's client, over a Unix socket so that no TLS stack is needed for it.
pub(crate) struct McpClient {
    pub(crate) peer: RunningService<RoleClient, Person>,
    pub(crate) heard: mpsc::Receiver<String>,
    task: AbortHandle,
    _socket: TempDir,
}

impl McpClient {
    /// One that offers everything.
    pub(crate) async fn connect(era: Era, lifecycle: ClientLifecycleMode) -> Self {
        let capabilities = ClientCapabilities::builder()
            .enable_elicitation()
            .enable_roots()
            .enable_sampling()
            .build();
        Self::with(capabilities, era, lifecycle).await
    }

    pub(crate) async fn with(
        capabilities: ClientCapabilities,
        era: Era,
        lifecycle: ClientLifecycleMode,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("server");
        let listener = UnixListener::bind(&socket).unwrap();
        let router = router(&config(era)).unwrap();
        let serve = async move { axum::serve(listener, router).await };
        let task = tokio::spawn(serve).abort_handle();
        let transport = StreamableHttpClientTransport::from_unix_socket(
            socket.to_str().unwrap(),
            "http://localhost/mcp",
        );
        let (sender, heard) = mpsc::channel(16);
        let person = Person { capabilities, heard: sender };
        let peer = person.serve_with_lifecycle(transport, lifecycle).await.unwrap();
        Self { peer, heard, task, _socket: directory }
    }

    pub(crate) async fn call(&self, name: &'static str) -> Result<String, String> {
        let called = self.peer.call_tool(CallToolRequestParams::new(name)).await;
        called.map(|result| text(&result)).map_err(|error| error.to_string())
    }
}

impl Drop for McpClient {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Both ways a client may begin, each at a server that knows no other.
pub(crate) fn eras() -> [(Era, ClientLifecycleMode); 2] {
    let discover =
        ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    [(Era::Legacy, ClientLifecycleMode::Initialize), (Era::Modern, discover)]
}

fn text(result: &CallToolResult) -> String {
    result.content.first().unwrap().as_text().unwrap().text.clone()
}
