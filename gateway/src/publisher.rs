//! Builds tables from news and puts them in force.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use gateway_core::report::Watermark;
use gateway_core::{Catalog, Diagnostic, Entries, Entry, Kind, ServerEntry, ServerName, Snapshot};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::table::{Change, News, Published, Rejected, ServerId, Table, id_of};
use crate::telemetry::Telemetry;
use crate::upstream::Pool;

/// Between two tables, so that many changes become one: at least so long, and as long as the last
/// table took to make, so that a storm leaves time for everything else. A change that comes later
/// than that waits for nothing.
const LINGER: Duration = Duration::from_millis(2);
/// How long the first lists of all servers are waited for before clients are served without the
/// missing ones.
const FIRST_LISTS: Duration = Duration::from_secs(3);

/// Builds tables from news.
pub(crate) struct Publisher {
    table: Arc<Table>,
    pool: Pool,
    telemetry: Arc<Telemetry>,
    entries: Entries,
    rejected: Arc<[Rejected]>,
    changes: mpsc::Receiver<Change>,
    /// Servers that have listed their tools themselves.
    live: HashSet<ServerId>,
    /// `None` before the source is read.
    first_lists: Option<FirstLists>,
    /// How far the source has come.
    seen: u64,
    pending: Pending,
    /// When there was a table last, and how long it took to make.
    published: Instant,
    effort: Duration,
}

/// What is to be built into the next table.
#[derive(Debug, Default)]
struct Pending {
    /// Whether anything is decided otherwise.
    decisions: bool,
    /// Servers that came, changed or went.
    servers: HashSet<ServerId>,
    /// Whether other things cannot be used.
    rejected: bool,
    /// Who waits for it because it holds their list.
    listed: Vec<oneshot::Sender<()>>,
}

/// Servers whose first list is missing, and until when they are waited for.
#[derive(Debug)]
struct FirstLists {
    missing: HashSet<ServerId>,
    deadline: Instant,
}

impl Publisher {
    pub(crate) fn new(
        table: Arc<Table>,
        pool: Pool,
        telemetry: Arc<Telemetry>,
        changes: mpsc::Receiver<Change>,
    ) -> Self {
        Self {
            table,
            pool,
            telemetry,
            entries: Entries::default(),
            rejected: Arc::default(),
            changes,
            live: HashSet::new(),
            first_lists: None,
            seen: 0,
            pending: Pending::default(),
            published: Instant::now(),
            effort: Duration::ZERO,
        }
    }

    /// Publishes until `stop`, or until nobody is left to send news.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let deadline = self.first_lists.as_ref().map(|lists| lists.deadline);
            let waiting = deadline.filter(|_| !self.table.is_complete());
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                first = self.changes.recv() => first,
                () = sleep_until(waiting.unwrap_or_else(Instant::now)), if waiting.is_some() => {
                    self.advance(true);
                    continue;
                }
            };
            let Some(first) = first else { return };
            self.take(first);
            let soonest = self.published + LINGER.max(self.effort);
            if Instant::now() < soonest {
                sleep_until(soonest).await;
            }
            while let Ok(change) = self.changes.try_recv() {
                self.take(change);
            }
            let began = Instant::now();
            self.publish();
            self.published = Instant::now();
            self.effort = began.elapsed();
        }
    }

    fn take(&mut self, change: Change) {
        match change {
            Change::Source(news) => self.take_news(news),
            Change::Catalog { server, catalog, in_force } => {
                self.take_list(&server, catalog);
                self.pending.listed.push(in_force);
            }
            Change::Unreachable { server } => self.heard_of(&server),
        }
    }

    fn take_news(&mut self, news: News) {
        let News { applied, deleted, stored, rejected, watermark } = news;
        self.pending.decisions |= !(applied.is_empty() && deleted.is_empty());
        for resource in deleted {
            if resource.kind == Kind::Server {
                let id = (resource.namespace.clone(), ServerName::new(&resource.name));
                self.live.remove(&id);
                self.pending.servers.insert(id);
            }
            self.entries.delete(&resource);
        }
        for entry in applied {
            if let Entry::Server(server) = &entry {
                self.pending.servers.insert(id_of(server));
            }
            self.entries.apply(entry);
        }
        for (id, catalog) in stored {
            // A server knows best itself what it offers.
            if !self.live.contains(&id) {
                self.offer(&id, catalog);
            }
        }
        if let Some(rejected) = rejected {
            self.telemetry.rejected.set(i64::try_from(rejected.len()).unwrap_or(i64::MAX));
            self.rejected = rejected.into();
            self.pending.rejected = true;
        }
        self.seen = self.seen.max(watermark);
        let entries = &self.entries;
        self.first_lists.get_or_insert_with(|| FirstLists {
            missing: entries
                .servers()
                .filter(|server| entries.catalog(&server.namespace, &server.name).is_none())
                .map(|server| id_of(server))
                .collect(),
            deadline: Instant::now() + FIRST_LISTS,
        });
    }

    fn take_list(&mut self, server: &Arc<ServerEntry>, catalog: Arc<Catalog>) {
        let ServerEntry { namespace, name, .. } = &**server;
        // A list may be late: of a server that has gone, or moved since.
        let known = self
            .entries
            .server(namespace, name)
            .is_some_and(|known| known.endpoint == server.endpoint && known.claim == server.claim);
        if !known {
            return;
        }
        self.offer(&id_of(server), catalog);
        self.live.insert(id_of(server));
        self.heard_of(server);
    }

    fn offer(&mut self, (namespace, name): &ServerId, catalog: Arc<Catalog>) {
        // Most servers still offer what was stored.
        if self.entries.catalog(namespace, name) != Some(&catalog) {
            self.entries.offer(namespace, name, catalog);
            self.pending.decisions = true;
        }
    }

    fn heard_of(&mut self, server: &ServerEntry) {
        if let Some(lists) = &mut self.first_lists {
            lists.missing.remove(&id_of(server));
        }
    }

    fn publish(&mut self) {
        let Pending { decisions, servers, rejected, listed } = std::mem::take(&mut self.pending);
        if decisions || rejected {
            let Published { mut snapshot, mut upstreams, .. } =
                Published::clone(&self.table.load());
            if decisions {
                let next = Snapshot::build(&mut self.entries, &snapshot);
                report(next.diagnostics(), snapshot.diagnostics());
                snapshot = Arc::new(next);
            }
            if !servers.is_empty() {
                upstreams = self.pool.reconcile(&servers, &self.entries);
            }
            let rejected = self.rejected.clone();
            self.table.publish(Published { snapshot, upstreams, rejected });
        }
        let all_listed = self.first_lists.as_ref().is_some_and(|lists| lists.missing.is_empty());
        self.advance(all_listed || self.table.is_complete());
        if decisions {
            self.table.tell_clients();
        }
        for waiting in listed {
            // Who is gone needs not know.
            let _ = waiting.send(());
        }
    }

    /// After the table is in force: whoever hears of it must find it.
    fn advance(&self, complete: bool) {
        self.table.advance(Watermark { resource_version: self.seen, complete });
    }
}

/// Logs what is newly wrong.
fn report(now: &[Diagnostic], before: &[Diagnostic]) {
    let before: HashSet<&Diagnostic> = before.iter().collect();
    for diagnostic in now.iter().filter(|diagnostic| !before.contains(diagnostic)) {
        tracing::warn!(resource = %diagnostic.resource, reason = diagnostic.reason.as_str(), message = %diagnostic.message, "resource is in conflict");
    }
}
