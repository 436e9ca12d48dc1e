//! Who the other gateways are: their addresses from DNS, and from those who say hello first; who
//! answers, by asking each of them every second.
//!
//! Who is at an address is not known before it answered, so a hello is sealed for no one gateway, but
//! for the address it goes to: whoever sits at the address of one that is gone, and passes on what it
//! is sent, gets no answer to it from another gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::net::lookup_host;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Condition, Fleet, Pod, Tag};
use crate::upstream::{Connector, HttpClient};

/// How often each is asked.
const BEAT: Duration = Duration::from_secs(1);
/// How long an answer, or DNS, may take; a connection to one that is cut off.
const PATIENCE: Duration = Duration::from_secs(1);
/// Answers that one may fail to give before nothing is sent there.
const MISSES: u32 = 2;
/// And before it is forgotten, if nobody names it any more.
const FORGOTTEN: u32 = 30;
/// Gateways in all.
const MAX_PODS: usize = 256;
/// Hellos that wait.
pub(super) const QUEUE: usize = 64;
/// The path on which a gateway says who it is.
pub(super) const HELLO: &str = "/peer/hello";

/// Another gateway that said hello.
#[derive(Debug)]
pub(crate) struct Announced {
    pub(super) tag: Tag,
    pub(super) address: SocketAddr,
}

/// Who asks.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    /// Whom it asks. The port is not compared: who has the address has all of its ports.
    pub(super) asked: IpAddr,
    /// Where it listens.
    pub(super) port: u16,
    pub(super) draining: bool,
}

/// Who answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Here {
    pub(super) tag: [u8; 8],
    pub(super) draining: bool,
}

/// What is known of an address.
struct Known {
    pod: Arc<Pod>,
    missed: u32,
}

impl Known {
    fn at(address: SocketAddr, tag: Tag) -> Self {
        let http = HttpClient::new(&Connector::to(address, PATIENCE));
        let condition = AtomicU8::new(Condition::Lost as u8);
        let informed = AtomicBool::new(false);
        Self { pod: Arc::new(Pod { tag, address, http, condition, informed }), missed: 0 }
    }
}

/// Keeps up with who is there. `names` are hosts with ports.
pub(crate) async fn find(
    fleet: Arc<Fleet>,
    names: Vec<String>,
    mut announced: mpsc::Receiver<Announced>,
    stop: CancellationToken,
) {
    let mut known: BTreeMap<SocketAddr, Known> = BTreeMap::new();
    let mut named: BTreeSet<SocketAddr> = BTreeSet::new();
    loop {
        if let Some(found) = resolve(&names).await {
            named = found;
        }
        for address in named.iter().take(MAX_PODS) {
            known.entry(*address).or_insert_with(|| Known::at(*address, Tag::NONE));
        }
        let draining = fleet.is_draining();
        meet(&fleet, &mut known, &named).await;
        fleet.looked.store(true, Ordering::Relaxed);
        fleet.met.notify_one();
        if draining {
            fleet.parted.cancel();
        }
        let next = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            next = announced.recv() => next,
            () = fleet.draining.cancelled(), if !draining => None,
            () = tokio::time::sleep(BEAT) => None,
        };
        if let Some(Announced { tag, address }) = next
            && known.len() < MAX_PODS
            && known.values().all(|known| known.pod.tag != tag)
        {
            known.insert(address, Known::at(address, tag));
        }
    }
}

/// `None` while nobody can say: those who were there may be.
async fn resolve(names: &[String]) -> Option<BTreeSet<SocketAddr>> {
    let found = join_all(names.iter().map(|name| timeout(PATIENCE, lookup_host(name)))).await;
    let found: Option<Vec<_>> = found.into_iter().map(|found| found.ok()?.ok()).collect();
    Some(found?.into_iter().flatten().collect())
}

/// Asks all, and puts those who are there in force.
async fn meet(
    fleet: &Fleet,
    known: &mut BTreeMap<SocketAddr, Known>,
    named: &BTreeSet<SocketAddr>,
) {
    let asked: Vec<Arc<Pod>> = known.values().map(|known| known.pod.clone()).collect();
    let answers = join_all(asked.iter().map(|pod| timeout(PATIENCE, hello(fleet, pod)))).await;
    for (pod, answer) in asked.into_iter().zip(answers) {
        let Some(known) = known.get_mut(&pod.address) else { continue };
        let Some((tag, condition)) = answer.ok().flatten() else {
            known.missed += 1;
            if known.missed >= MISSES {
                fleet.enter(&pod, Condition::Lost);
            }
            continue;
        };
        if tag != pod.tag {
            *known = Known::at(pod.address, tag);
        }
        known.missed = 0;
        if known.pod.condition() != condition && tag != fleet.own {
            tracing::info!(address = %pod.address, ?condition, "another gateway is there");
        }
        fleet.enter(&known.pod, condition);
    }
    known.retain(|address, known| known.missed < FORGOTTEN || named.contains(address));
    let others = |pod: &&Known| pod.pod.tag != fleet.own && pod.pod.tag != Tag::NONE;
    let mut pods: Vec<Arc<Pod>> =
        known.values().filter(others).map(|known| known.pod.clone()).collect();
    // One with two addresses is one: it is told things once.
    pods.sort_by_key(|pod| (pod.tag, pod.condition() as u8));
    pods.dedup_by_key(|pod| pod.tag);
    let serving = pods.iter().filter(|pod| pod.condition() == Condition::Serving).count();
    fleet.telemetry.peers.set(i64::try_from(serving).unwrap_or(i64::MAX));
    if !fleet.pods.load().iter().map(Arc::as_ptr).eq(pods.iter().map(Arc::as_ptr)) {
        fleet.pods.store(Arc::new(pods));
        fleet.changed.notify_one();
    }
}

/// Who is at an address, and how it is doing.
async fn hello(fleet: &Fleet, pod: &Pod) -> Option<(Tag, Condition)> {
    let port = *fleet.port.get()?;
    let asked = pod.address.ip().to_canonical();
    let hello = Hello { asked, port, draining: fleet.is_draining() };
    let body = Bytes::from(serde_json::to_vec(&hello).ok()?);
    let (asked, head, answer) = fleet.ask(pod, HELLO, &body).await?;
    let Here { tag, draining } = serde_json::from_slice(&answer).ok()?;
    let tag = Tag::from_bytes(tag);
    let condition = if draining { Condition::Draining } else { Condition::Serving };
    fleet.is_answer(asked, tag, &head.headers).then_some((tag, condition))
}
