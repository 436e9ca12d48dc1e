//! Sessions of real SDKs that list and call without end, each in its turn. One that is lost is begun anew.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use serde_json::json;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    ledger::{Call as FailedCall, Ledger},
    scene::Scene,
};
use crate::{
    Span,
    clients::{
        Endpoint, Transport,
        install::Sdk,
        sessions::{Call, Library, Mode, Sessions, Target},
        stage,
    },
    cluster::release::until,
};

/// A kind of client.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    library: Library,
    mode: Mode,
    /// Whether its session is over when a call is answered with an HTTP status that is no success.
    pub(super) ends_at_502: bool,
}

/// Streamable HTTP: over HTTP+SSE the stream is the session, and dies with its gateway.
static KINDS: [Kind; 4] = [
    Kind {
        name: "Python SDK 1.30",
        library: Library::Python(Sdk::V1),
        mode: Mode::Legacy,
        ends_at_502: true,
    },
    Kind {
        name: "Python SDK 2.3",
        library: Library::Python(Sdk::V2),
        mode: Mode::Legacy,
        ends_at_502: false,
    },
    Kind {
        name: "Python SDK 2.3, revision of 2026",
        library: Library::Python(Sdk::V2),
        mode: Mode::Auto,
        ends_at_502: false,
    },
    Kind {
        name: "TypeScript SDK 1.32",
        library: Library::TypeScript(Sdk::V1),
        mode: Mode::Legacy,
        ends_at_502: false,
    },
];

/// What a session does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Lists all tools.
    List,
    /// Calls a server that all clients share.
    Shared,
    /// Calls a server at which each client has a session of its own.
    PerClient,
    /// Makes a call that reports progress.
    Progress,
    /// Calls the server that restarts all the time.
    Restless,
}

const STEPS: [Step; 5] =
    [Step::List, Step::Shared, Step::PerClient, Step::Progress, Step::Restless];

/// Sessions of each kind.
const SESSIONS: usize = 4;
/// How often each session does something: two cores have a cluster to run besides.
const PACE: Duration = Duration::from_millis(400);
/// Failures in a row, but for those of the restless server, after which a session is lost whatever its client says.
const HOPELESS: u32 = 20;
/// Until a session can be begun, at the latest: while a gateway is killed some cannot.
const REOPENED: Duration = Duration::from_secs(60);

impl Step {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Shared => "call, shared",
            Self::PerClient => "call, per client",
            Self::Progress => "call with progress",
            Self::Restless => "call, restless",
        }
    }

    /// Does it in a session.
    async fn perform(self, Seat { sessions, number }: &Seat) -> Result<()> {
        let call = match self {
            Self::List => {
                let tools = sessions.list(*number).await?;
                ensure!(
                    tools.iter().any(|tool| tool == "tools_echo"),
                    "tools are missing: {tools:?}"
                );
                return Ok(());
            }
            Self::Shared => Call::new("tools_echo", json!({"message": "on"})),
            Self::PerClient => Call::new("held_echo", json!({"message": "on"})),
            Self::Progress => {
                Call::new("tools_slow", json!({"seconds": 0.5, "steps": 5})).with_progress()
            }
            Self::Restless => Call::new("restless_echo", json!({"message": "on"})),
        };
        let result = sessions.perform(*number, &call).await?;
        ensure!(!result.is_error, "{}", result.text);
        Ok(())
    }
}

/// What came of the sessions of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) sessions: usize,
    pub(super) answered: usize,
}

/// Sessions under way.
#[derive(Debug)]
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Result<(&'static Kind, Tally)>>,
}

