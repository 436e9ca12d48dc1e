//! Whether the source can be heard: what is served is as old as the last contact.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

/// Contact with the source of entries.
#[derive(Debug, Default)]
pub(crate) struct Contact(ArcSwapOption<Lost>);

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
        if let Some(lost) = self.0.swap(None) {
            let seconds = lost.since.elapsed().as_secs();
            tracing::info!(seconds, "the source of entries is heard again");
        }
    }

    /// The source is not heard. Told once for each reason.
    pub(super) fn lose(&self, reason: String) {
        let before = self.0.load_full();
        if before.as_ref().is_some_and(|lost| lost.reason == reason) {
            return;
        }
        tracing::warn!(reason, "the source of entries is not heard, the last table stays in force");
        let since = before.map_or_else(Instant::now, |lost| lost.since);
        self.0.store(Some(Arc::new(Lost { since, reason })));
    }

    /// Why there is no contact.
    pub(crate) fn lost(&self) -> Option<Arc<Lost>> {
        self.0.load_full()
    }

    /// For how long there has been none.
    pub(crate) fn staleness(&self) -> Duration {
        self.0.load().as_ref().map_or(Duration::ZERO, |lost| lost.since.elapsed())
    }
}
