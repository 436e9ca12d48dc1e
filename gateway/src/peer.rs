//! Other gateways that serve the same sessions.
//!
//! Any gateway opens any session; only what cannot be sealed into its id has a place: the legs that
//! servers keep for it live at its [home](Fleet::home), the stream of HTTP+SSE and a call that waits
//! for input where they began. A request that needs what another gateway has is relayed to it
//! ([`relay`]); what concerns whoever has it (a cancellation, an answer, the end of a session) is told
//! to all, and to one that comes later by all who know it ([`brief`]). Nothing is stored, nobody is
//! asked who has what, and a gateway that is gone costs its sessions their legs, which are opened
//! again at the next home.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

mod brief;
mod courier;
mod finder;
pub(crate) mod port;
mod relay;
mod seal;
mod window;

pub(crate) use brief::brief;
use courier::Parcel;
pub(crate) use courier::carry;
use finder::Announced;
pub(crate) use finder::find;
pub(crate) use relay::{NotRelayed, Relayed};
pub(crate) use seal::{BodyHash, Letter, PeerKeys};

use crate::session::SessionId;
use crate::telemetry::Telemetry;
use crate::upstream::HttpClient;
use seal::Sender;
use window::Windows;

/// Requests for other gateways that are under way, each a connection: fewer than one of them takes of
/// one address. Their bodies are counted as all bodies are.
const MAX_RELAYS: usize = 8192;

/// Names a gateway for as long as it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Tag([u8; 8]);

impl Tag {
    /// Of no gateway.
    pub(crate) const NONE: Self = Self([0; 8]);

    /// Of a gateway that starts. One that starts again is another one: what it had is gone.
    pub(crate) fn new() -> Self {
        let mut random = [0; 8];
        // Without randomness it is no gateway's, which others then do not find.
        let _ = aws_lc_rs::rand::fill(&mut random);
        Self(random)
    }

    pub(crate) const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn to_bytes(self) -> [u8; 8] {
        self.0
    }
}

/// How another gateway is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Condition {
    Serving,
    /// It is about to end: what it began it finishes, and takes on nothing new.
    Draining,
    /// It did not answer.
    Lost,
}

/// Another gateway.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) tag: Tag,
    address: SocketAddr,
    http: Arc<HttpClient>,
    /// A [`Condition`].
    condition: AtomicU8,
    /// Whether it was told all, and has heard all since.
    informed: AtomicBool,
}

impl Pod {
    pub(crate) fn condition(&self) -> Condition {
        match self.condition.load(Ordering::Relaxed) {
            0 => Condition::Serving,
            1 => Condition::Draining,
            _ => Condition::Lost,
        }
    }

    fn enter(&self, condition: Condition) {
        self.condition.store(condition as u8, Ordering::Relaxed);
        if condition == Condition::Lost {
            self.informed.store(false, Ordering::Relaxed);
        }
    }
}

/// This gateway among the others.
#[derive(Debug)]
pub(crate) struct Fleet {
    pub(crate) own: Tag,
    /// Where others reach this one, once it listens for them.
    port: OnceLock<u16>,
    keys: Arc<PeerKeys>,
    sender: Sender,
    windows: Windows,
    pods: ArcSwap<Vec<Arc<Pod>>>,
    relays: Arc<Semaphore>,
    /// Bytes that wait to be carried.
    waiting: Arc<Semaphore>,
    parcels: mpsc::Sender<Parcel>,
    announced: mpsc::Sender<Announced>,
    /// Cancelled when this gateway is about to end.
    draining: CancellationToken,
    /// Cancelled when the others were told so.
    parted: CancellationToken,
    /// Whether it was looked for others, once.
    looked: AtomicBool,
    /// Word that others were asked how they are.
    met: Notify,
    /// Word that one came, or is doing otherwise than before: homes are elsewhere.
    pub(crate) changed: Notify,
    telemetry: Arc<Telemetry>,
}