impl Load {
    /// Opens all sessions and lets them begin.
    pub(super) async fn start(scene: &Scene<'_>, ledger: &Ledger) -> Result<Self> {
        let endpoint = stage::endpoint(Transport::Http, &scene.release.url()?, &scene.key);
        let (stop, mut callers) = (Arc::<AtomicBool>::default(), JoinSet::new());
        for kind in &KINDS {
            let seats = Seat::take(kind, &endpoint, SESSIONS).await?;
            for seat in seats {
                let caller = Caller {
                    kind,
                    endpoint: endpoint.clone(),
                    seat,
                    tally: Tally { sessions: 1, answered: 0 },
                    ledger: ledger.clone(),
                };
                callers.spawn(caller.go_on(stop.clone()));
            }
        }
        Ok(Self { stop, callers })
    }

    /// Waits for the last calls.
    pub(super) async fn stop(mut self) -> Result<Vec<(&'static Kind, Tally)>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut tallies: Vec<_> = KINDS.iter().map(|kind| (kind, Tally::default())).collect();
        while let Some(ended) = self.callers.join_next().await {
            let (kind, tally) = ended??;
            for (_, sum) in tallies.iter_mut().filter(|(other, _)| other.name == kind.name) {
                sum.sessions += tally.sessions;
                sum.answered += tally.answered;
            }
        }
        Ok(tallies)
    }
}

/// One session, of those that a process holds.
#[derive(Clone, Debug)]
struct Seat {
    sessions: Arc<Sessions>,
    number: usize,
}

impl Seat {
    async fn take(kind: &Kind, endpoint: &Endpoint, count: usize) -> Result<Vec<Self>> {
        let targets = vec![Target::Endpoint(endpoint.clone()); count];
        let sessions = Arc::new(Sessions::start(kind.library, kind.mode, &targets).await?);
        for number in 0..count {
            sessions.opened(number).await?;
        }
        Ok((0..count).map(|number| Self { sessions: sessions.clone(), number }).collect())
    }
}

#[derive(Debug)]
struct Caller {
    kind: &'static Kind,
    endpoint: Endpoint,
    seat: Seat,
    tally: Tally,
    ledger: Ledger,
}

impl Caller {
    async fn go_on(mut self, stop: Arc<AtomicBool>) -> Result<(&'static Kind, Tally)> {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut in_a_row, mut failing) = (0, None);
        for step in STEPS.into_iter().cycle() {
            pace.tick().await;
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let began = Instant::now();
            let Err(error) = step.perform(&self.seat).await else {
                self.tally.answered += 1;
                (in_a_row, failing) = (0, None);
                continue;
            };
            // A session may be lost over a call, and that be known at the next.
            let failing_since = *failing.get_or_insert(began);
            // What follows is what the client's process printed.
            let text = format!("{error:#}").lines().next().unwrap_or_default().to_owned();
            let when = Span::since(began);
            self.ledger.failed(self.call(step, when, text.clone()));
            in_a_row += u32::from(step != Step::Restless);
            let ended = self.seat.sessions.lost(self.seat.number);
            if let Some(reason) = ended.or_else(|| (in_a_row == HOPELESS).then_some(text)) {
                self.ledger.lost(self.call(step, Span::since(failing_since), reason));
                self.begin_anew().await?;
                (in_a_row, failing) = (0, None);
            }
        }
        // One that only looks alive is lost too.
        let began = Instant::now();
        if let Err(error) = Step::Shared.perform(&self.seat).await {
            let call = self.call(Step::Shared, Span::since(began), format!("{error:#}"));
            self.ledger.lost(call);
        }
        Ok((self.kind, self.tally))
    }

    fn call(&self, step: Step, when: Span, text: String) -> FailedCall {
        FailedCall { kind: self.kind, step, when, text }
    }

    async fn begin_anew(&mut self) -> Result<()> {
        let opened = std::sync::Mutex::new(None);
        let open = || async {
            let seats = Seat::take(self.kind, &self.endpoint, 1).await?;
            *opened.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                seats.into_iter().next();
            Ok(true)
        };
        until("a session to be begun anew", REOPENED, open).await?;
        let opened = opened.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(seat) = opened {
            (self.seat, self.tally.sessions) = (seat, self.tally.sessions + 1);
        }
        Ok(())
    }
}
