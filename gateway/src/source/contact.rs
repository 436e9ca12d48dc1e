//! Whether the source can be heard: what is served is as old as the last contact.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

/// Contact with the source of entries.
#[derive(Debug, Default)]
pub(crate) struct Contact {
    lost: ArcSwapOption<Lost>,
    /// What is heard is not to be believed.
    doubted: AtomicBool,
}

/// A contact that was lost.
#[derive(Debug)]
pub(crate) struct Lost {
    since: Instant,
    /// For people.
    pub(crate) reason: String,
}

impl Contact {
    /// The source is heard.
    pub(super) fn keep(&self) {
        if self.doubted.load(Ordering::Relaxed) {
            return;
        }
        if let Some(lost) = self.lost.swap(None) {
            let seconds = lost.since.elapsed().as_secs();
            tracing::info!(seconds, "the source of entries is heard again");
        }
    }

    /// What the source says is not believed, or is again.
    pub(super) fn doubt(&self, reason: Option<&str>) {
        self.doubted.store(reason.is_some(), Ordering::Relaxed);
        match reason {
            Some(reason) => self.lose(reason.to_owned()),
            None => self.keep(),
        }
    }

    /// The source is not heard. Told once for each reason.
    pub(super) fn lose(&self, reason: String) {
        let before = self.lost.load_full();
        if before.as_ref().is_some_and(|lost| lost.reason == reason) {
            return;
        }
        tracing::warn!(reason, "the source of entries is not heard, the last table stays in force");
        let since = before.map_or_else(Instant::now, |lost| lost.since);
        self.lost.store(Some(Arc::new(Lost { since, reason })));
    }

    /// Why there is no contact.
    pub(crate) fn lost(&self) -> Option<Arc<Lost>> {
        self.lost.load_full()
    }

    /// For how long there has been none.
    pub(crate) fn staleness(&self) -> Duration {
        self.lost.load().as_ref().map_or(Duration::ZERO, |lost| lost.since.elapsed())
    }
}
