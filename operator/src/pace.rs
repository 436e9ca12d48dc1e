//! When statuses are written: after the entries. What gateways do comes before what people read, and
//! a status that is about to change again need not be written.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many resources within a second are a storm: more than people apply by hand, fewer than an
/// apiserver writes.
const STORM: u32 = 50;
const SECOND: Duration = Duration::from_secs(1);
/// How long the status of a resource waits for the end of a storm, and how often that is looked for.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_secs(2);

/// How fast entries are written.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<Window>);

/// This second, and the one before.
#[derive(Debug, Default, Clone, Copy)]
struct Window {
    began: Option<Instant>,
    count: u32,
    before: u32,
}

impl Window {
    fn at(self, now: Instant) -> Self {
        let age = self.began.map_or(Duration::MAX, |began| now.duration_since(began));
        let began = Some(now);
        if age < SECOND {
            self
        } else if age < 2 * SECOND {
            Self { began, count: 0, before: self.count }
        } else {
            Self { began, count: 0, before: 0 }
        }
    }
}

impl Pace {
    /// An entry was written.
    pub(crate) fn tick(&self) {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *window = window.at(Instant::now());
        window.count = window.count.saturating_add(1);
    }

    /// How long a status is to wait, if it is, when its entry was written so long ago.
    pub(crate) fn wait(&self, age: Duration) -> Option<Duration> {
        let window = self.0.lock().unwrap_or_else(PoisonError::into_inner).at(Instant::now());
        let is_storm = window.count.max(window.before) >= STORM;
        (is_storm && age < PATIENCE).then_some(LOOK)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn statuses_wait_for_the_end_of_a_storm() {
        let pace = Pace::default();
        (1..STORM).for_each(|_| pace.tick());
        assert_eq!(pace.wait(Duration::ZERO), None);

        pace.tick();
        assert!(pace.wait(Duration::ZERO).is_some());
        advance(SECOND).await;
        assert!(pace.wait(Duration::ZERO).is_some());
        advance(SECOND).await;
        assert_eq!(pace.wait(Duration::ZERO), None);
    }

    #[tokio::test(start_paused = true)]
    async fn no_status_waits_for_ever() {
        let pace = Pace::default();
        (0..STORM).for_each(|_| pace.tick());

        assert!(pace.wait(PATIENCE - SECOND).is_some());
        assert_eq!(pace.wait(PATIENCE), None);
    }
}
