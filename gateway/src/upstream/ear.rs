//! The gateway's own leg: what the server says unasked on it, and which resources and tasks it is to
//! speak of.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use gateway_core::Catalog;
use mcp::message::Outcome;
use mcp::modern::quoted;
use mcp::{Era, Message};
use tokio::time::{Instant, sleep_until};

use super::exchange::{Exchange, Item};
use super::fault::Fault;
use super::hello::{method_header, request_of};
use super::leg::{Leg, NOTIFY, Outbound};
use super::lists::list_over;
use super::own::{answer_to, request};
use super::{Subject, Upstream};

/// A server that announces changes is asked rarely, one that does not more often.
const POLL_ANNOUNCING: Duration = Duration::from_secs(300);
const POLL_SILENT: Duration = Duration::from_secs(30);

/// The gateway's own leg and the stream on which the server speaks unasked.
pub(super) struct Ear {
    leg: Arc<Leg>,
    news: Option<Exchange>,
    beside: Option<Beside>,
    /// The resources and tasks whose changes the server was asked to tell.
    watched: BTreeSet<Subject>,
}

/// A stream that is heard besides, so that nothing is lost while one takes another's place.
struct Beside {
    stream: Exchange,
    /// It takes the place once the server tells by it; else it had the place.
    is_next: bool,
    since: Instant,
}

/// How long a stream is heard after another took its place: longer than news are under way. What both
/// tell meanwhile is told twice, which is no wrong of news.
const GRACE: Duration = Duration::from_millis(250);

impl Ear {
    pub(super) async fn open(upstream: &Arc<Upstream>) -> Result<Self, Fault> {
        let leg = upstream.own.open(upstream, None).await?;
        let mut ear = Self { leg, news: None, beside: None, watched: BTreeSet::new() };
        ear.attend(upstream).await?;
        Ok(ear)
    }

    /// Listens on the leg, to what is watched now.
    async fn attend(&mut self, upstream: &Arc<Upstream>) -> Result<(), Fault> {
        match self.leg.era() {
            Era::Legacy => {
                self.news = self.leg.listen(upstream).await?;
                self.watched.clear();
                self.watch(upstream).await;
            }
            Era::Modern => {
                self.watched = upstream.watchers.subjects();
                self.news = self.subscribe(upstream);
                self.beside = None;
            }
        }
        Ok(())
    }

