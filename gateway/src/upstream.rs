//! Servers the gateway speaks to: one [`Upstream`] each, kept up by a [`supervisor`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use crds::SessionMode;
use gateway_core::report::{ServerId, ServerReport, ServerState};
use gateway_core::{Endpoint, ServerEntry};
use http::{HeaderName, HeaderValue, Method, Uri};
use mcp::Era;
use mcp::json::JsonBuf;
use mcp::modern::declares_extension;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::telemetry::{CallMetrics, Refusal, Telemetry};

mod admission;
mod beginning;
mod breaker;
mod budget;
mod client;
mod connection;
mod connector;
mod ear;
mod egress;
pub(crate) mod exchange;
pub(crate) mod fault;
pub(crate) mod gate;
mod hello;
pub(crate) mod leg;
mod lists;
mod lodger;
mod own;
mod passing;
mod pods;
mod pool;
mod request;
mod revival;
mod slot;
mod standing;
mod stream;
mod supervisor;
mod trust;
pub(crate) mod unasked;
mod watchers;
mod weighing;

pub(crate) use admission::Admission;
pub(crate) use client::{Body, HttpClient, Template};
pub(crate) use connector::Connector;
pub(crate) use egress::Egress;
pub(crate) use hello::implementation;
pub(crate) use lodger::{Sight, Visitor, exposed, sealed};
pub(crate) use passing::Mends;
pub(crate) use pool::Pool;
pub(crate) use slot::{ClientKey, Seat, Slot};
pub(crate) use standing::{Newswire, Standing, State};
pub(crate) use watchers::{Ear, Subject, Watch, Watched, Watchers};

use breaker::Breaker;
use budget::Budget;
use client::Sending;
use fault::Fault;
use gate::Gate;
use leg::Leg;
use lodger::Lodger;
use pods::Pods;
use slot::Of;

/// Legs one principal may hold at one server: some 4 clients of 64 sessions.
const MAX_LEGS: usize = 256;
/// Answers to clients that left which are read to their end, at one server.
const MAX_DRAINS: usize = 256;
/// How long such a message may take to be accepted.
const PASSING: Duration = Duration::from_secs(2);

/// Over which transport a server is spoken to in the legacy era.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    Streamable,
    Sse,
}

/// Who has a leg in the legacy era.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Sharing {
    /// Not known yet.
    Unknown,
    /// One leg serves all clients.
    All,
    /// Each client has its own.
    Each,
    /// Nobody: the server speaks the modern era only.
    Nobody,
}

/// One server.
#[derive(Debug)]
pub(crate) struct Upstream {
    entry: ArcSwap<ServerEntry>,
    pub(crate) endpoint: Endpoint,
    session: SessionMode,
    http: Arc<HttpClient>,
    connector: Connector,
    egress: Arc<Egress>,
    /// Where each leg stays with one pod.
    pods: ArcSwapOption<Pods>,
    /// 0 until known.
    link: AtomicU8,
    /// Whether it speaks 2026-07-28.
    modern: AtomicBool,
    /// A [`Sharing`].
    sharing: AtomicU8,
    pub(crate) standing: Standing,
    wake: Notify,
    /// The gateway's own leg: lists, and calls where legs are shared.
    own: Arc<Slot>,
    /// Where the own one is modern: for clients of the legacy era, if they share one.
    legacy: Arc<Slot>,
    pub(crate) watchers: Watchers,
    clients: Mutex<HashMap<ClientKey, Arc<Slot>>>,
    /// Places for answers that nobody reads.
    drains: Arc<Semaphore>,
    /// Places for legs that are opened again without a call.
    revivals: Semaphore,
    breaker: Breaker,
    /// Why the breaker opened last.
    tripped: ArcSwapOption<String>,
    budget: Budget,
    /// `None` where calls are not bounded.
    gate: ArcSwapOption<Gate>,
    /// What the times of breaker and budget begin with.
    made: Instant,
    stop: CancellationToken,
    pub(crate) metrics: CallMetrics,
}

