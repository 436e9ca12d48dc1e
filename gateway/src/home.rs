//! What changes about a session after it began: its log level, the stream on which it can be spoken
//! to unasked, and what servers have asked of its client.
//!
//! A session has a home only once there is something to keep: one that lists and calls has none.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use mcp::logging::{Level, Threshold};
use mcp::message::Id;
use mcp::splice::{Edit, splice};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::downstream::Outgoing;
use crate::downstream::revival::Listener;
use crate::session::SessionId;
use crate::table::ServerId;
use crate::upstream::leg::Leg;
use crate::upstream::{Ear, Upstream, Watch, Watched};

mod settings;

pub(crate) use settings::Settings;

/// Sessions rarely meet in one shard.
const SHARDS: usize = 64;
/// Homes a shard keeps: 65,536 in all, of some 300 bytes each.
const MAX_HOMES: usize = 1024;
/// Homes that nobody uses for so long are given up, as idle legs are.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// Resources that one session watches.
const MAX_WATCHES: usize = 256;
/// Questions of servers that wait for one client, and of them those of one leg: a server that is
/// never answered leaves room for others.
const MAX_QUESTIONS: usize = 64;
const MAX_OF_LEG: usize = 16;
/// Longest id of a server's question, as JSON: it is kept.
const MAX_ID: usize = 1024;
/// Bytes that wait for one client to read them. One message may be larger if nothing else waits.
const MAX_UNREAD: usize = 1024 * 1024;

/// All homes.
#[derive(Debug)]
pub(crate) struct Homes {
    shards: [Mutex<HashMap<SessionId, Arc<Home>>>; SHARDS],
}

impl Homes {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { shards: std::array::from_fn(|_| Mutex::default()) })
    }

    /// The home of a session, if it has one.
    pub(crate) fn get(&self, session: SessionId) -> Option<Arc<Home>> {
        let home = self.shard(session).get(&session).cloned();
        home.inspect(|home| home.touch())
    }

    /// The home of a session, made if it has none.
    pub(crate) fn of(&self, session: SessionId) -> Arc<Home> {
        let mut homes = self.shard(session);
        if let Some(home) = homes.get(&session) {
            home.touch();
            return home.clone();
        }
        if homes.len() >= MAX_HOMES {
            make_room(&mut homes);
        }
        let home = Arc::<Home>::default();
        // Without room the home lasts as long as who asked for it.
        if homes.len() < MAX_HOMES {
            homes.insert(session, home.clone());
        }
        home
    }

    /// Gives up homes that nobody used for long.
    pub(crate) fn sweep(&self, now: Instant) {
        for shard in &self.shards {
            // Dropped without the lock.
            let _gone: Vec<Arc<Home>> = {
                let mut homes = lock(shard);
                let idle: Vec<SessionId> = homes
                    .iter()
                    .filter(|(_, home)| is_idle(home, now))
                    .map(|(id, _)| *id)
                    .collect();
                idle.iter().filter_map(|id| homes.remove(id)).collect()
            };
        }
    }

    /// Those that subscribed to something on legs of their own, a shard at a time.
    pub(crate) fn subscribed(&self) -> impl Iterator<Item = Vec<Arc<Home>>> {
        self.shards.iter().map(|shard| {
            let homes = lock(shard);
            homes.values().filter(|home| !lock(&home.subscriptions).is_empty()).cloned().collect()
        })
    }

    /// Those in which something was set that other gateways are to know, a shard at a time.
    pub(crate) fn shared(&self) -> impl Iterator<Item = Vec<(SessionId, Arc<Home>)>> {
        self.shards.iter().map(|shard| {
            let homes = lock(shard);
            let set = homes.iter().filter(|(_, home)| home.is_set());
            set.map(|(session, home)| (*session, home.clone())).collect()
        })
    }

    /// The session is over.
    pub(crate) fn forget(&self, session: SessionId) {
        self.shard(session).remove(&session);
    }

    fn shard(
        &self,
        session: SessionId,
    ) -> std::sync::MutexGuard<'_, HashMap<SessionId, Arc<Home>>> {
        lock(&self.shards[session.shard(SHARDS)])
    }
}

