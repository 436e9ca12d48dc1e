//! What every test needs: a stage with a gateway, clients, and servers that behave or do not.

pub mod apiserver;
pub mod client;
pub mod cluster;
pub mod events;
pub mod fixture;
pub mod fleet;
pub mod full;
pub mod guest;
pub mod legacy;
pub mod logs;
pub mod manifests;
pub mod modern;
pub mod raw;
pub mod running;
pub mod stage;
pub mod tls;

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// Far longer than anything here takes; what hangs fails instead of blocking.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// How soon a key that is not good any more has no effect (DESIGN §4), with room for two busy cores.
pub const REVOKED: Duration = Duration::from_millis(1500);

/// Waits for something that must come.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    within_time(what, DEADLINE, future).await
}

/// Waits for something that must come that soon.
pub async fn within_time<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> T {
    timeout(limit, future).await.unwrap_or_else(|_| panic!("{what}: not within {limit:?}"))
}

/// Looks again and again until there is something to see.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    within(what, async {
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

/// Bytes of memory that this process has, with all gateways, servers and clients of its tests.
pub fn memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<usize>().unwrap() * 1024
}
