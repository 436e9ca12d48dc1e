//! What is under way in the middle of an event: a question that its user has not answered yet, a long call that reports
//! progress, a subscription, a conversation of Claude Code.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    clients::{
        Endpoint, Transport,
        claude::{self, Claude, Run},
        conformance,
        install::Sdk,
        model::{Gate, Model, Script},
        sessions::{Call, Event, Library, Mode, Sessions, Target},
        stage,
    },
    cluster::{Program, Release, Tenant},
};
use serde_json::json;
use tokio::task::JoinHandle;

use super::groups::is_team;

/// How long the user takes to answer: past the moment at which a pod that goes is sent nothing new.
const DECISION: Duration = Duration::from_secs(8);
/// An address of those to which a `url` may lead.
const OUTSIDE: &str = "10.96.255.241";
/// What is subscribed to.
const WATCHED: &str = "test://watched-resource";

const CLIENTS: [(&str, Library); 3] = [
    ("Python SDK 1.30", Library::Python(Sdk::V1)),
    ("Python SDK 2.3", Library::Python(Sdk::V2)),
    ("TypeScript SDK 1.32", Library::TypeScript(Sdk::V1)),
];

/// How long the long call takes.
fn long() -> u64 {
    if is_team() { 60 } else { 20 }
}

/// What was to come to its end, by what it was and for whom: nothing, or why it did not.
pub(crate) type Told = BTreeMap<String, Option<String>>;

/// The servers that such things need.
#[derive(Debug)]
pub(crate) struct Airport {
    key: String,
    url: String,
    _asks: conformance::Server,
}

impl Airport {
    /// One server in the cluster takes its time, one outside asks its users.
    pub(crate) async fn build(release: &Release, tenant: &Tenant, key: &str) -> Result<Self> {
        let mut workload = tenant.workload("slow", release.image(Program::Everything)?);
        let slow = json!({"name": "EVERYTHING_SLOW_TOOLS", "value": "true"});
        workload["env"].as_array_mut().context("a workload has variables")?.push(slow);
        tenant.apply("McpServer", "slow", json!({"workload": workload})).await?;

        let host = release.cluster().host_ip().await?;
        let asks = conformance::Server::start_at(host, conformance::Era::Dual).await?;
        let ports = json!([{"name": "mcp", "port": 80}]);
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "asks"},
            "spec": {"clusterIP": OUTSIDE, "ports": ports},
        });
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "asks", "labels": {"kubernetes.io/service-name": "asks"}},
            "addressType": "IPv4",
            "ports": [{"name": "mcp", "port": asks.port(), "protocol": "TCP"}],
            "endpoints": [{"addresses": [host]}],
        });
        for manifest in [service, slice] {
            tenant.namespace().apply(&manifest.to_string()).await?;
        }
        let url = format!("http://asks.{}.svc/mcp", tenant.name());
        tenant.apply("McpServer", "asks", json!({"url": url})).await?;
        for server in ["slow", "asks"] {
            tenant.ready("mcpserver", server).await?;
        }
        Ok(Self { key: key.to_owned(), url: release.url()?, _asks: asks })
    }

    /// Begins everything that is to be under way, and waits until it is.
    pub(crate) async fn depart(&self) -> Result<Flight> {
        let endpoint = |transport| stage::endpoint(transport, &self.url, &self.key);
        let mut passengers = Vec::new();
        for (name, library) in CLIENTS {
            passengers.push(Passenger::board(name, library, &endpoint(Transport::Http)).await?);
        }
        let mut talks = Vec::new();
        for (name, transport) in
            [("Claude Code, HTTP", Transport::Http), ("Claude Code, SSE", Transport::Sse)]
        {
            talks.push(Talk::begin(name, &endpoint(transport)).await?);
        }
        Ok(Flight { passengers, talks })
    }
}

/// All of it, or nothing.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    passengers: Vec<Passenger>,
    talks: Vec<Talk>,
}

impl Flight {
    /// Users answer what they were asked while the event goes on.
    pub(crate) async fn go_on(&self) {
        if self.passengers.is_empty() {
            return;
        }
        tokio::time::sleep(DECISION).await;
        for passenger in &self.passengers {
            // Where that fails, the question tells.
            let _ = passenger.sessions.answer(ASKED, "yes").await;
        }
    }

