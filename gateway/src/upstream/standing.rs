//! How a server is doing and what it said of itself, for those who look on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use gateway_core::report::{About, ToolsReport};
use gateway_core::{Catalog, DefinitionHash};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

/// How a server is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Connecting,
    Connected { tools: usize },
    Unreachable { reason: String },
}

/// How many lists of the server were begun, and which of them was the last to be in force.
#[derive(Debug, Clone, Copy, Default)]
struct Lists {
    begun: u64,
    done: u64,
}

/// How long calls wait for a server that was just begun.
const SETTLING: Duration = Duration::from_secs(5);

/// A list of tools as the server gave it.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) hash: DefinitionHash,
    /// Of everything the server offers.
    whole: DefinitionHash,
    /// How long the server took.
    latency: Duration,
}

/// What is known of a server. The supervisor alone writes it.
#[derive(Debug)]
pub(crate) struct Standing {
    state: ArcSwap<State>,
    /// Looked at by every call.
    available: AtomicBool,
    /// Whether the first attempt to connect came to anything, good or bad, and word of it.
    settled: AtomicBool,
    settling: Notify,
    about: ArcSwapOption<About>,
    listed: ArcSwapOption<Listed>,
    lists: watch::Sender<Lists>,
    /// Number of the last news of it.
    changed: AtomicU64,
    news: Newswire,
}

impl Standing {
    pub(super) fn new(news: Newswire) -> Self {
        let standing = Self {
            state: ArcSwap::from_pointee(State::Connecting),
            available: AtomicBool::new(false),
            settled: AtomicBool::new(false),
            settling: Notify::new(),
            about: ArcSwapOption::empty(),
            listed: ArcSwapOption::empty(),
            lists: watch::Sender::new(Lists::default()),
            changed: AtomicU64::new(0),
            news,
        };
        standing.tell();
        standing
    }

    /// How the server is doing.
    pub(crate) fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// Whether calls can be sent.
    pub(super) fn is_available(&self) -> bool {
        self.available.load(Ordering::Relaxed)
    }

    /// Whether the server has been reached, or found away, once.
    pub(super) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    /// Waits for that, but not for a server that hangs.
    pub(super) async fn settled(&self) {
        let settling = self.settling.notified();
        if !self.is_settled() {
            let _ = timeout(SETTLING, settling).await;
        }
    }

    fn settle(&self) {
        if !self.settled.swap(true, Ordering::AcqRel) {
            self.settling.notify_waiters();
        }
    }

    /// What it said of itself when it was last reached.
    pub(crate) fn about(&self) -> Option<Arc<About>> {
        self.about.load_full()
    }

    /// Its list as it last gave it.
    pub(crate) fn listed(&self) -> Option<Arc<Listed>> {
        self.listed.load_full()
    }

    /// Number of the last news of it: higher than that of all news before.
    pub(crate) fn changed(&self) -> u64 {
        self.changed.load(Ordering::Acquire)
    }

    /// Lets calls through, before anybody is told.
    pub(super) fn open(&self) {
        self.available.store(true, Ordering::Relaxed);
        self.settle();
    }

    /// Whether that is new.
    pub(super) fn enter(&self, state: State) -> bool {
        self.available.store(matches!(state, State::Connected { .. }), Ordering::Relaxed);
        self.settle();
        if **self.state.load() == state {
            return false;
        }
        self.state.store(Arc::new(state));
        self.tell();
        true
    }

    pub(super) fn introduce(&self, about: About) {
        if self.about.load().as_deref() != Some(&about) {
            self.about.store(Some(Arc::new(about)));
            self.tell();
        }
    }

    /// Keeps a list that differs from the one before.
    pub(super) fn list(&self, catalog: Arc<Catalog>, latency: Duration) {
        let (hash, whole) = (catalog.hash(), catalog.whole_hash());
        self.listed.store(Some(Arc::new(Listed { catalog, hash, whole, latency })));
        self.tell();
    }

    /// The server is asked for its list.
    pub(super) fn begin_list(&self) {
        self.lists.send_modify(|lists| lists.begun += 1);
    }

    /// The list that was begun last is in force.
    pub(super) fn end_list(&self) {
        self.lists.send_modify(|lists| lists.done = lists.begun);
    }

    /// Waits until a list is in force that is not begun yet.
    pub(super) fn next_list(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut lists = self.lists.subscribe();
        let begun = lists.borrow().begun;
        async move {
            // An error means that the server is gone.
            let _ = lists.wait_for(|lists| lists.done > begun).await;
        }
    }

    /// Says that there is news.
    pub(super) fn tell(&self) {
        self.news.tell(&self.changed);
    }
}

impl Listed {
    pub(crate) fn report(&self) -> ToolsReport {
        ToolsReport {
            count: self.catalog.tools().len(),
            hash: self.hash,
            whole: Some(self.whole),
            latency_millis: u64::try_from(self.latency.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// Counts the news of all servers. Who looks on is told of the latest number and asks each server
/// for its own: nothing queues, however slow they are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Newswire(Arc<watch::Sender<u64>>);

impl Newswire {
    fn tell(&self, changed: &AtomicU64) {
        // Within, so that whoever sees the number finds it on the server.
        self.0.send_modify(|number| {
            *number += 1;
            changed.store(*number, Ordering::Release);
        });
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.0.subscribe()
    }
}
