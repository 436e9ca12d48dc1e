//! The pods of a server that keeps sessions: each session is known to one of them alone, so a leg
//! stays with one.
//!
//! A pod is one of the server's for as long as the name of its headless Service leads there: its
//! address may be anybody's the moment after. That is asked before every connection.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::client::HttpClient;
use super::connector::Connector;
use super::egress::Egress;

/// How long an answer of DNS is good: less than the second within which a Service follows its pods.
const FRESH: Duration = Duration::from_millis(500);
/// How long it has to do while there is no other: what answers is restarted in less.
const STALE: Duration = Duration::from_secs(10);

/// All of one server.
#[derive(Debug)]
pub(super) struct Pods {
    name: Arc<Name>,
    clients: Mutex<HashMap<SocketAddr, Way>>,
}

/// What resolves to them.
#[derive(Debug)]
struct Name {
    host: Box<str>,
    port: u16,
    egress: Arc<Egress>,
    /// Held while the name is resolved: all who connect wait for one answer.
    seen: tokio::sync::Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

/// The way to one pod.
#[derive(Debug, Clone)]
struct Way {
    pod: Arc<Pod>,
    /// Held by each leg that goes there.
    client: Arc<HttpClient>,
}

/// Where a connection goes that may go nowhere else.
#[derive(Debug)]
pub(super) struct Pod {
    address: SocketAddr,
    name: Arc<Name>,
    /// The last connection came to nothing.
    failed: AtomicBool,
}

impl Pods {
    pub(super) fn new(host: &str, port: u16, egress: Arc<Egress>) -> Arc<Self> {
        let name = Name { host: host.into(), port, egress, seen: tokio::sync::Mutex::default() };
        Arc::new(Self { name: Arc::new(name), clients: Mutex::default() })
    }

    pub(super) fn are_at(&self, host: &str) -> bool {
        *self.name.host == *host
    }

    /// The ways to all of them, the best first: where connections succeed and few legs are.
    pub(super) async fn ways(&self, connector: &Connector) -> io::Result<Vec<Arc<HttpClient>>> {
        let mut addresses = self.name.addresses().await?;
        // Gateways that begin at once do not all begin with the same one.
        let mut random = [0];
        let _ = aws_lc_rs::rand::fill(&mut random);
        let turn = usize::from(random[0]).checked_rem(addresses.len()).unwrap_or(0);
        addresses.rotate_left(turn);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ways: Vec<Way> = addresses
            .into_iter()
            .map(|at| clients.entry(at).or_insert_with(|| self.way(at, connector)).clone())
            .collect();
        ways.sort_by_key(|Way { pod, client }| {
            (pod.failed.load(Ordering::Relaxed), Arc::strong_count(client))
        });
        Ok(ways.into_iter().map(|way| way.client).collect())
    }

    fn way(&self, address: SocketAddr, connector: &Connector) -> Way {
        let (name, failed) = (self.name.clone(), AtomicBool::new(false));
        let pod = Arc::new(Pod { address, name, failed });
        Way { client: HttpClient::new(&connector.to_pod(pod.clone())), pod }
    }

    /// Closes idle connections, and forgets pods that no leg is with.
    pub(super) fn sweep(&self) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|_, way| {
            way.client.sweep();
            Arc::strong_count(&way.client) > 1
        });
    }
}

impl Name {
    async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let mut seen = self.seen.lock().await;
        let known = |age| match &*seen {
            Some((at, addresses)) if at.elapsed() < age => Some(addresses.clone()),
            _ => None,
        };
        if let Some(addresses) = known(FRESH) {
            return Ok(addresses);
        }
        match self.egress.resolve(&self.host, self.port).await {
            Ok(addresses) => {
                *seen = Some((Instant::now(), addresses.clone()));
                Ok(addresses)
            }
            Err(error) => known(STALE).ok_or(error),
        }
    }
}

impl Pod {
    /// Its address, while it is one of the server's.
    pub(super) async fn address(&self) -> io::Result<SocketAddr> {
        let known = self.name.addresses().await?.contains(&self.address);
        known.then_some(self.address).ok_or_else(|| io::Error::other("the pod is gone"))
    }

    /// Notes whether a connection came about.
    pub(super) fn note(&self, connected: bool) {
        self.failed.store(!connected, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