    /// How everything ended.
    pub(crate) async fn arrive(self) -> Told {
        let mut told = Told::new();
        for Passenger { name, sessions, question, progress } in self.passengers {
            let mut tell = |what: &str, ended: Result<()>| {
                let why = ended.err().map(|error| first_line(&error));
                told.insert(format!("{what}, {name}"), why);
            };
            tell("question", joined(question).await);
            tell("progress", joined(progress).await);
            tell("subscription", hears(&sessions).await);
        }
        for talk in self.talks {
            let name = talk.name;
            told.insert(name.to_owned(), talk.end().await.err().map(|error| first_line(&error)));
        }
        told
    }
}

/// An SDK with a session that is asked and has subscribed, and one that makes a long call.
#[derive(Debug)]
struct Passenger {
    name: &'static str,
    sessions: Arc<Sessions>,
    question: JoinHandle<Result<()>>,
    progress: JoinHandle<Result<()>>,
}

/// The sessions of a passenger.
const ASKED: usize = 0;
const CALLING: usize = 1;

impl Passenger {
    async fn board(name: &'static str, library: Library, endpoint: &Endpoint) -> Result<Self> {
        let targets = vec![Target::Endpoint(endpoint.clone()); 2];
        let sessions = Sessions::start_with_user(library, Mode::Legacy, &targets).await?;
        for session in [ASKED, CALLING] {
            sessions.opened(session).await?;
        }
        let sessions = Arc::new(sessions);
        sessions.subscribe(ASKED, WATCHED).await?;

        let patience = Duration::from_secs(long() + 30);
        let asks = sessions.clone();
        let question = tokio::spawn(async move {
            let call = Call::new("asks_test_elicitation", json!({"message": "Go on?"}));
            let answer = asks.perform(ASKED, &call.within(patience)).await?;
            ensure!(answer.text.contains("yes"), "it answered {answer:?}");
            Ok(())
        });
        let calls = sessions.clone();
        let progress = tokio::spawn(async move {
            let arguments = json!({"seconds": long(), "steps": 4 * long()});
            let call = Call::new("slow_slow", arguments).with_progress().within(patience);
            let answer = calls.perform(CALLING, &call).await?;
            ensure!(answer.text.contains("Took"), "it answered {answer:?}");
            Ok(())
        });
        sessions.reported(ASKED, &Event::Asked).await?;
        let goes = |events: &[(usize, Event)]| {
            events.iter().any(|(_, event)| matches!(event, Event::Progress(_)))
        };
        sessions.wait_events("progress", goes).await?;
        Ok(Self { name, sessions, question, progress })
    }
}

/// What was subscribed to still is: its change is told to the one when it is made by the other.
async fn hears(sessions: &Sessions) -> Result<()> {
    // A leg whose gateway went is opened again by the next call.
    sessions.call(ASKED, "asks_test_simple_text", json!({})).await?;
    sessions.call(CALLING, "asks_test_trigger_resource_update", json!({})).await?;
    sessions.reported(ASKED, &Event::Updated(WATCHED.to_owned())).await
}

async fn joined(task: JoinHandle<Result<()>>) -> Result<()> {
    task.await?
}

/// A conversation whose model thinks while something happens.
#[derive(Debug)]
struct Talk {
    name: &'static str,
    run: Run,
    gate: Gate,
    _model: Model,
    _claude: Claude,
}

impl Talk {
    async fn begin(name: &'static str, endpoint: &Endpoint) -> Result<Self> {
        let echo = claude::tool("tools_echo");
        let say = |message: &str| json!({"message": message});
        let script = Script::new().call(&echo, say("before"));
        let (script, gate) = script.gated_call(&echo, say("after"));
        let model = Model::start(script.call(&claude::tool("held_echo"), say("still"))).await?;
        let claude = Claude::new().await?;
        let run = claude.run(endpoint, &model)?;
        gate.reached().await?;
        Ok(Self { name, run, gate, _model: model, _claude: claude })
    }

    async fn end(self) -> Result<()> {
        self.gate.open();
        let results = self.run.finish().await?.results;
        let said: Vec<_> = results.iter().map(|result| result.text.as_str()).collect();
        ensure!(
            said == ["before", "after", "still"] && results.iter().all(|result| !result.is_error),
            "it was told {said:?}"
        );
        Ok(())
    }
}

fn first_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_owned()
}