impl Upstream {
    fn new(
        entry: Arc<ServerEntry>,
        egress: Arc<Egress>,
        news: Newswire,
        stop: CancellationToken,
        telemetry: &Telemetry,
    ) -> Arc<Self> {
        let metrics = telemetry.calls_of(&entry.namespace, &entry.name);
        // It may stand in the place of one whose breaker was open.
        metrics.breaker.set(0);
        let connector = Connector::new(&entry.endpoint, egress.clone(), entry.timeouts.connect);
        Arc::new(Self {
            endpoint: entry.endpoint.clone(),
            session: entry.session,
            http: HttpClient::new(&connector),
            connector,
            egress,
            pods: ArcSwapOption::empty(),
            metrics,
            breaker: Breaker::new(),
            tripped: ArcSwapOption::empty(),
            budget: Budget::new(),
            gate: ArcSwapOption::from(entry.max_concurrency.map(|max| Arc::new(Gate::new(max)))),
            made: Instant::now(),
            entry: ArcSwap::new(entry),
            link: AtomicU8::new(0),
            modern: AtomicBool::new(false),
            sharing: AtomicU8::new(Sharing::Unknown as u8),
            standing: Standing::new(news),
            wake: Notify::new(),
            own: Slot::new(Of::Gateway),
            legacy: Slot::new(Of::GatewayLegacy),
            watchers: Watchers::default(),
            clients: Mutex::default(),
            drains: Arc::new(Semaphore::new(MAX_DRAINS)),
            revivals: Semaphore::new(revival::AT_ONCE),
            stop,
        })
    }

    /// The facts of now: changed credentials and timeouts apply to the next request.
    pub(crate) fn entry(&self) -> Arc<ServerEntry> {
        self.entry.load_full()
    }

    /// Which server it is.
    pub(crate) fn id(&self) -> crate::table::ServerId {
        let entry = self.entry.load();
        (entry.namespace.clone(), entry.name.clone())
    }

    /// What requests to a URL of the server have in common.
    fn template(&self, url: &Uri) -> Template {
        Template::new(url, self.endpoint.host.as_ref())
    }

    /// By what a new leg may go: one of the server's pods, the best first, where they keep sessions
    /// apart, else wherever its address leads.
    async fn ways(&self) -> Vec<Arc<HttpClient>> {
        let Some(pods) = self.pods() else { return vec![self.http.clone()] };
        match pods.ways(&self.connector).await {
            Ok(ways) if !ways.is_empty() => ways,
            // Nothing is ready, or DNS does not know it yet: then its Service says how it is.
            Ok(_) => vec![self.http.clone()],
            Err(error) => {
                tracing::debug!(%error, "the pods of a server are not known");
                vec![self.http.clone()]
            }
        }
    }

    fn pods(&self) -> Option<Arc<Pods>> {
        let entry = self.entry.load();
        let host = entry.pods.as_deref()?;
        if let Some(known) = self.pods.load_full().filter(|pods| pods.are_at(host)) {
            return Some(known);
        }
        // Of two made at once one goes with its only leg.
        let port = self.endpoint.port();
        let pods = Pods::new(host, port, self.egress.clone());
        self.pods.store(Some(pods.clone()));
        Some(pods)
    }

