//! What is counted of a key while it is used, whatever becomes of the table. Performs no I/O.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use jiff::Timestamp;
use mcp::list::List;

use crate::listening::Listeners;
use crate::{Listening, Scope};

/// Counts of one key. Table after table holds the same one.
#[derive(Debug, Default)]
pub struct Account {
    /// Minute of the last use since 1970; 0 is never.
    used: AtomicI64,
    /// Bytes that its requests hold.
    held: AtomicUsize,
    pub(crate) listeners: Listeners,
}

impl Account {
    /// Notes that the key is used.
    pub fn note(&self, now: Timestamp) {
        let minute = now.as_second() / 60;
        // A line that is only read stays in every processor's cache.
        if self.used.load(Ordering::Relaxed) != minute {
            self.used.store(minute, Ordering::Relaxed);
        }
    }

    /// When the key was last used, to the minute.
    pub fn last_use(&self) -> Option<Timestamp> {
        let minute = self.used.load(Ordering::Relaxed);
        (minute > 0).then(|| Timestamp::from_second(minute * 60).ok()).flatten()
    }

    /// Notes that a client of it is told when these lists change, as long as the answer is held.
    #[must_use]
    pub fn listen(self: &Arc<Self>, scope: &Scope, lists: Vec<List>) -> Listening {
        Listening::new(self.clone(), scope.clone(), lists)
    }

    /// Whether a client of it is told when this list changes.
    pub fn hears_of(&self, list: List, scope: &Scope) -> bool {
        self.listeners.hear_of(list, scope)
    }

    /// Takes so many bytes more, unless that would be more than `limit`.
    #[must_use]
    pub fn hold(&self, bytes: usize, limit: usize) -> bool {
        hold(&self.held, bytes, limit)
    }

    /// Gives so many bytes back.
    pub fn release(&self, bytes: usize) {
        self.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Adds to a count, unless that would be more than `limit`.
fn hold(count: &AtomicUsize, more: usize, limit: usize) -> bool {
    let add = |held: usize| held.checked_add(more).filter(|sum| *sum <= limit);
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_known_to_the_minute() {
        let account = Account::default();
        assert_eq!(account.last_use(), None);

        account.note("2026-01-02T03:04:59Z".parse().unwrap());

        assert_eq!(account.last_use(), Some("2026-01-02T03:04:00Z".parse().unwrap()));
    }

    #[test]
    fn bytes_are_held_up_to_the_limit() {
        let account = Account::default();

        assert!(account.hold(6, 10));
        assert!(!account.hold(5, 10));
        assert!(!account.hold(usize::MAX, usize::MAX));
        account.release(6);
        assert!(account.hold(10, 10));
    }
}
