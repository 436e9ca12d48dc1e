//! What a legacy session has set: how much it wants to read, and which resources it watches.
#![expect(deprecated, reason = "logging is what is served here")]

use std::{
    collections::BTreeSet,
    sync::{Mutex, OnceLock, PoisonError},
};

use rmcp::{ErrorData, RoleServer, model::LoggingLevel, service::Peer};

/// One session; a request of the modern era has one of its own that it does not use.
#[derive(Debug)]
pub(crate) struct Session {
    level: Mutex<LoggingLevel>,
    uris: Mutex<BTreeSet<String>>,
    peer: OnceLock<Peer<RoleServer>>,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self {
            level: Mutex::new(LoggingLevel::Info),
            uris: Mutex::default(),
            peer: OnceLock::new(),
        }
    }

    pub(crate) fn level(&self) -> LoggingLevel {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_level(&self, level: LoggingLevel) {
        *self.level.lock().unwrap_or_else(PoisonError::into_inner) = level;
    }

    /// Remembers the way to the client; `false` if it was known.
    pub(crate) fn meet(&self, peer: Peer<RoleServer>) -> bool {
        self.peer.set(peer).is_ok()
    }

    pub(crate) fn peer(&self) -> Option<&Peer<RoleServer>> {
        self.peer.get()
    }

    pub(crate) fn watch(&self, uri: String) -> Result<(), ErrorData> {
        let mut uris = self.uris.lock().unwrap_or_else(PoisonError::into_inner);
        if uris.len() >= MOST_WATCHED {
            let message = format!("unsubscribe from a resource first: {MOST_WATCHED} are watched");
            return Err(ErrorData::invalid_request(message, None));
        }
        uris.insert(uri);
        Ok(())
    }

    pub(crate) fn unwatch(&self, uri: &str) {
        self.uris.lock().unwrap_or_else(PoisonError::into_inner).remove(uri);
    }

    pub(crate) fn watches(&self, uri: &str) -> bool {
        self.uris.lock().unwrap_or_else(PoisonError::into_inner).contains(uri)
    }
}

/// A client that watches more than this is not a test but a leak.
const MOST_WATCHED: usize = 1000;
