//! What every reconcile works with.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use gateway_core::{Claim, Namespace, Record, ResourceRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Client, Resource};

use crate::bell::Id;
use crate::conditions::{self, Holds, LAST_GOOD, Verdict, transitions};
use crate::control::Action;
use crate::entries::{Entries, Stored};
use crate::gateways::{Bells, Gateways};
use crate::keyring::Keyring;
use crate::lease::{Leadership, Term};
use crate::objects::{Error, call};
use crate::server::catalogs::Catalogs;
use crate::telemetry::Telemetry;
use crate::world::World;

/// Everything is looked at again after this time, whatever was missed.
const RESYNC: Duration = Duration::from_secs(600);
/// Before the second attempt, and the longest time before one.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_LAST: Duration = Duration::from_secs(30);

/// What the operator is told at its start.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Of the operator and the gateways.
    pub(crate) namespace: String,
    /// Where resources are looked for; none for everywhere.
    pub(crate) watch_namespaces: Option<BTreeSet<String>>,
    /// Labels of the gateways' pods.
    pub(crate) gateway_labels: Vec<(String, String)>,
    /// Name of the operator's Lease.
    pub(crate) lease: String,
    /// Where clients reach the gateway, without a `/` at its end.
    pub(crate) public_url: String,
}

impl Settings {
    /// Whether resources of a namespace are looked at.
    pub(crate) fn watches(&self, namespace: &str) -> bool {
        self.watch_namespaces.as_ref().is_none_or(|watched| watched.contains(namespace))
    }
}

/// What every reconcile works with.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) settings: Settings,
    pub(crate) world: World,
    pub(crate) entries: Arc<Entries>,
    pub(crate) catalogs: Arc<Catalogs>,
    pub(crate) gateways: Arc<Gateways>,
    pub(crate) bells: Arc<Bells>,
    pub(crate) leadership: Arc<Leadership>,
    pub(crate) keyring: Arc<ArcSwap<Keyring>>,
    pub(crate) recorder: Recorder,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) failures: Arc<Failures>,
}

impl Context {
    /// The term, or an end to the reconcile.
    pub(crate) fn term(&self) -> Result<Term, Error> {
        self.leadership.term().ok_or(Error::NotLeader)
    }

    /// Whether every ready gateway knows the entry of this `resourceVersion`, if there is one.
    pub(crate) fn programmed(
        &self,
        resource: &ResourceRef,
        version: Option<u64>,
        accepted: &Verdict,
    ) -> Verdict {
        match version {
            // That they know the last one says nothing of the one that was asked for.
            Some(_) if accepted.holds != Holds::Yes => Verdict::no("NotAccepted", LAST_GOOD),
            Some(version) => self.gateways.programmed(resource, version),
            None if accepted.holds != Holds::Yes => {
                Verdict::no("NotAccepted", "nothing is in force: there is no valid version")
            }
            None => Verdict::no("Pending", "nothing is in force yet"),
        }
    }

    /// How long the status of a resource has to wait, if it has: entries come first, and what is
    /// about to change again is not told. Nobody waits for it here, where the next change of the
    /// resource would wait, too.
    pub(crate) fn settle(&self, resource: &ResourceRef) -> Option<Duration> {
        let stored = self.entries.of(resource)?;
        self.entries.pace().wait(stored.age()?).or_else(|| stored.unrest())
    }

    /// Publishes what people should know of. Events are told, not relied on: one that cannot be
    /// published is left out.
    pub(crate) async fn tell<K>(&self, object: &K, before: &[Condition], now: &[Condition])
    where
        K: Resource<DynamicType = ()>,
    {
        for condition in transitions(before, now).filter(|condition| is_news(condition)) {
            let good = condition.status == "True";
            self.publish(object, good, &condition.reason, &condition.message).await;
        }
    }

    /// Publishes one Event.
    pub(crate) async fn publish<K>(&self, object: &K, good: bool, reason: &str, note: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        let event = Event {
            type_: if good { EventType::Normal } else { EventType::Warning },
            reason: reason.to_owned(),
            // Longest note that an apiserver takes.
            note: Some(note.chars().take(1000).collect()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        let object = object.object_ref(&());
        let published = call("publish an event", self.recorder.publish(&event, &object));
        if let Err(error) = published.await {
            tracing::debug!(%error, "an event is not published");
        }
    }
}

/// Progress is no news; what ends it, or needs somebody, is.
fn is_news(condition: &Condition) -> bool {
    match (condition.type_.as_str(), condition.status.as_str()) {
        (conditions::READY, "True") => true,
        // It repeats another condition, but for this.
        (conditions::READY, _) => condition.reason == conditions::CIRCUIT_OPEN,
        (_, "False") => !matches!(&*condition.reason, "Pending" | "NotAccepted" | "Starting"),
        _ => false,
    }
}

/// When an object that was looked at without a failure is looked at again.
pub(crate) fn resync() -> Action {
    Action::requeue(resync_within(RESYNC))
}

/// Sooner, if time alone changes something before.
pub(crate) fn resync_before(moment: Option<Duration>) -> Action {
    let resync = resync_within(RESYNC);
    Action::requeue(moment.map_or(resync, |moment| moment.min(resync)))
}

/// 90 to 110 % of the time, so that not all are at once.
fn resync_within(time: Duration) -> Duration {
    let mut random = [0];
    // Without randomness all come at once, which only costs time.
    let _ = aws_lc_rs::rand::fill(&mut random);
    time.mul_f64(0.9 + f64::from(random[0]) / 1275.0)
}

/// How often in a row the reconcile of an object failed. Bounded by the number of objects there are.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<HashMap<ResourceRef, u32>>);

impl Failures {
    /// When to try again.
    pub(crate) fn again(&self, resource: ResourceRef, error: &Error) -> Action {
        let mut failures = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = failures.entry(resource).or_default();
        // What another write came before is tried at once.
        let exponent = if error.is_conflict() { 0 } else { *failed };
        *failed = failed.saturating_add(1);
        Action::requeue(BACKOFF_FIRST.saturating_mul(1 << exponent.min(16)).min(BACKOFF_LAST))
    }

    /// It did not fail, or is gone.
    pub(crate) fn forget(&self, resource: &ResourceRef) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(resource);
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// Earlier resources have the stronger claim.
pub(crate) fn claim(metadata: &ObjectMeta) -> Claim {
    let created = metadata.creation_timestamp.as_ref().map(|time| time.0.as_second());
    Claim {
        created: created.unwrap_or(i64::MAX),
        tie: metadata.uid.as_deref().unwrap_or_default().into(),
    }
}

/// Namespace and name.
pub(crate) fn id(metadata: &ObjectMeta) -> Id {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    (text(&metadata.namespace), text(&metadata.name))
}

/// The `resourceVersion` of the entry that is in force, if there is one for this very resource.
pub(crate) fn version_in_force(stored: Option<&Stored>, metadata: &ObjectMeta) -> Option<u64> {
    let Stored { version, record, .. } = stored?;
    let same = |record: &Arc<Record>| Some(&record.uid) == metadata.uid.as_ref();
    record.as_ref().is_some_and(same).then_some(*version)
}

/// Names a resource of ours.
pub(crate) fn reference(kind: gateway_core::Kind, metadata: &ObjectMeta) -> ResourceRef {
    let (namespace, name) = id(metadata);
    ResourceRef { namespace: Namespace::new(&namespace), kind, name: name.into() }
}

#[cfg(test)]
mod tests;