    /// Sends a request with the credential of now.
    fn send(
        &self,
        http: &Arc<HttpClient>,
        template: &Template,
        method: &Method,
        body: Bytes,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Sending {
        let entry = self.entry.load();
        let credential = entry.credential.as_ref();
        // What a client says is not what the gateway's own credential says.
        let others = headers.iter().filter(|(name, _)| credential.is_none_or(|c| c.header != name));
        let own = credential.map(|credential| (&credential.header, &credential.value));
        let headers: Vec<_> = others.map(|(name, value)| (name, value)).chain(own).collect();
        http.send(template.request(method, &headers, body))
    }

    /// Sends a message that expects no answer, without waiting until it is taken. One leg that has
    /// too many of them under way, for a server or a client that never pauses, sends no more.
    pub(crate) fn tell(self: &Arc<Self>, leg: &Arc<Leg>, message: Bytes) {
        let Some(place) = leg.errand() else { return };
        // Where there is no runtime the gateway is gone.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (upstream, leg) = (self.clone(), leg.clone());
        runtime.spawn(async move {
            if let Err(fault) = leg.notify(&upstream, message, PASSING).await {
                tracing::debug!(reason = fault.reason(), "server did not take a message");
            }
            drop(place);
        });
    }

    /// A place to read an answer to its end whose client left. `None` if too many are read.
    pub(crate) fn drain(&self) -> Option<OwnedSemaphorePermit> {
        self.drains.clone().try_acquire_owned().ok()
    }

    /// The place of the leg for a client's calls. One that was just begun, or moved, is waited for
    /// where the leg is opened.
    ///
    /// # Errors
    /// At once while the server is known to be away, so that nobody waits for it.
    pub(crate) fn seat(self: &Arc<Self>, visitor: &Visitor<'_>) -> Result<Seat, Fault> {
        let era = visitor.client.era();
        if self.standing.is_settled() {
            let place = self.place(era, || visitor.key(), || visitor.lodger())?;
            if let Some(seat) = place {
                return Ok(seat);
            }
        }
        Ok(Seat::Apart(Slot::new(Of::Awaiting(era, Box::new(visitor.lodger())))))
    }

    /// The place of a client for which it was not known before.
    async fn find_place(self: &Arc<Self>, era: Era, lodger: &Lodger) -> Result<Seat, Fault> {
        self.standing.settled().await;
        let key = || lodger.key.clone();
        if let Some(seat) = self.place(era, key, || lodger.clone())? {
            return Ok(seat);
        }
        // The first client of the legacy era at a server that speaks both.
        match self.legacy.open_here(self, None).await {
            Ok(leg) => self.learn_sharing(&leg),
            Err(Fault::Status(_) | Fault::Refused(_) | Fault::Garbage(_)) => {
                self.sharing.store(Sharing::Nobody as u8, Ordering::Relaxed);
            }
            Err(fault) => return Err(fault),
        }
        self.place(era, key, || lodger.clone())?.ok_or_else(|| self.outage())
    }

    /// `None` while it is not known who has a leg of the legacy era.
    fn place(
        self: &Arc<Self>,
        era: Era,
        client: impl FnOnce() -> ClientKey,
        lodger: impl FnOnce() -> Lodger,
    ) -> Result<Option<Seat>, Fault> {
        if !self.standing.is_available() {
            self.metrics.refused(Refusal::Unreachable);
            self.refresh();
            return Err(self.outage());
        }
        let modern = self.is_modern();
        match self.sharing() {
            _ if modern && era == Era::Modern => return Ok(Some(Seat::Own)),
            Sharing::All if modern => return Ok(Some(Seat::Legacy)),
            Sharing::All | Sharing::Nobody => return Ok(Some(Seat::Own)),
            Sharing::Unknown => return Ok(None),
            Sharing::Each => {}
        }
        let client = client();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = clients.get(&client) {
            slot.touch();
            return Ok(Some(Seat::Apart(slot.clone())));
        }
        let held: Vec<(&ClientKey, &Arc<Slot>)> =
            clients.iter().filter(|(other, _)| other.is_of(&client)).collect();
        if held.len() >= MAX_LEGS {
            let oldest = held
                .into_iter()
                .filter(|(_, slot)| !slot.is_in_use())
                .max_by_key(|(_, slot)| slot.idle())
                .map(|(client, _)| client.clone())
                .ok_or(Fault::Crowded)?;
            if let Some(leg) = clients.remove(&oldest).and_then(|slot| slot.give_up()) {
                self.close_soon(leg);
            }
        }
        let lodger = lodger();
        if let Some(home) = &lodger.home {
            home.lodge(self);
        }
        let slot = Slot::new(Of::Client(Box::new(lodger)));
        clients.insert(client, slot.clone());
        Ok(Some(Seat::Apart(slot)))
    }

    /// The leg of a client, if it has one of its own.
    pub(crate) fn leg_of(&self, client: &ClientKey) -> Option<Arc<Leg>> {
        self.slot_of(client).and_then(|slot| slot.current())
    }

    fn slot_of(&self, client: &ClientKey) -> Option<Arc<Slot>> {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.get(client).cloned()
    }

    /// Closes the leg of a session that ended.
    pub(crate) fn forget(self: &Arc<Self>, client: &ClientKey) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leg) = clients.remove(client).and_then(|slot| slot.give_up()) {
            self.close_soon(leg);
        }
    }

    /// Closes a leg when no call is open on it; nobody waits for that.
    fn close_soon(self: &Arc<Self>, leg: Arc<Leg>) {
        // Where there is no runtime the gateway is gone, and its connections with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(supervisor::farewell(self.clone(), vec![leg]));
        }
    }

    /// Asks for a fresh list, or for another attempt to connect, now.
    pub(crate) fn refresh(&self) {
        self.wake.notify_one();
    }

    /// Asks for a fresh list and waits until it is in force.
    pub(crate) fn listed_anew(&self) -> impl Future<Output = ()> + Send + use<> {
        let listed = self.standing.next_list();
        self.refresh();
        listed
    }

    /// How the server is spoken to in the legacy era.
    fn link(&self) -> Result<Link, Fault> {
        match self.link.load(Ordering::Relaxed) {
            1 => Ok(Link::Streamable),
            2 => Ok(Link::Sse),
            _ => Err(self.outage()),
        }
    }

    /// Whether the server speaks 2026-07-28.
    pub(crate) fn is_modern(&self) -> bool {
        self.modern.load(Ordering::Relaxed)
    }

    /// Whether it makes tasks of the extension known to who listens.
    pub(crate) fn has_tasks(&self) -> bool {
        let leg = self.own.current().filter(|leg| leg.era() == Era::Modern);
        leg.is_some_and(|leg| {
            let capabilities = leg.hello().capabilities.as_ref().map(JsonBuf::as_json);
            declares_extension(capabilities, mcp::task::EXTENSION)
        })
    }

    /// Whether each client of the legacy era has a leg of its own.
    pub(crate) fn keeps_each_apart(&self) -> bool {
        self.sharing() == Sharing::Each
    }

    /// Whether a client of that era has a leg of its own.
    pub(crate) fn lodges(&self, era: Era) -> bool {
        self.keeps_each_apart() && !(self.is_modern() && era == Era::Modern)
    }

    fn sharing(&self) -> Sharing {
        match self.sharing.load(Ordering::Relaxed) {
            1 => Sharing::All,
            2 => Sharing::Each,
            3 => Sharing::Nobody,
            _ => Sharing::Unknown,
        }
    }

    /// Notes what the first contact showed.
    fn learn(&self, link: Link, leg: &Leg) {
        let link = match link {
            Link::Streamable => 1,
            Link::Sse => 2,
        };
        self.link.store(link, Ordering::Relaxed);
        let modern = leg.era() == Era::Modern;
        self.modern.store(modern, Ordering::Relaxed);
        if !modern {
            self.learn_sharing(leg);
        } else if !leg.hello().speaks_legacy {
            self.sharing.store(Sharing::Nobody as u8, Ordering::Relaxed);
        } else if self.sharing() == Sharing::Nobody {
            self.sharing.store(Sharing::Unknown as u8, Ordering::Relaxed);
        }
    }

    /// A server that keeps no session can be shared (DESIGN §4: the server decides, never the
    /// client's capabilities).
    fn learn_sharing(&self, leg: &Leg) {
        let sharing = match self.session {
            SessionMode::Auto if leg.has_session() => Sharing::Each,
            SessionMode::Auto | SessionMode::Shared => Sharing::All,
            SessionMode::PerClient => Sharing::Each,
        };
        self.sharing.store(sharing as u8, Ordering::Relaxed);
    }

    fn outage(&self) -> Fault {
        Fault::Unreachable(match &*self.standing.state() {
            State::Unreachable { reason } => reason.clone(),
            State::Connecting | State::Connected { .. } => "still connecting".to_owned(),
        })
    }

    fn enter(&self, state: State) {
        self.metrics.up.set(i64::from(matches!(state, State::Connected { .. })));
        if !self.standing.enter(state) {
            return;
        }
        let entry = self.entry();
        match &*self.standing.state() {
            State::Unreachable { reason } => {
                tracing::warn!(namespace = %entry.namespace, server = %entry.name, reason, "server is unreachable");
            }
            State::Connected { tools } => {
                tracing::info!(namespace = %entry.namespace, server = %entry.name, tools, "server is connected");
            }
            State::Connecting => {}
        }
    }

    /// How the server is doing and what it said, as the operator is told.
    pub(crate) fn report(&self) -> ServerReport {
        let entry = self.entry();
        ServerReport {
            server: ServerId { namespace: entry.namespace.clone(), name: entry.name.clone() },
            uid: entry.claim.tie.to_string(),
            state: match &*self.standing.state() {
                State::Connecting => ServerState::Connecting,
                State::Connected { .. } => ServerState::Connected,
                State::Unreachable { reason } => ServerState::Unreachable(reason.clone()),
            },
            breaker: self.tripped().map(|(_, why)| why),
            about: self.standing.about().map(|about| (*about).clone()),
            tools: self.standing.listed().map(|listed| listed.report()),
        }
    }

    /// Whether the entry can be served without new connections. A resource that was made anew is
    /// another one, even at the same address.
    fn serves(&self, entry: &ServerEntry) -> bool {
        let own = self.entry.load();
        self.endpoint == entry.endpoint
            && self.session == entry.session
            && own.claim == entry.claim
            && own.timeouts.connect == entry.timeouts.connect
    }

    /// Takes away legs that were idle for long, to be closed, and closes idle connections.
    fn sweep(&self) -> Vec<Arc<Leg>> {
        self.http.sweep();
        if let Some(pods) = &*self.pods.load() {
            pods.sweep();
        }
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let mut idle = Vec::new();
        clients.retain(|_, slot| {
            let unused = slot.is_unused();
            if unused {
                idle.extend(slot.give_up());
            }
            !unused
        });
        idle
    }

    /// Takes away all legs. Calls under way keep theirs.
    fn take_legs(&self) -> Vec<Arc<Leg>> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let own = [self.own.clone(), self.legacy.clone()];
        let slots = clients.drain().map(|(_, slot)| slot).chain(own);
        slots.filter_map(|slot| slot.give_up()).collect()
    }
}
