//! Keeps one server's list of tools fresh and knows whether the server is there.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::Catalog;
use gateway_core::report::About;
use http::StatusCode;
use mcp::Era;
use mcp::error::UNSUPPORTED_VERSION;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::ear::Ear;
use super::fault::Fault;
use super::hello::Hello;
use super::leg::Leg;
use super::pool::Handshakes;
use super::{Link, State, Upstream};
use crate::table::{Change, Changes};

/// Attempts to reach a server that is away: the first soon, for one that restarts, then ever more
/// rarely.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_LAST: Duration = Duration::from_secs(2);
/// How long a server has a place among those who connect: many times what a server that is there
/// takes, and short enough that a new one is reached within half a minute behind 5,000 that hang.
const HANDSHAKE: Duration = Duration::from_millis(250);
/// Before a stream of events that ended is opened again.
const RELISTEN: Duration = Duration::from_secs(1);
/// How often idle legs are looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// How often legs that are to be closed are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Between two times that a server is told which resources are watched, however often that changes,
/// and how long it may take.
const WATCH_PACE: Duration = Duration::from_millis(50);
const WATCH: Duration = Duration::from_secs(5);
/// Between two lists, however often a server says that its tools changed.
const PACE: Duration = Duration::from_millis(250);

/// Runs until the upstream is stopped.
pub(super) async fn run(upstream: Arc<Upstream>, handshakes: Arc<Handshakes>, changes: Changes) {
    let stop = upstream.stop.clone();
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = supervise(&upstream, &handshakes, &changes) => {}
    }
    let legs = upstream.take_legs();
    farewell(upstream, legs).await;
}

/// Closes each leg when no call is open on it, or when no call may be.
pub(super) async fn farewell(upstream: Arc<Upstream>, mut legs: Vec<Arc<Leg>>) {
    let last = Instant::now() + upstream.entry().timeouts.total;
    while !legs.is_empty() {
        let over = Instant::now() >= last;
        // Ours is the only hold on a leg that no call uses.
        let (idle, used): (Vec<_>, Vec<_>) =
            legs.into_iter().partition(|leg| over || Arc::strong_count(leg) == 1);
        for leg in idle {
            leg.close(&upstream).await;
        }
        legs = used;
        if !legs.is_empty() {
            sleep(LOOK).await;
        }
    }
}

async fn supervise(upstream: &Arc<Upstream>, handshakes: &Handshakes, changes: &Changes) {
    let mut backoff = BACKOFF_FIRST;
    let mut told = false;
    loop {
        let fault = match connect_in_turn(upstream, handshakes, !told).await {
            Ok(()) => match keep(upstream, changes, &mut backoff).await {
                Ok(()) => return,
                Err(fault) => fault,
            },
            Err(fault) => fault,
        };
        upstream.enter(State::Unreachable { reason: reason(&fault) });
        if !std::mem::replace(&mut told, true) {
            // Without a receiver the gateway is stopping.
            let _ = changes.send(Change::Unreachable { server: upstream.entry() }).await;
        }
        let soonest = Instant::now() + BACKOFF_FIRST;
        tokio::select! {
            () = upstream.wake.notified() => sleep_until(soonest).await,
            () = sleep(jittered(backoff)) => {}
        }
        backoff = (backoff * 2).min(BACKOFF_LAST);
    }
}

/// Without the words that `Fault::Unreachable` will put around it again.
fn reason(fault: &Fault) -> String {
    match fault {
        Fault::Unreachable(reason) => reason.clone(),
        other => other.to_string(),
    }
}

/// 75 to 125 % of a time, so that many gateways do not knock at once.
pub(super) fn jittered(time: Duration) -> Duration {
    let mut random = [0];
    // Without randomness there is no jitter, which harms nothing.
    let _ = aws_lc_rs::rand::fill(&mut random);
    time.mul_f64(0.75 + f64::from(random[0]) / 510.0)
}

/// Connects when there is a place to. A server that takes long gives its place up and goes on
/// without: it has begun, and others need not wait for it.
async fn connect_in_turn(
    upstream: &Arc<Upstream>,
    handshakes: &Handshakes,
    first: bool,
) -> Result<(), Fault> {
    let place = handshakes.enter(first).await;
    let mut connecting = pin!(connect(upstream));
    match timeout(HANDSHAKE, &mut connecting).await {
        Ok(connected) => connected,
        Err(_) => {
            drop(place);
            connecting.await
        }
    }
}

