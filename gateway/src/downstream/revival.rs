//! What a client hears of because it subscribed to it on a leg of its own goes on when that leg's
//! gateway changes, though no call comes.
//!
//! The gateway that has the stream of a session sees to it: it has the legs opened where they are to
//! be, which is here or at another gateway that it asks. A session without a stream would not hear of
//! anything: its legs wait for its next call.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use gateway_core::{Principal, Scope, ServerName};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Downstream;
use crate::client::{Client, Member};
use crate::home::Home;
use crate::peer::Tag;
use crate::session::SessionId;

/// Sessions that are seen to at once.
const AT_ONCE: usize = 8;
/// Sessions that wait for it. Those for which there is no place have their turn with all.
pub(crate) const QUEUE: usize = 1024;
/// However often gateways and servers change, all sessions are gone through once in that time.
const PACE: Duration = Duration::from_secs(1);
/// And this often without any change: a leg that could not be opened may be now, and one that is
/// listened to is not idle.
const BEAT: Duration = Duration::from_secs(60);
/// How long the legs of one session may take: others wait.
const LIMIT: Duration = Duration::from_secs(10);

/// Whose stream it is, as far as legs need to know.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    pub(crate) principal: Principal,
    pub(crate) scope: Scope,
    pub(crate) member: Member,
}

/// The same for another gateway, beside the key and the session.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    server: Option<ServerName>,
    capabilities: String,
    home: [u8; 8],
}

impl Listener {
    fn note(&self) -> Option<Bytes> {
        let server = match &self.scope {
            Scope::All => None,
            Scope::Server(name) => Some(name.clone()),
        };
        let capabilities = String::from_utf8(self.member.capabilities.to_vec()).ok()?;
        let note = Note { server, capabilities, home: self.member.home.to_bytes() };
        serde_json::to_vec(&note).ok().map(Bytes::from)
    }

    /// Whose stream another gateway has.
    pub(crate) fn of(principal: Principal, session: SessionId, note: &[u8]) -> Option<Self> {
        let Note { server, capabilities, home } = serde_json::from_slice(note).ok()?;
        let home = Tag::from_bytes(home);
        let member = Member { session, capabilities: capabilities.into(), home };
        Some(Self { principal, scope: server.map_or(Scope::All, Scope::Server), member })
    }
}

/// A session that is to be seen to.
#[derive(Debug)]
pub(crate) enum Turn {
    /// Its stream is here.
    Own(Listener),
    /// Its stream is at a gateway that takes this one for where its legs are to be.
    Passed(Listener),
}

/// Sees to the sessions that listen, whenever something changes, and to those that are asked for.
pub(crate) async fn revive(
    app: Arc<Downstream>,
    mut asked: mpsc::Receiver<Turn>,
    stop: CancellationToken,
) {
    let revived = async {
        let mut table = app.commons.table.watch();
        let mut turns = Vec::with_capacity(AT_ONCE);
        let (mut last, mut due) = (Instant::now(), Instant::now() + BEAT);
        loop {
            tokio::select! {
                biased;
                _ = asked.recv_many(&mut turns, AT_ONCE) => {
                    let some = stream::iter(turns.drain(..));
                    some.for_each_concurrent(None, |turn| see_to(&app, turn)).await;
                }
                () = app.fleet.changed.notified() => due = due.min(last + PACE),
                // It ends with the gateway.
                _ = table.changed() => due = due.min(last + PACE),
                () = sleep_until(due) => {
                    last = Instant::now();
                    due = last + BEAT;
                    let listening = app.commons.homes.subscribed().flatten();
                    let turns = listening.filter_map(|home| home.listener().map(Turn::Own));
                    let all = stream::iter(turns);
                    all.for_each_concurrent(AT_ONCE, |turn| see_to(&app, turn)).await;
                }
            }
        }
    };
    stop.run_until_cancelled(revived).await;
}

async fn see_to(app: &Downstream, turn: Turn) {
    let (listener, passed) = match turn {
        Turn::Own(listener) => (listener, false),
        Turn::Passed(listener) => (listener, true),
    };
    let Some(principal) = app.commons.table.renew(&listener.principal) else { return };
    let listener = Listener { principal, ..listener };
    let session = listener.member.session;
    // Nobody passes on what was passed to it.
    match app.fleet.home(listener.member.home, session).filter(|_| !passed) {
        Some(pod) => {
            if let Some(note) = listener.note() {
                app.fleet.attend(&pod, listener.principal.digest(), session, &note).await;
            }
        }
        None => {
            if let Some(home) = app.commons.homes.get(session) {
                let opening = open(app, &listener, &home);
                // One that takes longer is opened by then, or tried again with all.
                let _ = timeout(LIMIT, opening).await;
            }
        }
    }
}

/// Opens the legs on which a session subscribed to something; those that are open stay.
async fn open(app: &Downstream, listener: &Listener, home: &Home) {
    let Listener { principal, scope, member } = listener;
    let client = Client::Legacy(Some(member.clone()));
    let visitor = app.visitor(&client, principal, scope);
    let published = app.commons.table.load();
    let servers = principal.tenant.servers_for(scope, principal);
    let opening: FuturesUnordered<_> = servers
        .map(|server| (server.entry.namespace.clone(), server.entry.name.clone()))
        .filter(|id| home.is_subscribed(id))
        .filter_map(|id| published.upstreams.get(&id).cloned())
        .filter(|upstream| upstream.keeps_each_apart())
        .filter_map(|upstream| {
            // A server that is away is not waited for.
            let seat = upstream.seat(&visitor).ok()?;
            Some(async move { seat.slot(&upstream).open(&upstream, None).await.is_ok() })
        })
        .collect();
    let _ = opening.collect::<Vec<bool>>().await;
}
