//! A stub of the Anthropic Messages API on loopback that plays a [`Script`] to Claude Code.
//!
//! The conversation tells how far the script is: every tool result in it is a step done. A gated step is answered
//! when the test opens its [`Gate`], so the test can change the world while the client waits for its model.
//! Requests beside the conversation (titles, token counts, probes) get an answer that means nothing.

mod wire;

use std::{
    collections::BTreeSet,
    fmt,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::Result;
use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{Response, StatusCode},
    routing::post,
};
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

pub use wire::{Request, ToolResult};

/// The prompt that starts the script; what does not contain it is not part of the conversation.
pub const PROMPT: &str = "Play the script of this test.";

/// What the model says, step by step. It ends with a text.
#[derive(Debug, Default)]
pub struct Script {
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    tool: String,
    input: Value,
    gate: Option<watch::Sender<Passage>>,
    /// Used instead, tool and input, for as long as the tool is not offered.
    meanwhile: Option<(String, Value)>,
}

impl Script {
    /// A script without steps: the model ends the conversation at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// The model uses a tool.
    #[must_use]
    pub fn call(mut self, tool: &str, input: Value) -> Self {
        self.steps.push(Step { tool: tool.to_owned(), input, gate: None, meanwhile: None });
        self
    }

    /// The model uses a tool as soon as the client offers it, and another meanwhile: a client settles what its model
    /// may use when it asks, so news of a tool takes a turn or two.
    #[must_use]
    pub fn call_once_offered(mut self, tool: &str, input: Value, meanwhile: (&str, Value)) -> Self {
        let meanwhile = Some((meanwhile.0.to_owned(), meanwhile.1));
        self.steps.push(Step { tool: tool.to_owned(), input, gate: None, meanwhile });
        self
    }

    /// The model uses a tool once the gate is open.
    #[must_use]
    pub fn gated_call(mut self, tool: &str, input: Value) -> (Self, Gate) {
        let (sender, _) = watch::channel(Passage::Ahead);
        let gate = Gate { tool: tool.to_owned(), passage: sender.clone() };
        self.steps.push(Step { tool: tool.to_owned(), input, gate: Some(sender), meanwhile: None });
        (self, gate)
    }
}

/// The test's hold on a gated step.
#[derive(Debug)]
pub struct Gate {
    tool: String,
    passage: watch::Sender<Passage>,
}

impl Gate {
    /// Waits until the client waits here: every step before has its result.
    pub async fn reached(&self) -> Result<()> {
        let mut passage = self.passage.subscribe();
        let waiting = passage.wait_for(|passage| *passage == Passage::Waiting);

        super::within(&format!("the gate before {}", self.tool), waiting).await??;
        Ok(())
    }

    /// Lets the model answer.
    pub fn open(&self) {
        self.passage.send_replace(Passage::Open);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passage {
    Ahead,
    Waiting,
    Open,
}

/// The running stub.
pub struct Model {
    url: String,
    stage: Arc<Stage>,
    _server: JoinSet<()>,
}

#[derive(Debug)]
struct Stage {
    script: Script,
    requests: Mutex<Vec<Request>>,
    /// Numbers of results after which a tool was used in the meanwhile.
    waits: Mutex<BTreeSet<usize>>,
}

/// Turns that a tool may take until it is offered.
const PATIENCE: usize = 50;

impl Model {
    /// Plays `script` on a free port.
    pub async fn start(script: Script) -> Result<Self> {
        let stage = Arc::new(Stage { script, requests: Mutex::default(), waits: Mutex::default() });
        let routes = Router::new()
            .route("/v1/messages", post(messages))
            .route("/v1/messages/count_tokens", post(count_tokens))
            .fallback(|| async { "{}" })
            .with_state(Arc::clone(&stage));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let mut server = JoinSet::new();
        server.spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                eprintln!("the model stub stopped: {error}");
            }
        });

        Ok(Self { url, stage, _server: server })
    }

    /// What `ANTHROPIC_BASE_URL` has to be.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The requests of the conversation so far, the oldest first.
    pub fn requests(&self) -> Vec<Request> {
        self.stage.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Model {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Model").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the model was asked ---");
            for request in self.requests() {
                eprintln!("{request:?}");
            }
        }
    }
}

async fn messages(State(stage): State<Arc<Stage>>, body: Bytes) -> Response<Body> {
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        let mut refusal = Response::new(Body::from("not JSON"));
        *refusal.status_mut() = StatusCode::BAD_REQUEST;
        return refusal;
    };
    let Some(request) = Request::of_conversation(&body) else {
        return wire::text("Nothing", &body);
    };

    let results = request.results.len();
    let waited = stage.waits().range(..results).count();
    let tools = request.tools.clone();
    stage.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    let Some(step) = stage.script.steps.get(results - waited) else {
        return wire::text("The script is over.", &body);
    };
    if let Some(gate) = &step.gate {
        // A request that is sent again must not close a gate that was opened.
        gate.send_if_modified(|passage| {
            let first = *passage == Passage::Ahead;
            if first {
                *passage = Passage::Waiting;
            }
            first
        });
        // The sender is in the step, so this waits for nothing but the opening.
        let _ = gate.subscribe().wait_for(|passage| *passage == Passage::Open).await;
    }
    if let Some((tool, input)) = &step.meanwhile
        && !tools.contains(&step.tool)
        && waited < PATIENCE
    {
        stage.waits().insert(results);
        return wire::tool_use(results, tool, input, &body);
    }
    wire::tool_use(results, &step.tool, &step.input, &body)
}

impl Stage {
    fn waits(&self) -> std::sync::MutexGuard<'_, BTreeSet<usize>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn count_tokens() -> &'static str {
    r#"{"input_tokens":1}"#
}
