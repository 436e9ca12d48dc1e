//! What a client set in a session and every gateway keeps, for one that was not there to hear of it.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use mcp::logging::Level;
use serde::{Deserialize, Serialize};

use super::{Home, MAX_WATCHES, lock};
use crate::downstream::Outgoing;
use crate::session::SessionId;
use crate::table::ServerId;

/// All that was set in a session. The later of two is the whole truth: a subscription that it does not
/// have is none any more.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    session: [u8; 12],
    /// Milliseconds since 1970, by the clock of the gateway that heard the last of it.
    at: i64,
    level: Option<String>,
    /// URIs, as the client knows them.
    watched: Vec<Box<str>>,
    /// On legs of its own: the server, and the URI by which it knows it.
    subscribed: Vec<(ServerId, Box<str>)>,
}

impl Settings {
    pub(crate) const fn session(&self) -> SessionId {
        SessionId::from_bytes(self.session)
    }
}

impl Home {
    /// The session lives and ends here: no other gateway needs to know of it.
    pub(crate) fn keep_to_itself(&self) {
        self.shared.store(false, Ordering::Relaxed);
    }

    /// Whether there is something for another gateway to know.
    pub(super) fn is_set(&self) -> bool {
        self.set_at.load(Ordering::Relaxed) > 0 && self.shared.load(Ordering::Relaxed)
    }

    /// Notes that the client set something.
    pub(super) fn set(&self) {
        self.set_at.fetch_max(Timestamp::now().as_millisecond(), Ordering::Relaxed);
    }

    /// What was set, for another gateway.
    pub(crate) fn settings(&self, session: SessionId) -> Settings {
        // First: what changes meanwhile is later than this.
        let at = self.set_at.load(Ordering::Relaxed);
        Settings {
            session: *session.as_bytes(),
            at,
            level: self.level().map(|level| level.as_str().to_owned()),
            watched: lock(&self.watches).keys().cloned().collect(),
            subscribed: lock(&self.subscriptions).iter().cloned().collect(),
        }
    }

    /// Takes what was set elsewhere, if it is news.
    pub(crate) fn adopt(&self, settings: Settings) {
        let Settings { at, level, watched, subscribed, .. } = settings;
        if self.set_at.fetch_max(at, Ordering::Relaxed) >= at {
            return;
        }
        if let Some(level) = level.as_deref().and_then(Level::from_wire) {
            self.level.replace(level);
        }
        *lock(&self.subscriptions) = subscribed.into_iter().take(MAX_WATCHES).collect();
        {
            let mut watches = lock(&self.watches);
            let mut before = std::mem::take(&mut *watches);
            let kept = watched.into_iter().take(MAX_WATCHES).map(|uri| {
                let watch = before.remove(&uri).flatten();
                (uri, watch)
            });
            *watches = kept.collect::<HashMap<_, _>>();
        }
        // Only who has the stream knows what its client may read now.
        if let Some(outlet) = &*lock(&self.outlet) {
            let _ = outlet.try_send(Outgoing::Revision);
        }
    }
}
