//! Who hears of changes: legacy sessions on their own stream, modern clients on the one they listen to.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use rmcp::{
    model::ResourceUpdatedNotificationParam,
    service::{SubscriptionContext, SubscriptionSink},
};
use tokio::time::timeout;

use crate::session::Session;

/// Something that clients are told of.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Tools,
    Prompts,
    Resources,
    Resource(String),
}

/// Everyone who can be told.
#[derive(Debug, Default)]
pub(crate) struct Audience(Mutex<Listeners>);

#[derive(Debug, Default)]
struct Listeners {
    sessions: Vec<Weak<Session>>,
    streams: HashMap<u64, SubscriptionSink>,
    next: u64,
}

impl Audience {
    /// Adds a session for as long as it lives.
    pub(crate) fn join(&self, session: &Arc<Session>) {
        let mut listeners = self.listeners();
        listeners.sessions.retain(|session| session.strong_count() > 0);
        listeners.sessions.push(Arc::downgrade(session));
    }

    /// Adds a modern client until it listens no more.
    pub(crate) async fn attend(&self, context: &SubscriptionContext) {
        let number = {
            let mut listeners = self.listeners();
            listeners.next += 1;
            let number = listeners.next;
            listeners.streams.insert(number, context.sink().clone());
            number
        };
        // Also when the request is dropped instead of cancelled.
        let _seat = Seat { audience: self, number };
        context.cancelled().await;
    }

    /// Tells everyone who wants to know. Those who do not read in time miss it.
    pub(crate) async fn announce(&self, change: &Change) {
        let (sessions, streams) = {
            let listeners = self.listeners();
            let sessions: Vec<_> = listeners.sessions.iter().filter_map(Weak::upgrade).collect();
            let streams: Vec<_> = listeners.streams.values().cloned().collect();
            (sessions, streams)
        };
        for session in sessions {
            let _ = timeout(PATIENCE, tell_session(&session, change)).await;
        }
        for stream in streams {
            let _ = timeout(PATIENCE, tell_stream(&stream, change)).await;
        }
    }

    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the streams, which its end gives free.
struct Seat<'a> {
    audience: &'a Audience,
    number: u64,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.audience.listeners().streams.remove(&self.number);
    }
}

async fn tell_session(session: &Session, change: &Change) {
    let Some(peer) = session.peer() else { return };
    let told = match change {
        Change::Tools => peer.notify_tool_list_changed().await,
        Change::Prompts => peer.notify_prompt_list_changed().await,
        Change::Resources => peer.notify_resource_list_changed().await,
        Change::Resource(uri) if session.watches(uri) => {
            peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri)).await
        }
        Change::Resource(_) => Ok(()),
    };
    if let Err(error) = told {
        tracing::debug!(%error, ?change, "a session was not told");
    }
}

/// A stream refuses what its filter does not name.
async fn tell_stream(stream: &SubscriptionSink, change: &Change) {
    let told = match change {
        Change::Tools => stream.notify_tool_list_changed().await,
        Change::Prompts => stream.notify_prompt_list_changed().await,
        Change::Resources => stream.notify_resource_list_changed().await,
        Change::Resource(uri) => stream.notify_resource_updated(uri).await,
    };
    if let Err(error) = told {
        tracing::debug!(%error, ?change, "a stream was not told");
    }
}

/// A stream that is not read within this has no reader.
const PATIENCE: Duration = Duration::from_secs(1);