/// Gives up the home that was idle longest.
fn make_room(homes: &mut HashMap<SessionId, Arc<Home>>) {
    let unused = homes.iter().filter(|(_, home)| Arc::strong_count(home) == 1);
    let oldest = unused.min_by_key(|(_, home)| home.used()).map(|(id, _)| *id);
    oldest.and_then(|oldest| homes.remove(&oldest));
}

/// A session with a stream or a leg keeps its home.
fn is_idle(home: &Arc<Home>, now: Instant) -> bool {
    Arc::strong_count(home) == 1 && now.duration_since(home.used()) >= IDLE
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is(weak: &Weak<Leg>, leg: &Arc<Leg>) -> bool {
    std::ptr::eq(weak.as_ptr(), Arc::as_ptr(leg))
}

/// What is kept of one session.
#[derive(Debug)]
pub(crate) struct Home {
    /// None until the client sets one.
    level: Threshold,
    /// HTTP+SSE, where the id of a session is older than what its client can do.
    capabilities: Mutex<Bytes>,
    outlet: Mutex<Option<mpsc::Sender<Outgoing>>>,
    /// Whose stream is here, or was.
    listener: Mutex<Option<Box<Listener>>>,
    /// Bytes of what was said and is not read.
    unread: Arc<AtomicUsize>,
    questions: Mutex<Questions>,
    /// By the URI that the client knows; `None` where it leads nowhere for now, or where the client's
    /// stream was not here since another gateway told of it.
    watches: Mutex<HashMap<Box<str>, Option<Watch>>>,
    /// The servers where it has a place for a leg of its own.
    lodgings: Mutex<Vec<Weak<Upstream>>>,
    /// What the client subscribed to on legs of its own, by the server's URI: a new leg is told.
    subscriptions: Mutex<HashSet<(ServerId, Box<str>)>>,
    /// When the client set something, in milliseconds since 1970; 0 if it never did.
    set_at: AtomicI64,
    /// Whether other gateways are to know what was set.
    shared: AtomicBool,
    used: Mutex<Instant>,
}

impl Default for Home {
    fn default() -> Self {
        Self {
            level: Threshold::default(),
            capabilities: Mutex::default(),
            outlet: Mutex::default(),
            listener: Mutex::default(),
            unread: Arc::default(),
            questions: Mutex::default(),
            watches: Mutex::default(),
            lodgings: Mutex::default(),
            subscriptions: Mutex::default(),
            set_at: AtomicI64::new(0),
            shared: AtomicBool::new(true),
            used: Mutex::new(Instant::now()),
        }
    }
}

/// What servers asked of a client and it has not answered.
#[derive(Debug)]
struct Questions {
    next: u64,
    open: HashMap<u64, Question>,
}

impl Default for Questions {
    /// Numbers begin anywhere: a session outlives its home, and a late answer to a question of the
    /// last one must not be taken for that to another server's.
    fn default() -> Self {
        let mut random = [0; 4];
        // Without randomness they begin at one.
        let _ = aws_lc_rs::rand::fill(&mut random);
        // Clients in JavaScript count to 2^53.
        Self { next: u64::from(u32::from_be_bytes(random)) << 20, open: HashMap::new() }
    }
}

/// Something that was said, counted until it is read.
struct Unread {
    message: Bytes,
    unread: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Unread {
    fn as_ref(&self) -> &[u8] {
        &self.message
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.unread.fetch_sub(self.message.len(), Ordering::Relaxed);
    }
}

/// Who waits for an answer of the client.
#[derive(Debug)]
pub(crate) enum Question {
    /// A server that asked on a leg of the client's, with the id it chose. The leg holds the home,
    /// so the home must not hold the leg.
    Leg { upstream: Weak<Upstream>, leg: Weak<Leg>, id: Bytes },
    /// A call that has to bring answers to its server: which of them, and where to.
    Call { key: String, answers: mpsc::Sender<(String, Bytes)> },
}

impl Home {
    /// The least severe log message the client wants; `None` if it never said.
    pub(crate) fn level(&self) -> Option<Level> {
        self.level.get()
    }

    pub(crate) fn set_level(&self, level: Level) {
        self.level.replace(level);
        self.set();
    }

    pub(crate) fn capabilities(&self) -> Bytes {
        lock(&self.capabilities).clone()
    }

    pub(crate) fn set_capabilities(&self, capabilities: Bytes) {
        *lock(&self.capabilities) = capabilities;
    }

    /// Takes the stream on which the client can be spoken to unasked; the newest counts.
    pub(crate) fn connect(&self, outlet: mpsc::Sender<Outgoing>) {
        *lock(&self.outlet) = Some(outlet);
    }

    /// Notes whose stream was opened here.
    pub(crate) fn listen(&self, listener: Listener) {
        *lock(&self.listener) = Some(Box::new(listener));
    }

    /// Whose stream is here, if it subscribed to something on legs of its own.
    pub(crate) fn listener(&self) -> Option<Listener> {
        if lock(&self.subscriptions).is_empty() {
            return None;
        }
        let is_open = lock(&self.outlet).as_ref().is_some_and(|outlet| !outlet.is_closed());
        is_open.then(|| lock(&self.listener).as_deref().cloned()).flatten()
    }

    /// The client took another stream, at another gateway.
    pub(crate) fn disconnect(&self) {
        *lock(&self.outlet) = None;
    }

    /// Says something on the client's stream. False if it has none, or does not read it.
    pub(crate) fn say(&self, message: Bytes) -> bool {
        let Some(outlet) = lock(&self.outlet).clone() else { return false };
        let room = |unread: usize| {
            let sum = unread.checked_add(message.len())?;
            (unread == 0 || sum <= MAX_UNREAD).then_some(sum)
        };
        if self.unread.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            return false;
        }
        let message = Bytes::from_owner(Unread { message, unread: self.unread.clone() });
        outlet.try_send(Outgoing::Message(message)).is_ok()
    }

    /// Notes what a server asked with `id` on a leg, and returns the id under which the client is to
    /// be asked. `None` if too much waits.
    pub(crate) fn ask_for(
        &self,
        upstream: &Arc<Upstream>,
        leg: &Arc<Leg>,
        id: &[u8],
    ) -> Option<u64> {
        if id.len() > MAX_ID || self.of_leg(leg) >= MAX_OF_LEG {
            return None;
        }
        self.ask(Question::Leg {
            upstream: Arc::downgrade(upstream),
            leg: Arc::downgrade(leg),
            // A slice would keep the whole message.
            id: Bytes::copy_from_slice(id),
        })
    }

    /// Questions of a leg that wait. Those of legs that are gone wait no more.
    fn of_leg(&self, leg: &Arc<Leg>) -> usize {
        let mut questions = lock(&self.questions);
        let is_gone = |question: &Question| matches!(question, Question::Leg { leg, .. } if leg.strong_count() == 0);
        questions.open.retain(|_, question| !is_gone(question));
        let of = |question: &&Question| matches!(question, Question::Leg { leg: other, .. } if is(other, leg));
        questions.open.values().filter(of).count()
    }

    /// Notes a question and returns the id under which the client is to be asked. `None` if too
    /// many wait.
    pub(crate) fn ask(&self, question: Question) -> Option<u64> {
        self.touch();
        let mut questions = lock(&self.questions);
        if questions.open.len() >= MAX_QUESTIONS {
            return None;
        }
        questions.next += 1;
        let id = questions.next;
        questions.open.insert(id, question);
        Some(id)
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn withdraw(&self, id: u64) {
        lock(&self.questions).open.remove(&id);
    }

    /// Whether the client has not answered a question yet.
    pub(crate) fn waits(&self, id: u64) -> bool {
        lock(&self.questions).open.contains_key(&id)
    }

    /// The id under which the client was asked what a server asked with `id` on a leg.
    pub(crate) fn asked(&self, leg: &Arc<Leg>, id: &[u8]) -> Option<u64> {
        let questions = lock(&self.questions);
        let of = |question: &Question| match question {
            Question::Leg { leg: other, id: other_id, .. } => is(other, leg) && **other_id == *id,
            Question::Call { .. } => false,
        };
        questions.open.iter().find(|(_, question)| of(question)).map(|(id, _)| *id)
    }

    /// Brings an answer of the client, whose id is `id`, to who waits for it.
    pub(crate) fn answer(&self, id: Id<'_>, message: &Bytes) -> bool {
        let Ok(number) = id.as_json().parse::<u64>() else { return false };
        let Some(question) = lock(&self.questions).open.remove(&number) else { return false };
        match question {
            Question::Leg { upstream, leg, id: theirs } => {
                // A server that is gone waits no more, nor one whose session is.
                if let (Some(upstream), Some(leg)) = (upstream.upgrade(), leg.upgrade())
                    && let Some(edit) = Edit::replace(message, id.as_json().as_bytes(), &theirs)
                {
                    upstream.tell(&leg, splice(message, &mut [edit]));
                }
            }
            Question::Call { key, answers } => {
                // A call that is gone waits no more.
                let _ = answers.try_send((key, message.clone()));
            }
        }
        true
    }

    /// Keeps the watch on a resource. False if there are too many.
    pub(crate) fn watch(&self, uri: &str, watch: Watch) -> bool {
        self.touch();
        let mut watches = lock(&self.watches);
        let room = watches.len() < MAX_WATCHES || watches.contains_key(uri);
        if room {
            watches.insert(uri.into(), Some(watch));
            self.set();
        }
        room
    }

    /// Watches what is to be found, where it is found now.
    pub(crate) fn revise(self: &Arc<Self>, find: impl Fn(&str) -> Option<Watched>) {
        let mut watches = lock(&self.watches);
        *watches = std::mem::take(&mut *watches)
            .into_iter()
            .map(|(shown, watch)| {
                let ear = || Ear::Session(Arc::downgrade(self));
                let watch = find(&shown).and_then(|found| match watch {
                    Some(watch) => found.keep(watch, &shown, ear),
                    None => found.watch(&shown, ear()),
                });
                (shown, watch)
            })
            .collect();
    }

    /// Ends the watch on a resource. False if there is none.
    pub(crate) fn unwatch(&self, uri: &str) -> bool {
        let watched = lock(&self.watches).remove(uri);
        if watched.is_some() {
            self.set();
        }
        watched.is_some()
    }

    /// Notes that the client has a place for a leg at a server.
    pub(crate) fn lodge(&self, upstream: &Arc<Upstream>) {
        let mut lodgings = lock(&self.lodgings);
        lodgings.retain(|other| {
            other.strong_count() > 0 && !std::ptr::eq(other.as_ptr(), Arc::as_ptr(upstream))
        });
        lodgings.push(Arc::downgrade(upstream));
    }

    /// The servers where the client may have a leg of its own.
    pub(crate) fn lodgings(&self) -> Vec<Arc<Upstream>> {
        lock(&self.lodgings).iter().filter_map(Weak::upgrade).collect()
    }

    /// Notes a subscription on a leg of the client's own. Of more than so many a new leg is not told.
    pub(crate) fn subscribe(&self, server: ServerId, uri: &str) {
        let mut subscriptions = lock(&self.subscriptions);
        if subscriptions.len() < MAX_WATCHES {
            subscriptions.insert((server, uri.into()));
            self.set();
        }
    }

    pub(crate) fn unsubscribe(&self, server: &ServerId, uri: &str) {
        if lock(&self.subscriptions).remove(&(server.clone(), uri.into())) {
            self.set();
        }
    }

    /// Whether the client subscribed to something of a server on a leg of its own.
    pub(crate) fn is_subscribed(&self, server: &ServerId) -> bool {
        lock(&self.subscriptions).iter().any(|(of, _)| of == server)
    }

    /// The URIs of a server that the client subscribed to on a leg of its own.
    pub(crate) fn subscriptions(&self, server: &ServerId) -> Vec<Box<str>> {
        let subscriptions = lock(&self.subscriptions);
        let of_server = subscriptions.iter().filter(|(of, _)| of == server);
        of_server.map(|(_, uri)| uri.clone()).collect()
    }

    pub(crate) fn touch(&self) {
        *lock(&self.used) = Instant::now();
    }

    fn used(&self) -> Instant {
        *lock(&self.used)
    }
}

#[cfg(test)]
mod tests;
