//! Clients of one kind: most of their sessions wait, some call.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use e2e::{
    Span,
    clients::{
        Transport,
        install::Sdk,
        sessions::{Event, Library, Mode, Sessions, Target},
        stage,
    },
    cluster::Release,
};
use futures_util::future::join_all;
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, interval, timeout},
};

/// Sessions of each kind that wait, and that call: few as a test, or as many as a team has with `FAIRWAY_FLEET=team`.
fn sessions() -> (usize, usize) {
    if is_team() { (100, 10) } else { (10, 4) }
}

/// Whether it is to be as in a team, with all that can happen to it.
pub(crate) fn is_team() -> bool {
    std::env::var_os("FAIRWAY_FLEET").is_some_and(|size| size == "team")
}

/// How often each session calls.
const PACE: Duration = Duration::from_millis(500);
/// A tool of a server that is shared, and of one at which each client has a connection of its own.
const TOOLS: [&str; 2] = ["tools_echo", "held_echo"];
/// How long news may take: a client that lost its stream opens one again after a second or two.
const HEARING: Duration = Duration::from_secs(10);

/// A kind of client.
#[derive(Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    library: Library,
    mode: Mode,
    transport: Transport,
    /// Whether its sessions have to outlive their gateways. Over HTTP+SSE the stream is the session, and SDKs do not open
    /// a second one (Claude Code does).
    pub(crate) stays: bool,
    /// Whether its session is over when a call is answered with an HTTP status that is no success, or not at all.
    pub(crate) ends_at_502: bool,
    /// Whether it gives up a stream, without a word, that broke for the second time in the life of its session.
    pub(crate) gives_up_streams: bool,
}

const fn http(name: &'static str, library: Library, mode: Mode) -> Kind {
    Kind {
        name,
        library,
        mode,
        transport: Transport::Http,
        stays: true,
        ends_at_502: false,
        gives_up_streams: matches!((library, mode), (Library::Python(_), Mode::Legacy)),
    }
}

pub(crate) const KINDS: [Kind; 6] = [
    Kind {
        ends_at_502: true,
        ..http("Python SDK 1.30, HTTP", Library::Python(Sdk::V1), Mode::Legacy)
    },
    http("Python SDK 2.3, HTTP", Library::Python(Sdk::V2), Mode::Legacy),
    http("Python SDK 2.3, HTTP of 2026", Library::Python(Sdk::V2), Mode::Auto),
    http("TypeScript SDK 1.32, HTTP", Library::TypeScript(Sdk::V1), Mode::Legacy),
    http("TypeScript SDK 2.4, HTTP of 2026", Library::TypeScript(Sdk::V2), Mode::Auto),
    Kind {
        name: "Python SDK 1.30, SSE",
        library: Library::Python(Sdk::V1),
        mode: Mode::Legacy,
        transport: Transport::Sse,
        stays: false,
        ends_at_502: true,
        gives_up_streams: true,
    },
];

/// Open sessions of one kind.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) kind: &'static Kind,
    pub(crate) idle: Sessions,
    pub(crate) calling: Arc<Sessions>,
}

impl Group {
    pub(crate) async fn open(kind: &'static Kind, release: &Release, key: &str) -> Result<Self> {
        let endpoint = stage::endpoint(kind.transport, &release.url()?, key);
        let open = |count: usize| {
            let targets = vec![Target::Endpoint(endpoint.clone()); count];
            async move {
                let sessions = Sessions::start(kind.library, kind.mode, &targets).await?;
                for session in 0..count {
                    sessions.opened(session).await?;
                }
                anyhow::Ok(sessions)
            }
        };
        let (idle, calling) = sessions();
        Ok(Self { kind, idle: open(idle).await?, calling: Arc::new(open(calling).await?) })
    }

    /// The sessions that cannot call any more, and why.
    pub(crate) async fn lost(&self) -> Vec<String> {
        let mut lost = Vec::new();
        for sessions in [&self.idle, &*self.calling] {
            let calls = (0..sessions.count()).map(|session| async move {
                for tool in TOOLS {
                    sessions.call(session, tool, json!({"message": "still here"})).await?;
                }
                anyhow::Ok(())
            });
            let failed = join_all(calls).await.into_iter().filter_map(Result::err);
            lost.extend(failed.map(|error| format!("{error:#}")));
        }
        lost
    }

    /// How many of the sessions that wait have no stream any more: they do not hear what they did not hear `before`.
    pub(crate) async fn deaf(&self, before: &[usize]) -> usize {
        // Who is late counts.
        let _ = timeout(HEARING, self.idle.wait_list_changed(before)).await;
        self.idle.list_changes().iter().zip(before).filter(|(now, before)| now <= before).count()
    }

    /// Whether all sessions that call have ended.
    pub(crate) fn is_over(&self) -> bool {
        let lost = |event: &Event| matches!(event, Event::Lost(_));
        (0..self.calling.count()).all(|session| self.calling.events(session).iter().any(lost))
    }

    /// Calls that go on until they are stopped.
    pub(crate) fn traffic(&self) -> Traffic {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut callers = JoinSet::new();
        for session in 0..self.calling.count() {
            let sessions = self.calling.clone();
            let (stop, answered) = (stop.clone(), answered.clone());
            callers.spawn(async move {
                let (mut failed, mut pace) = (Vec::new(), interval(PACE));
                for tool in TOOLS.iter().cycle() {
                    pace.tick().await;
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let began = Instant::now();
                    match sessions.call(session, tool, json!({"message": "on"})).await {
                        Ok(_) => {
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => {
                            let (when, reason) = (Span::since(began), format!("{tool}: {error:#}"));
                            failed.push(Failed { session, when, reason });
                        }
                    }
                }
                failed
            });
        }
        Traffic { stop, answered, callers }
    }
}

/// A call that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) session: usize,
    pub(crate) when: Span,
    pub(crate) reason: String,
}

/// Calls under way.
#[derive(Debug)]
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    callers: JoinSet<Vec<Failed>>,
}

impl Traffic {
    pub(crate) fn answered(&self) -> usize {
        self.answered.load(Ordering::Relaxed)
    }

    /// How many were answered, and what became of the others, those of a session one after the other.
    pub(crate) async fn stop(self) -> (usize, Vec<Failed>) {
        self.stop.store(true, Ordering::Relaxed);
        let failed = self.callers.join_all().await.into_iter().flatten().collect();
        (self.answered.load(Ordering::Relaxed), failed)
    }
}