    /// Asks a modern server to tell of all changes that it can tell of.
    fn subscribe(&self, upstream: &Upstream) -> Option<Exchange> {
        let (mut uris, mut tasks) = (Vec::new(), Vec::new());
        for subject in &self.watched {
            match subject {
                Subject::Resource(uri) => uris.push(quoted(uri)),
                Subject::Task(id) => tasks.push(quoted(id)),
            }
        }
        let mut filter = Vec::new();
        for (feature, kind) in [
            ("tools", "toolsListChanged"),
            ("prompts", "promptsListChanged"),
            ("resources", "resourcesListChanged"),
        ] {
            if self.leg.announces(feature) {
                filter.push(format!(r#""{kind}":true"#));
            }
        }
        if !uris.is_empty() {
            filter.push(format!(r#""resourceSubscriptions":[{}]"#, uris.join(",")));
        }
        if !tasks.is_empty() {
            filter.push(format!(r#""taskIds":[{}]"#, tasks.join(",")));
        }
        if filter.is_empty() {
            return None;
        }
        let id = self.leg.next_id();
        let params = format!(r#"{{"notifications":{{{}}}}}"#, filter.join(","));
        // Who does not know tasks is not told of them (extension, task status notifications).
        let capabilities = if tasks.is_empty() { "{}".to_owned() } else { mcp::task::capability() };
        let body = request_of(&capabilities, id, LISTEN, &params);
        self.leg.send(upstream, Outbound::own(id, body, method_header(LISTEN))).ok()
    }

    pub(super) fn poll_interval(&self) -> Duration {
        let announces = match (&self.news, self.leg.era()) {
            (Some(news), Era::Legacy) => news.has_head(),
            (Some(_), Era::Modern) => true,
            (None, _) => self.leg.is_stream(),
        };
        if announces { POLL_ANNOUNCING } else { POLL_SILENT }
    }

    /// Brings what the server was asked to tell in line with what is watched. One that does not
    /// answer tells nothing: it is asked again with the next change.
    pub(super) async fn watch(&mut self, upstream: &Arc<Upstream>) {
        let wanted = upstream.watchers.subjects();
        if self.leg.era() == Era::Modern {
            let waits = |next: &Beside| next.is_next && next.since.elapsed() < NOTIFY;
            if wanted != self.watched && !self.beside.as_ref().is_some_and(waits) {
                self.watched = wanted;
                let asked = self.subscribe(upstream);
                if asked.is_none() {
                    self.news = None;
                }
                let since = Instant::now();
                self.beside = asked.map(|stream| Beside { stream, is_next: true, since });
            }
            return;
        }
        if !self.leg.offers("resources") {
            return;
        }
        let gone: Vec<Subject> = self.watched.difference(&wanted).cloned().collect();
        let new: Vec<Subject> = wanted.difference(&self.watched).cloned().collect();
        for subject in gone {
            self.watched.remove(&subject);
            // Servers of this era tell of tasks unasked.
            let Subject::Resource(uri) = &subject else { continue };
            if ask(&self.leg, upstream, "resources/unsubscribe", uri).await.is_err() {
                return;
            }
        }
        for subject in new {
            let Subject::Resource(uri) = &subject else { continue };
            // A server that refuses says so each time, and nothing is lost by that.
            match ask(&self.leg, upstream, "resources/subscribe", uri).await {
                Ok(()) => self.watched.insert(subject),
                Err(_) => return,
            };
        }
    }

    /// Hears what the server says; returns when it can't be heard any more.
    pub(super) async fn hear(&mut self, upstream: &Arc<Upstream>) {
        loop {
            // A server that never pauses must not have the thread to itself.
            tokio::task::yield_now().await;
            if self.news.is_none() {
                self.news = self.beside.take().map(|beside| beside.stream);
            }
            let (Some(news), beside) = (&mut self.news, &mut self.beside) else {
                self.leg.closed().await;
                return;
            };
            let last = beside.as_ref().filter(|beside| !beside.is_next);
            let over = last.map(|last| last.since + GRACE);
            let next_heard = std::future::poll_fn(|cx| {
                if let Poll::Ready(heard) = news.poll_next(cx) {
                    return Poll::Ready((false, heard));
                }
                let Some(beside) = beside else { return Poll::Pending };
                beside.stream.poll_next(cx).map(|heard| (true, heard))
            });
            let (by_other, heard) = tokio::select! {
                biased;
                heard = next_heard => heard,
                () = sleep_until(over.unwrap_or_else(Instant::now)), if over.is_some() => {
                    self.beside = None;
                    continue;
                }
            };
            let heard = Heard::of(heard);
            if by_other && let Some(beside) = &mut self.beside {
                match (&heard, beside.is_next) {
                    // What the server does not want to tell changes nothing of what it tells.
                    (Heard::Refusal, _) | (Heard::End, false) => {
                        self.beside = None;
                        continue;
                    }
                    (Heard::End, true) => return,
                    (_, true) => {
                        std::mem::swap(&mut beside.stream, news);
                        (beside.is_next, beside.since) = (false, Instant::now());
                        // More may be watched by now.
                        upstream.watchers.changed.notify_one();
                    }
                    (_, false) => {}
                }
            }
            let has_next = self.beside.as_ref().is_some_and(|beside| beside.is_next);
            match heard {
                Heard::Message(bytes) => {
                    if let Ok(message) = Message::parse(&bytes) {
                        self.leg.hear(&bytes, &message);
                    }
                }
                Heard::Unheard(id) => self.leg.leave_unheard(upstream, &id),
                Heard::Nothing => {}
                Heard::Refusal => self.news = None,
                Heard::End if has_next => self.news = None,
                Heard::End => return,
            }
        }
    }

    /// All the server offers. A session the server lost is begun anew, and a connection that broke
    /// is tried once more: it may have been an old one.
    pub(super) async fn list(&mut self, upstream: &Arc<Upstream>) -> Result<Catalog, Fault> {
        match list_over(upstream, &self.leg).await {
            Err(Fault::SessionLost) => {
                self.leg = upstream.own.open(upstream, Some(&self.leg)).await?;
                self.attend(upstream).await?;
                list_over(upstream, &self.leg).await
            }
            Err(Fault::Closed(_)) if !self.leg.is_closed() => list_over(upstream, &self.leg).await,
            other => other,
        }
    }
}

/// What came of listening.
enum Heard {
    Message(Bytes),
    /// The id of a request that is too large.
    Unheard(Bytes),
    Nothing,
    /// The server does not tell what it was asked to: asking again would change nothing.
    Refusal,
    End,
}

impl Heard {
    fn of(heard: Result<Option<Item>, Fault>) -> Self {
        match heard {
            Ok(Some(Item::Message(bytes))) => match Message::parse(&bytes) {
                Ok(Message::Response { outcome: Outcome::Error(_), .. }) => Self::Refusal,
                // The end of what a modern server was asked to tell.
                Ok(Message::Response { .. }) => Self::End,
                _ => Self::Message(bytes),
            },
            Ok(Some(Item::Unheard { id })) => Self::Unheard(id),
            Ok(Some(_)) => Self::Nothing,
            Err(Fault::Status(_) | Fault::Refused(_) | Fault::Garbage(_)) => Self::Refusal,
            Ok(None) | Err(_) => Self::End,
        }
    }
}

async fn ask(leg: &Leg, upstream: &Upstream, method: &str, uri: &str) -> Result<(), Fault> {
    let id = leg.next_id();
    let body = request(id, method, &format!(r#"{{"uri":{}}}"#, quoted(uri)));
    let exchange = leg.send(upstream, Outbound::own(id, body, Vec::new()))?;
    answer_to(id, exchange, NOTIFY).await.map(drop)
}

const LISTEN: &str = "subscriptions/listen";
