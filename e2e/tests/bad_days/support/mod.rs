//! What the bad days have in common.

pub(crate) mod entries;
pub(crate) mod lease;
pub(crate) mod scene;
pub(crate) mod storm;
pub(crate) mod traffic;

use std::{
    future::Future,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep};

pub(crate) use entries::Watch;
pub(crate) use lease::Lead;
pub(crate) use scene::Scene;
pub(crate) use storm::Storm;
pub(crate) use traffic::{Answer, Traffic};

/// Longer than anything takes that is not broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at what cannot notify.
const POLL: Duration = Duration::from_millis(5);

/// Waits until the answer is yes. An answer that is an error counts as no, and is told at the deadline.
pub(crate) async fn until<F>(
    what: &str,
    deadline: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    let end = Instant::now() + deadline;
    loop {
        let last = match ask().await {
            Ok(true) => return Ok(()),
            other => other.err(),
        };
        if Instant::now() >= end {
            match last {
                Some(error) => return Err(error.context(format!("waited {deadline:?} for {what}"))),
                None => bail!("waited {deadline:?} for {what}"),
            }
        }
        sleep(POLL).await;
    }
}

/// Time by the clock that the cluster's programs, on this host, write down.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Says what was measured.
pub(crate) fn report(line: &str) {
    eprintln!("bad days: {line}");
}