/// Opens the gateway's own leg in the newest era and over whichever transport the server speaks.
async fn connect(upstream: &Arc<Upstream>) -> Result<(), Fault> {
    let endpoint = &upstream.endpoint;
    let refused = if endpoint.tries_streamable() {
        let mut discovered = Leg::discover(upstream).await;
        if matches!(discovered, Err(Fault::Refused(code)) if code == i64::from(UNSUPPORTED_VERSION))
        {
            // Said by modern servers alone: one that means it says so again.
            discovered = Leg::discover(upstream).await;
        }
        match discovered {
            Ok(leg) => {
                settle(upstream, Link::Streamable, leg);
                return Ok(());
            }
            // Nobody there: another request finds nobody, either.
            Err(fault @ Fault::Unreachable(_)) => return Err(fault),
            // Whatever else it says, it does not speak 2026-07-28 (basic/versioning, detection).
            Err(_) => {}
        }
        match Leg::open(upstream, Link::Streamable, None).await {
            Ok(leg) => {
                settle(upstream, Link::Streamable, leg);
                return Ok(());
            }
            Err(fault) if endpoint.tries_sse() && speaks_another_transport(&fault) => fault,
            Err(fault) => return Err(fault),
        }
    } else {
        Fault::Status(StatusCode::NOT_FOUND)
    };
    match Leg::open(upstream, Link::Sse, None).await {
        Ok(leg) => {
            settle(upstream, Link::Sse, leg);
            Ok(())
        }
        // Neither transport: the first refusal says more, unless only SSE was asked for.
        Err(_) if endpoint.tries_streamable() => Err(refused),
        Err(fault) => Err(fault),
    }
}

fn settle(upstream: &Arc<Upstream>, link: Link, leg: Arc<Leg>) {
    upstream.learn(link, &leg);
    upstream.standing.introduce(about(link, &leg));
    // Its session may still be there: not every failure is the loss of it.
    if let Some(last) = upstream.own.current.swap(Some(leg)) {
        upstream.close_soon(last);
    }
}

fn about(link: Link, leg: &Leg) -> About {
    let Hello { version, server_name, server_version, .. } = leg.hello().clone();
    let version = match leg.era() {
        Era::Legacy => version.as_str(),
        Era::Modern => mcp::modern::VERSION,
    };
    About {
        version: version.to_owned(),
        transport: match link {
            Link::Streamable => "StreamableHttp".to_owned(),
            Link::Sse => "Sse".to_owned(),
        },
        server_name,
        server_version,
        stateful: leg.has_session(),
    }
}

/// The statuses after which a client falls back to HTTP+SSE (2025-11-25, transports, backwards
/// compatibility).
fn speaks_another_transport(fault: &Fault) -> bool {
    match fault {
        Fault::Status(status) => {
            matches!(
                *status,
                StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
            )
        }
        _ => false,
    }
}

/// Lists, and lists again whenever there is a reason to. Returns when nobody wants lists any more.
async fn keep(
    upstream: &Arc<Upstream>,
    changes: &Changes,
    backoff: &mut Duration,
) -> Result<(), Fault> {
    let mut ear = Ear::open(upstream).await?;
    upstream.forgive();
    let mut next_sweep = Instant::now() + SWEEP;
    // When the server is to be told what is watched now.
    let (mut watch_at, mut watched_at) = (None, Instant::now());
    loop {
        let asked = Instant::now();
        upstream.standing.begin_list();
        let catalog = ear.list(upstream).await?;
        let latency = asked.elapsed();
        *backoff = BACKOFF_FIRST;
        let tools = catalog.tools().len();
        // Before the list is in force: what it names can be called.
        upstream.standing.open();
        let known = upstream.standing.listed();
        if known.is_none_or(|known| *known.catalog != catalog) {
            let catalog = Arc::new(catalog);
            if !publish(upstream, changes, &catalog).await {
                return Ok(());
            }
            upstream.standing.list(catalog, latency);
        }
        upstream.enter(State::Connected { tools });
        upstream.standing.end_list();
        upstream.listed();
        let next_poll = Instant::now() + jittered(ear.poll_interval());
        let soonest = Instant::now() + PACE;
        let heals_at = upstream.heals_at();
        loop {
            tokio::select! {
                biased;
                () = upstream.wake.notified() => break,
                () = upstream.watchers.changed.notified() => {
                    watch_at.get_or_insert(watched_at + WATCH_PACE);
                }
                () = sleep_until(watch_at.unwrap_or(watched_at)), if watch_at.is_some() => {
                    watch_at = None;
                    // A server that is slow to be told is listed and heard all the same.
                    let _ = timeout(WATCH, ear.watch(upstream)).await;
                    watched_at = Instant::now();
                }
                () = ear.hear(upstream) => {
                    sleep(RELISTEN).await;
                    ear = Ear::open(upstream).await?;
                    break;
                }
                () = sleep_until(next_sweep) => {
                    next_sweep = Instant::now() + SWEEP;
                    for idle in upstream.sweep() {
                        idle.close(upstream).await;
                    }
                }
                () = sleep_until(next_poll) => break,
                () = sleep_until(heals_at.unwrap_or(next_poll)), if heals_at.is_some() => break,
            }
        }
        sleep_until(soonest).await;
    }
}

/// Waits until a list is in force: who hears of it must be able to call what it names. False when
/// nobody wants lists any more.
async fn publish(upstream: &Upstream, changes: &Changes, catalog: &Arc<Catalog>) -> bool {
    let (in_force, waiting) = oneshot::channel();
    let (server, catalog) = (upstream.entry(), catalog.clone());
    let change = Change::Catalog { server, catalog, in_force };
    changes.send(change).await.is_ok() && waiting.await.is_ok()
}
