//! What a gateway is told that was not there when all were told: what clients set in their sessions,
//! and which sessions ended.
//!
//! Every gateway tells all it knows to one that it meets, in small parts, one after the other, and
//! tells it again if it was away or did not hear something: which of the others knows what, nobody
//! keeps count of. It takes the later of two settings, so that telling twice does no harm.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Condition, Fleet, Letter, Pod};
use crate::downstream::Downstream;
use crate::home::Settings;
use crate::session::SessionId;

/// The path on which a gateway is told.
pub(super) const BRIEF: &str = "/peer/brief";
/// Bytes told at once: held once here and once there, while one gateway after the other is told.
const MAX_PART: usize = 256 * 1024;

/// One thing to know.
#[derive(Debug, Serialize, Deserialize)]
enum Fact {
    /// What a client set.
    Set(Settings),
    /// A session that is over.
    Ended([u8; 12]),
}

/// Tells those who are met.
pub(crate) async fn brief(app: Arc<Downstream>, stop: CancellationToken) {
    while stop.run_until_cancelled(app.fleet.met.notified()).await.is_some() {
        for pod in app.fleet.uninformed() {
            // First: what it misses from now on counts.
            pod.informed.store(true, Ordering::Relaxed);
            let told = stop.run_until_cancelled(tell(&app, &pod)).await;
            if told != Some(true) {
                pod.informed.store(false, Ordering::Relaxed);
            }
        }
    }
}

/// Tells a gateway all. False if it did not hear all of it.
async fn tell(app: &Downstream, pod: &Pod) -> bool {
    let mut part = Part { fleet: &app.fleet, pod, text: Vec::new() };
    for homes in app.commons.homes.shared() {
        for (session, home) in homes {
            if !part.add(&Fact::Set(home.settings(session))).await {
                return false;
            }
        }
    }
    // Last: who knows of an end knows of what was set.
    for session in app.tombstones.all() {
        if !part.add(&Fact::Ended(*session.as_bytes())).await {
            return false;
        }
    }
    part.send().await
}

/// What is about to be told.
struct Part<'a> {
    fleet: &'a Fleet,
    pod: &'a Pod,
    /// A list of facts that has no end yet.
    text: Vec<u8>,
}

impl Part<'_> {
    async fn add(&mut self, fact: &Fact) -> bool {
        let Ok(fact) = serde_json::to_vec(fact) else { return true };
        // A session that set more than that stays with those who heard it.
        if fact.len() > MAX_PART {
            return true;
        }
        let sent = self.text.len() + fact.len() < MAX_PART || self.send().await;
        self.text.push(if self.text.is_empty() { b'[' } else { b',' });
        self.text.extend_from_slice(&fact);
        sent
    }

    async fn send(&mut self) -> bool {
        if self.text.is_empty() {
            return true;
        }
        self.text.push(b']');
        let part = Bytes::from(std::mem::take(&mut self.text));
        self.fleet.deliver(self.pod, BRIEF, Letter::default(), &part).await
    }
}

/// Takes in what another gateway tells. False if it cannot be read.
pub(super) fn learn(app: &Downstream, part: &[u8]) -> bool {
    let Ok(facts) = serde_json::from_slice::<Vec<Fact>>(part) else { return false };
    for fact in facts {
        match fact {
            Fact::Set(settings) if app.tombstones.holds(settings.session()) => {}
            Fact::Set(settings) => app.commons.homes.of(settings.session()).adopt(settings),
            Fact::Ended(session) => {
                let session = SessionId::from_bytes(session);
                app.tombstones.bury(session);
                app.commons.homes.forget(session);
            }
        }
    }
    true
}

impl Fleet {
    /// Those that serve and were not told all yet.
    fn uninformed(&self) -> Vec<Arc<Pod>> {
        let pods = self.pods.load();
        let lacks = |pod: &&Arc<Pod>| {
            pod.condition() == Condition::Serving && !pod.informed.load(Ordering::Relaxed)
        };
        pods.iter().filter(lacks).cloned().collect()
    }
}
