//! The report stream: what the operator is told of this gateway, line by line.
//!
//! Each stream remembers what it has said and compares it with what is now when it is polled, so
//! a slow operator is told the latest state and nothing queues. Reads only.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::{self, BoxStream, StreamExt};
use gateway_core::report::{Conflict, Hello, KeyUse, Line, RejectedEntry, ServerId, Watermark};
use gateway_core::{Diagnostic, Namespace};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::table::{Published, Rejected, ServerId as ServerKey, Table, Upstreams};
use crate::upstream::Newswire;

/// How often something is said even if there is nothing to say. Uses of keys go out then.
const BEAT: Duration = Duration::from_secs(10);
/// Bytes after which what is said next is decided anew: a table goes before the rest of many
/// servers.
const PIECE: usize = 64 * 1024;
/// Uses of keys in one line.
const USES: usize = 500;

/// What reports are made of.
#[derive(Debug, Clone)]
pub(crate) struct Reporter {
    pub(crate) hello: Hello,
    pub(crate) table: Arc<Table>,
    pub(crate) news: Newswire,
    pub(crate) stop: CancellationToken,
}

impl Reporter {
    /// Everything, then what becomes different, until the gateway stops.
    pub(crate) fn report(&self) -> BoxStream<'static, Bytes> {
        let first = line(&Line::Hello(self.hello.clone()));
        let stream = Stream::new(self.clone());
        let rest = stream::unfold(stream, |mut stream| async {
            let piece = stream.next().await?;
            Some((piece, stream))
        });
        stream::iter([first]).chain(rest).boxed()
    }
}

/// One stream of reports.
struct Stream {
    table: Arc<Table>,
    progress: watch::Receiver<Watermark>,
    news: watch::Receiver<u64>,
    beat: Interval,
    stop: CancellationToken,
    said: Said,
}

/// What was said last.
#[derive(Default)]
struct Said {
    watermark: Option<Watermark>,
    conflicts: Option<Vec<Diagnostic>>,
    rejected: Option<Arc<[Rejected]>>,
    /// The servers that were named.
    servers: Arc<Upstreams>,
    /// Number of the last news of them that was said.
    news: u64,
    /// Servers of which there is something to say.
    to_say: BTreeSet<ServerKey>,
    /// By tenant and name of the key.
    uses: HashMap<(Namespace, Arc<str>), Timestamp>,
}

impl Stream {
    fn new(reporter: Reporter) -> Self {
        let Reporter { table, news, stop, .. } = reporter;
        let mut progress = table.progress();
        let mut news = news.subscribe();
        // There is something to say at once.
        progress.mark_changed();
        news.mark_changed();
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { table, progress, news, beat, stop, said: Said::default() }
    }

    /// Waits until there is something to say and says it; `None` when the gateway stops.
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        while out.is_empty() {
            let busy = !self.said.to_say.is_empty();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                changed = self.progress.changed() => {
                    changed.ok()?;
                    let watermark = *self.progress.borrow_and_update();
                    self.said.table(watermark, &self.table.load(), &mut out);
                }
                () = std::future::ready(()), if busy => {
                    self.said.servers(&self.table.load(), &mut out);
                }
                changed = self.news.changed() => {
                    changed.ok()?;
                    let latest = *self.news.borrow_and_update();
                    self.said.collect(latest, &self.table.load());
                }
                _ = self.beat.tick() => {
                    self.said.uses(&self.table.load(), &mut out);
                    out.put_u8(b'\n');
                }
            }
        }
        Some(out.freeze())
    }
}

