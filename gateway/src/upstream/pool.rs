//! All servers of the table.

use std::collections::HashSet;
use std::sync::Arc;

use gateway_core::{Entries, ServerEntry};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::{Egress, Newswire, Upstream, supervisor};
use crate::table::{Changes, ServerId, Upstreams};
use crate::telemetry::Telemetry;
use crate::worker::shared;

/// All servers of the table.
pub(crate) struct Pool {
    upstreams: Arc<Upstreams>,
    handshakes: Arc<Handshakes>,
    egress: Arc<Egress>,
    changes: Changes,
    news: Newswire,
    stop: CancellationToken,
    telemetry: Arc<Telemetry>,
}

impl Pool {
    pub(crate) fn new(
        changes: Changes,
        egress: Arc<Egress>,
        news: Newswire,
        stop: CancellationToken,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        let (upstreams, handshakes) = (Arc::default(), Arc::default());
        Self { upstreams, handshakes, egress, changes, news, stop, telemetry }
    }

    /// Brings the upstreams in line with what the entries say of these servers. One whose address
    /// or kind of connection changed is started anew, and the old one ends when its calls have.
    pub(crate) fn reconcile(
        &mut self,
        touched: &HashSet<ServerId>,
        entries: &Entries,
    ) -> Arc<Upstreams> {
        for id in touched {
            let entry = entries.server(&id.0, &id.1);
            match (self.upstreams.get(id), entry) {
                (Some(upstream), Some(entry)) if upstream.serves(entry) => {
                    upstream.renew(entry);
                }
                (_, Some(entry)) => {
                    let started = self.start(entry);
                    // The map is copied once for a table, and only if servers come or go.
                    let old =
                        Arc::make_mut(&mut self.upstreams).insert(id.clone(), shared(&started));
                    if let Some(old) = old {
                        old.stop.cancel();
                    }
                }
                (Some(_), None) => {
                    if let Some(old) = Arc::make_mut(&mut self.upstreams).remove(id) {
                        old.stop.cancel();
                    }
                    self.telemetry.forget(&id.0, &id.1);
                }
                (None, None) => {}
            }
        }
        self.upstreams.clone()
    }

    fn start(&self, entry: &Arc<ServerEntry>) -> Arc<Upstream> {
        let stop = self.stop.child_token();
        let (egress, news) = (self.egress.clone(), self.news.clone());
        let upstream = Upstream::new(entry.clone(), egress, news, stop, &self.telemetry);
        let (handshakes, changes) = (self.handshakes.clone(), self.changes.clone());
        tokio::spawn(supervisor::run(upstream.clone(), handshakes, changes));
        upstream
    }
}

/// Places for those who connect: 64 in all, so that thousands of servers that appear at once do not
/// knock at once. Servers that were not reached before have their own, so that a new one does not
/// wait for many that are away.
#[derive(Debug)]
pub(super) struct Handshakes {
    first: Semaphore,
    again: Semaphore,
}

impl Default for Handshakes {
    fn default() -> Self {
        Self { first: Semaphore::new(48), again: Semaphore::new(16) }
    }
}

impl Handshakes {
    /// A place, for the first attempt or a further one.
    pub(super) async fn enter(&self, first: bool) -> Option<SemaphorePermit<'_>> {
        // They are never closed.
        if first { &self.first } else { &self.again }.acquire().await.ok()
    }
}
