//! The live routing table: one immutable value, replaced as a whole.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway_core::{
    Catalog, Diagnostic, Entries, Entry, Namespace, Principal, ResourceRef, ServerEntry, ServerName,
    Snapshot,
};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::upstream::{Pool, Upstream};

/// How long the first change waits for company, so that many become one table.
const LINGER: Duration = Duration::from_millis(2);
/// Changes that wait to be built in; a source that is faster waits.
const QUEUE: usize = 1024;

/// Names a server among all tenants.
pub(crate) type ServerId = (Namespace, ServerName);

/// What a request is decided by and served with.
#[derive(Debug, Default)]
pub(crate) struct Published {
    pub(crate) snapshot: Snapshot,
    pub(crate) upstreams: HashMap<ServerId, Arc<Upstream>>,
    /// Manifests that cannot be used, as the source sees it: file and reason.
    pub(crate) rejected: Arc<[Rejected]>,
}

/// A manifest that is not in force.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Rejected {
    /// File it stands in, relative to the directory.
    pub file: String,
    /// The resource, as far as it can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// What is wrong.
    pub reason: String,
}

/// The table that is in force, and news of the next.
#[derive(Debug)]
pub(crate) struct Table {
    published: ArcSwap<Published>,
    generation: watch::Sender<u64>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { published: ArcSwap::default(), generation: watch::Sender::new(0) }
    }

    /// The table of this moment. A request loads it once and keeps to it.
    pub(crate) fn load(&self) -> Arc<Published> {
        self.published.load_full()
    }

    /// Whether there is a first complete table. Until then nobody can be told who they are.
    pub(crate) fn is_complete(&self) -> bool {
        *self.generation.borrow() > 0
    }

    /// Number of the table, and news when there is another.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// The principal as the table of now has it; `None` when its key is no longer good.
    pub(crate) fn renew(&self, principal: &Principal) -> Option<Principal> {
        self.load().snapshot.renew(principal, Timestamp::now())
    }
}

/// News for the publisher.
#[derive(Debug)]
pub(crate) enum Change {
    /// The source saw something: entries to apply, resources that are gone, manifests it could not
    /// use (all of them, each time).
    Source { applied: Vec<Entry>, deleted: Vec<ResourceRef>, rejected: Vec<Rejected> },
    /// A server said what it offers.
    Catalog { server: Arc<ServerEntry>, catalog: Arc<Catalog> },
}

/// Builds tables from news.
pub(crate) struct Publisher {
    table: Arc<Table>,
    pool: Pool,
    entries: Entries,
    rejected: Arc<[Rejected]>,
    changes: mpsc::Receiver<Change>,
}

/// Where news is sent.
pub(crate) type Changes = mpsc::Sender<Change>;

/// The queue of news.
pub(crate) fn changes() -> (Changes, mpsc::Receiver<Change>) {
    mpsc::channel(QUEUE)
}

impl Publisher {
    pub(crate) fn new(table: Arc<Table>, pool: Pool, changes: mpsc::Receiver<Change>) -> Self {
        Self { table, pool, entries: Entries::default(), rejected: Arc::default(), changes }
    }

    /// Publishes until `stop`, or until nobody is left to send news.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                first = self.changes.recv() => first,
            };
            let Some(first) = first else { return };
            let mut touched = BTreeSet::new();
            self.take(first, &mut touched);
            tokio::time::sleep(LINGER).await;
            while let Ok(change) = self.changes.try_recv() {
                self.take(change, &mut touched);
            }
            self.publish(&touched);
        }
    }

    fn take(&mut self, change: Change, touched: &mut BTreeSet<Namespace>) {
        match change {
            Change::Source { applied, deleted, rejected } => {
                for resource in deleted {
                    touched.insert(resource.namespace.clone());
                    self.entries.delete(&resource);
                }
                for entry in applied {
                    touched.insert(entry.resource().namespace);
                    self.entries.apply(entry);
                }
                self.rejected = rejected.into();
            }
            Change::Catalog { server, catalog } => {
                touched.insert(server.namespace.clone());
                self.entries.offer(&server.namespace, &server.name, catalog);
            }
        }
    }

    fn publish(&mut self, touched: &BTreeSet<Namespace>) {
        let previous = self.table.load();
        let snapshot = Snapshot::build(&self.entries, touched, &previous.snapshot);
        report(snapshot.diagnostics(), previous.snapshot.diagnostics());
        let upstreams = self.pool.reconcile(self.entries.servers());
        let rejected = self.rejected.clone();
        self.table.published.store(Arc::new(Published { snapshot, upstreams, rejected }));
        self.table.generation.send_modify(|generation| *generation += 1);
    }
}

/// Logs what is newly wrong.
fn report(now: &[Diagnostic], before: &[Diagnostic]) {
    for diagnostic in now.iter().filter(|diagnostic| !before.contains(diagnostic)) {
        tracing::warn!(resource = %diagnostic.resource, reason = diagnostic.reason.as_str(), message = %diagnostic.message, "resource is in conflict");
    }
}