/// What arrives for the tasks that keep a fleet together.
#[derive(Debug)]
pub(crate) struct Inboxes {
    pub(crate) parcels: mpsc::Receiver<Parcel>,
    pub(crate) announced: mpsc::Receiver<Announced>,
}

impl Fleet {
    pub(crate) fn new(
        keys: Arc<PeerKeys>,
        draining: CancellationToken,
        telemetry: Arc<Telemetry>,
    ) -> (Arc<Self>, Inboxes) {
        let (parcels, to_carry) = mpsc::channel(courier::QUEUE);
        let (announced, to_find) = mpsc::channel(finder::QUEUE);
        let fleet = Arc::new(Self {
            own: Tag::new(),
            port: OnceLock::new(),
            keys,
            sender: Sender::default(),
            windows: Windows::default(),
            pods: ArcSwap::default(),
            relays: Arc::new(Semaphore::new(MAX_RELAYS)),
            waiting: Arc::new(Semaphore::new(courier::MAX_WAITING)),
            parcels,
            announced,
            draining,
            parted: CancellationToken::new(),
            looked: AtomicBool::new(false),
            met: Notify::new(),
            changed: Notify::new(),
            telemetry,
        });
        (fleet, Inboxes { parcels: to_carry, announced: to_find })
    }

    /// The gateway at which a session's legs live; `None` if that is this one. The one that began it,
    /// while it is there; then whichever all agree on.
    pub(crate) fn home(&self, began: Tag, session: SessionId) -> Option<Arc<Pod>> {
        self.place(began, session.as_bytes())
    }

    /// The same for what no gateway began.
    pub(crate) fn place_of(&self, what: &[u8]) -> Option<Arc<Pod>> {
        self.place(Tag::NONE, what)
    }

    fn place(&self, began: Tag, what: &[u8]) -> Option<Arc<Pod>> {
        let pods = self.pods.load();
        if pods.is_empty() || (began == self.own && !self.is_draining()) {
            return None;
        }
        let serving = || pods.iter().filter(|pod| pod.condition() == Condition::Serving);
        if let Some(pod) = serving().find(|pod| pod.tag == began) {
            return Some(pod.clone());
        }
        let best = serving().max_by_key(|pod| weight(pod.tag, what))?;
        let here = !self.is_draining() && weight(self.own, what) > weight(best.tag, what);
        (!here).then(|| best.clone())
    }

    /// Notes how another gateway is doing.
    fn enter(&self, pod: &Pod, condition: Condition) {
        if pod.condition() != condition {
            pod.enter(condition);
            self.changed.notify_one();
        }
    }

    /// Whether no other gateway is known.
    pub(crate) fn is_alone(&self) -> bool {
        self.pods.load().is_empty()
    }

    /// The gateway of that name, if it is another one that was there lately.
    pub(crate) fn pod(&self, tag: Tag) -> Option<Arc<Pod>> {
        self.pods.load().iter().find(|pod| pod.tag == tag).cloned()
    }

    /// All others that answer.
    fn reachable(&self) -> Vec<Arc<Pod>> {
        let answers = |pod: &&Arc<Pod>| pod.condition() != Condition::Lost;
        self.pods.load().iter().filter(answers).cloned().collect()
    }

    /// Whether it may take clients: it knows the others, if there are to be any.
    pub(crate) fn is_met(&self) -> bool {
        self.port.get().is_none() || self.looked.load(Ordering::Relaxed)
    }

    /// Whether it is about to end.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Waits until the others know that it is about to end, and send nothing new.
    pub(crate) async fn parted(&self) {
        if self.port.get().is_some() {
            self.parted.cancelled().await;
        }
    }

    /// Others may find this gateway at that port of its address.
    pub(crate) fn listens_at(&self, port: u16) {
        // Said once, at the start.
        let _ = self.port.set(port);
    }
}

/// Rendezvous hashing: all who know the same gateways choose the same one, and when one goes only
/// what it had moves.
fn weight(tag: Tag, what: &[u8]) -> [u8; 8] {
    let hash = digest(&SHA256, &[&tag.0, what].concat());
    hash.as_ref().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
