//! The live routing table: one immutable value, replaced as a whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use gateway_core::report::Watermark;
use gateway_core::{
    Catalog, Entry, Namespace, Principal, ResourceRef, ServerEntry, ServerName, Snapshot,
};
use hashbrown::{Equivalent, HashMap};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::upstream::Upstream;
use crate::worker::{Local, Shared};

/// How long a request that comes before the table waits for it.
const HOLD: Duration = Duration::from_secs(5);
/// Changes that wait to be built in; a source that is faster waits.
const QUEUE: usize = 1024;

/// Names a server among all tenants.
pub(crate) type ServerId = (Namespace, ServerName);

/// The id of a server.
pub(crate) fn id_of(server: &ServerEntry) -> ServerId {
    (server.namespace.clone(), server.name.clone())
}

/// The same, where a server is looked up: nothing is held for it.
#[derive(Hash)]
struct Named<'a>(&'a Namespace, &'a ServerName);

impl Equivalent<ServerId> for Named<'_> {
    fn equivalent(&self, id: &ServerId) -> bool {
        (self.0, self.1) == (&id.0, &id.1)
    }
}

/// All servers of a table.
pub(crate) type Upstreams = HashMap<ServerId, Shared<Upstream>>;

/// What a request is decided by and served with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Published {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) upstreams: Arc<Upstreams>,
    /// What the source cannot use.
    pub(crate) rejected: Arc<[Rejected]>,
}

impl Published {
    /// The connections to a server.
    pub(crate) fn upstream(&self, server: &ServerEntry) -> Option<&Local<Upstream>> {
        self.upstreams.get(&Named(&server.namespace, &server.name)).map(|upstream| upstream.here())
    }
}

/// A manifest or an entry that is not in force.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Rejected {
    /// File it stands in, relative to the directory; in a cluster the name of the Secret.
    pub(crate) file: String,
    /// The resource, as far as it can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) resource: Option<String>,
    /// What is wrong.
    pub(crate) reason: String,
}

/// The table that is in force, and news of the next.
#[derive(Debug)]
pub(crate) struct Table {
    published: ArcSwap<Published>,
    generation: watch::Sender<u64>,
    /// Looked at by every request.
    complete: AtomicBool,
    progress: watch::Sender<Watermark>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self {
            published: ArcSwap::default(),
            generation: watch::Sender::new(0),
            complete: AtomicBool::new(false),
            progress: watch::Sender::new(Watermark { resource_version: 0, complete: false }),
        }
    }

    /// The table of this moment. A request loads it once and keeps to it.
    pub(crate) fn load(&self) -> Guard<Arc<Published>> {
        self.published.load()
    }

    /// Whether there is a first complete table: the source is read and every server has listed its
    /// tools or had its time. Until then nobody can be told who they are or what there is.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Waits for the first complete table, as a gateway that restarts under open sessions must not
    /// turn their next calls away. False when it does not come.
    pub(crate) async fn completed(&self) -> bool {
        if self.is_complete() {
            return true;
        }
        let mut progress = self.progress();
        timeout(HOLD, progress.wait_for(|progress| progress.complete))
            .await
            .is_ok_and(|seen| seen.is_ok())
    }

    /// Number of the table, and news when there is another.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// How far the table has come, and news when it gets further: said when the table is in force.
    pub(crate) fn progress(&self) -> watch::Receiver<Watermark> {
        self.progress.subscribe()
    }

    /// The principal as the table of now has it; `None` when its key is no longer good.
    pub(crate) fn renew(&self, principal: &Principal) -> Option<Principal> {
        self.load().snapshot.renew(principal, Timestamp::now())
    }

    /// Puts a table in force.
    pub(crate) fn publish(&self, published: Published) {
        self.published.store(Arc::new(published));
    }

    /// Says that clients may find other tools, or keys that are not good any more.
    pub(crate) fn tell_clients(&self) {
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Says that the table in force is another one, and how far it has come.
    pub(crate) fn advance(&self, watermark: Watermark) {
        self.complete.store(watermark.complete, Ordering::Release);
        self.progress.send_replace(watermark);
    }
}

/// News for the publisher.
#[derive(Debug)]
pub(crate) enum Change {
    /// The source saw something.
    Source(News),
    /// A server said what it offers; to be told when that is in force.
    Catalog { server: Arc<ServerEntry>, catalog: Arc<Catalog>, in_force: oneshot::Sender<()> },
    /// A server cannot be reached: nobody needs to wait for its first list.
    Unreachable { server: Arc<ServerEntry> },
}

/// What a source saw.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Entries to put in force.
    pub(crate) applied: Vec<Entry>,
    /// Resources that are gone; before the entries that may have come in their place.
    pub(crate) deleted: Vec<ResourceRef>,
    /// Lists that were stored: good for servers that have not listed their tools themselves.
    pub(crate) stored: Vec<(ServerId, Arc<Catalog>)>,
    /// All that cannot be used; `None` if that is as before.
    pub(crate) rejected: Option<Vec<Rejected>>,
    /// How far the source has come.
    pub(crate) watermark: u64,
}

/// Where news is sent.
pub(crate) type Changes = mpsc::Sender<Change>;

/// The queue of news.
pub(crate) fn changes() -> (Changes, mpsc::Receiver<Change>) {
    mpsc::channel(QUEUE)
}
