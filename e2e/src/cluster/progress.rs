//! Says what is being done and since when, on standard error, also from tests whose output is captured.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use tokio::time::Instant;

/// The account of one bring-up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    started: Instant,
}

impl Progress {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The print macros are captured by the test harness, the stream itself is not: who waits for minutes sees why.
    pub(crate) fn say(&self, what: &str) {
        let line = format!("[{}] {what}\n", clock(self.elapsed()));
        // Nobody may be listening; that is no reason to stop.
        let _ = io::stderr().write_all(line.as_bytes());
    }
}

/// `12.3 s` or `4:17 min`, as wide as each other.
fn clock(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    if seconds < 60 {
        format!("{:>6.1} s", elapsed.as_secs_f64())
    } else {
        format!("{:>2}:{:02} min", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_counts_seconds_then_minutes() {
        assert_eq!(clock(Duration::from_millis(1_260)), "   1.3 s");
        assert_eq!(clock(Duration::from_secs(257)), " 4:17 min");
    }
}