impl Said {
    /// A table, after what it makes untrue.
    fn table(&mut self, watermark: Watermark, published: &Published, out: &mut BytesMut) {
        if self.rejected.as_ref().is_none_or(|said| **said != *published.rejected) {
            self.rejected = Some(published.rejected.clone());
            let all = published.rejected.iter().map(|rejected| RejectedEntry {
                entry: rejected.file.clone(),
                reason: rejected.reason.clone(),
            });
            write(&Line::Rejected(all.collect()), out);
        }
        let diagnostics = published.snapshot.diagnostics();
        if self.conflicts.as_deref() != Some(diagnostics) {
            self.conflicts = Some(diagnostics.to_vec());
            write(&Line::Conflicts(diagnostics.iter().map(conflict).collect()), out);
        }
        self.compare(&published.upstreams, out);
        if self.watermark.replace(watermark) != Some(watermark) {
            write(&Line::Table(watermark), out);
        }
    }

    /// Names servers that are gone, and notes which have come.
    fn compare(&mut self, upstreams: &Arc<Upstreams>, out: &mut BytesMut) {
        if Arc::ptr_eq(&self.servers, upstreams) {
            return;
        }
        for (namespace, name) in self.servers.keys().filter(|id| !upstreams.contains_key(*id)) {
            let gone = ServerId { namespace: namespace.clone(), name: name.clone() };
            write(&Line::ServerGone(gone), out);
        }
        for (id, upstream) in &**upstreams {
            match self.servers.get(id) {
                Some(before) if Arc::ptr_eq(before, upstream) => {}
                // What was said of it is of another address: that must not outlive the table.
                Some(_) => write(&Line::Server(Box::new(upstream.report())), out),
                None => {
                    self.to_say.insert(id.clone());
                }
            }
        }
        self.servers = upstreams.clone();
    }

    /// Notes of which servers there is news since the last.
    fn collect(&mut self, latest: u64, published: &Published) {
        let news = published.upstreams.iter().filter(|(_, upstream)| {
            // Later news comes with a later number.
            upstream.standing.changed() > self.news
        });
        self.to_say.extend(news.map(|(id, _)| id.clone()));
        self.news = latest;
    }

    /// Some of the servers of which there is something to say.
    fn servers(&mut self, published: &Published, out: &mut BytesMut) {
        self.compare(&published.upstreams, out);
        while out.len() < PIECE
            && let Some(id) = self.to_say.pop_first()
        {
            if let Some(upstream) = published.upstreams.get(&id) {
                write(&Line::Server(Box::new(upstream.report())), out);
            }
        }
    }

    /// Keys that were used in a minute that was not told of.
    fn uses(&mut self, published: &Published, out: &mut BytesMut) {
        let mut uses: HashMap<_, Timestamp> = HashMap::with_capacity(self.uses.len());
        // A key may have several values.
        for principal in published.snapshot.principals() {
            if let Some(at) = principal.key.account.last_use() {
                let key = (principal.key.namespace.clone(), principal.key.name.clone());
                let last = uses.entry(key).or_insert(at);
                *last = at.max(*last);
            }
        }
        let news: Vec<KeyUse> = uses
            .iter()
            .filter(|(key, at)| self.uses.get(key).is_none_or(|said| said < at))
            .map(|((namespace, name), at)| KeyUse {
                namespace: namespace.clone(),
                name: name.to_string(),
                at: *at,
            })
            .collect();
        self.uses = uses;
        for some in news.chunks(USES) {
            write(&Line::Used(some.to_vec()), out);
        }
    }
}

fn conflict(diagnostic: &Diagnostic) -> Conflict {
    let Diagnostic { resource, reason, message } = diagnostic;
    Conflict {
        kind: resource.kind,
        namespace: resource.namespace.clone(),
        name: resource.name.to_string(),
        reason: reason.as_str().to_owned(),
        message: message.clone(),
    }
}

fn line(line: &Line) -> Bytes {
    let mut out = BytesMut::new();
    write(line, &mut out);
    out.freeze()
}

fn write(line: &Line, out: &mut BytesMut) {
    // What is reported has a text, always.
    if serde_json::to_writer(out.writer(), line).is_ok() {
        out.put_u8(b'\n');
    }
}
