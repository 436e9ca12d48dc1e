//! The entry Secrets: one for each resource, read by the gateways.
//!
//! What was last seen of each is known here, so that nothing is written twice and every write
//! stands on what was seen: a leader that was paused and wakes gets a conflict.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use gateway_core::{Kind, Namespace, Record, ResourceRef};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client, ResourceExt};
use tokio::time::Instant;

use crate::lease::{Leadership, Term};
use crate::objects::{Error, absent_is_fine, call, exactly, put};
use crate::pace::Pace;
use crate::telemetry::Telemetry;

/// Of a Secret that holds an entry.
pub(crate) const ENTRY_TYPE: &str = "fairway.dev/entry";
/// The key of its data.
const ENTRY: &str = "entry";
/// Changes of one resource that come within this time are a row: faster than people edit.
const SOON: Duration = Duration::from_secs(1);
/// What is to be told of an entry waits for this time without a change. A program that waits until
/// one change is in force, and then makes the next, needs a few tens of milliseconds for it; and
/// mostly every gateway knows the entry by then, so that one status says it all.
const QUIET: Duration = Duration::from_millis(100);
/// What is told of a resource that is changed all the time is never older.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest name of a Secret.
const MAX_NAME: usize = 253;

/// An entry as it was last seen.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// Its `resourceVersion`.
    pub(crate) version: u64,
    /// UID of the Secret.
    secret: Option<String>,
    /// What it says; none if it cannot be read.
    pub(crate) record: Option<Arc<Record>>,
    /// When this replica wrote it, if it did.
    written: Option<Instant>,
    /// When the first of a row of changes was written that came one soon after the other, if this
    /// is not that one.
    row: Option<Instant>,
}

impl Stored {
    /// How long ago this replica wrote it, if it did.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.written.map(|written| written.elapsed())
    }

    /// How long until it is to be told: what is about to change again need not be, and who tells it
    /// would keep the next change waiting.
    pub(crate) fn unrest(&self) -> Option<Duration> {
        let left = QUIET.checked_sub(self.age()?).filter(|left| !left.is_zero());
        left.filter(|_| self.row.is_none_or(|began| began.elapsed() < PATIENCE))
    }

    /// The resource it is of. Where it does not say so its name does, unless that is a hash.
    fn resource(&self, name: &str) -> Option<ResourceRef> {
        self.record.as_ref().map(|record| record.entry.resource()).or_else(|| resource(name))
    }
}

/// What the apiserver tells of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Nothing that was not known, or what it was before a write of ours.
    Echo(ResourceRef),
    /// Somebody else wrote it. The resource it is of, if that can be told.
    News(Option<ResourceRef>),
}

/// All entries.
#[derive(Debug)]
pub(crate) struct Entries {
    api: Api<Secret>,
    leadership: Arc<Leadership>,
    telemetry: Arc<Telemetry>,
    seen: RwLock<HashMap<String, Stored>>,
    pace: Pace,
    /// A term in which nothing can be written over what somebody else wrote.
    surpassed: AtomicI64,
}

impl Entries {
    pub(crate) fn new(
        client: Client,
        namespace: &str,
        leadership: Arc<Leadership>,
        telemetry: Arc<Telemetry>,
    ) -> Self {
        let api = Api::namespaced(client, namespace);
        let (seen, pace, surpassed) = Default::default();
        Self { api, leadership, telemetry, seen, pace, surpassed }
    }

    /// The entry of a resource.
    pub(crate) fn of(&self, resource: &ResourceRef) -> Option<Stored> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        seen.get(&secret_name(resource)).cloned()
    }

    /// Every entry that can be read: its resource and its record.
    pub(crate) fn all(&self) -> Vec<(ResourceRef, Arc<Record>)> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        let records = seen.values().filter_map(|stored| stored.record.clone());
        records.map(|record| (record.entry.resource(), record)).collect()
    }

    /// The highest term in which one of them was written, or that has to be over before what there
    /// should be can be.
    pub(crate) fn highest_term(&self) -> Term {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        let terms = seen.values().filter_map(|stored| Some(stored.record.as_ref()?.term));
        // A Lease has no room for more.
        let terms = terms.filter(|term| *term < Term::from(i32::MAX) - 1);
        terms.max().unwrap_or_default().max(self.surpassed.load(Ordering::Acquire))
    }

    /// How fast entries are being written.
    pub(crate) const fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Takes in what the apiserver tells of an entry.
    pub(crate) fn saw(&self, secret: &Secret) -> Seen {
        let (name, version) = (secret.name_any(), version(&secret.metadata));
        let known = self.known(&name).filter(|known| known.version >= version);
        if let Some(record) = known.and_then(|known| known.record) {
            return Seen::Echo(record.entry.resource());
        }
        let stored = stored(secret);
        let resource = stored.resource(&name);
        self.keep(name, stored);
        Seen::News(resource)
    }

    /// Takes in that an entry is gone. Gives its resource if that is news.
    pub(crate) fn lost(&self, name: &str, version: u64) -> Option<ResourceRef> {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        // It may have been written anew already.
        if seen.get(name)?.version > version {
            return None;
        }
        seen.remove(name)?.resource(name)
    }

    fn known(&self, name: &str) -> Option<Stored> {
        self.seen.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn keep(&self, name: String, stored: Stored) {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        if seen.get(&name).is_none_or(|known| known.version < stored.version) {
            seen.insert(name, stored);
        }
    }

    /// Writes an entry unless it says so already. Gives its `resourceVersion`.
    ///
    /// # Errors
    /// See [`Error`]; a conflict when somebody else wrote since it was last seen.
    pub(crate) async fn apply(&self, record: &Record) -> Result<u64, Error> {
        let resource = record.entry.resource();
        let before = self.of(&resource);
        if let Some(Stored { version, record: Some(known), .. }) = &before
            && known.says(record)
        {
            return Ok(*version);
        }
        let name = secret_name(&resource);
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                resource_version: before.as_ref().map(|before| before.version.to_string()),
                labels: Some(labels(&resource)),
                ..ObjectMeta::default()
            },
            type_: Some(ENTRY_TYPE.to_owned()),
            data: Some(BTreeMap::from([(ENTRY.to_owned(), ByteString(record.to_json()?))])),
            ..Secret::default()
        };
        // One that began in an earlier term knows what was so then.
        if self.leadership.term() != Some(record.term) {
            return Err(Error::NotLeader);
        }
        // By hand, or before a backup was restored. Gateways would refuse what is older: another
        // term begins, and with it everything is looked at again.
        if let Some(known) = before.as_ref().and_then(|before| before.record.as_ref())
            && record.is_older_than(known)
        {
            self.surpassed.fetch_max(known.term.saturating_add(1), Ordering::AcqRel);
            return Err(Error::NotLeader);
        }
        let existed = before.is_some();
        let written = put("write the entry", &self.api, &name, &secret, existed).await;
        let written = self.refreshed(&name, written).await?;
        let last = before.filter(|before| before.age().is_some_and(|age| age < SOON));
        let row = last.and_then(|last| last.row.or(last.written));
        let stored = Stored { written: Some(Instant::now()), row, ..stored(&written) };
        let version = stored.version;
        self.keep(name, stored);
        // One that is edited again and again is no storm.
        if row.is_none() {
            self.pace.tick();
        }
        self.telemetry.entry_written(resource.kind);
        tracing::info!(%resource, version, "entry is written");
        Ok(version)
    }

    /// After a conflict an entry is read anew: what was last seen may be later than what there is
    /// now, if the cluster was restored from a backup, and then no watch ever tells of it.
    async fn refreshed<T>(&self, name: &str, done: Result<T, Error>) -> Result<T, Error> {
        if done.as_ref().is_err_and(Error::is_conflict) {
            let live = call("read the entry", self.api.get_opt(name)).await?;
            let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
            match live {
                Some(live) => drop(seen.insert(name.to_owned(), stored(&live))),
                None => drop(seen.remove(name)),
            }
        }
        done
    }

    /// Deletes the entry of a resource, if it is that of the one with this UID.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn delete(&self, resource: &ResourceRef, uid: &str) -> Result<(), Error> {
        let Some(stored) = self.of(resource) else { return Ok(()) };
        if stored.record.as_ref().is_some_and(|record| record.uid != uid) {
            return Ok(());
        }
        self.leadership.term().ok_or(Error::NotLeader)?;
        let name = secret_name(resource);
        let params = exactly(stored.secret.clone(), stored.version);
        let gone = absent_is_fine(call("delete the entry", self.api.delete(&name, &params)).await);
        self.refreshed(&name, gone).await?;
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        if seen.get(&name).is_some_and(|known| known.version == stored.version) {
            seen.remove(&name);
        }
        self.telemetry.entry_deleted(resource.kind);
        tracing::info!(%resource, "entry is deleted");
        Ok(())
    }
}

fn stored(secret: &Secret) -> Stored {
    let json = secret.data.as_ref().and_then(|data| data.get(ENTRY));
    let record = json.and_then(|json| {
        let read = Record::parse(&json.0);
        if let Err(error) = &read {
            let name = secret.name_any();
            tracing::warn!(name, %error, "an entry cannot be read and will be written anew");
        }
        // What says that it is of another resource than its name is no entry of either.
        let is_its = |record: &Record| secret_name(&record.entry.resource()) == secret.name_any();
        read.ok().filter(is_its).map(Arc::new)
    });
    Stored {
        version: version(&secret.metadata),
        secret: secret.uid(),
        record,
        written: None,
        row: None,
    }
}

/// `resourceVersion` as a number: they may be compared since Kubernetes 1.35 says so.
pub(crate) fn version(metadata: &ObjectMeta) -> u64 {
    let text = metadata.resource_version.as_deref();
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn labels(resource: &ResourceRef) -> BTreeMap<String, String> {
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    BTreeMap::from([
        label("app.kubernetes.io/managed-by", "fairway"),
        label("fairway.dev/kind", &resource.kind.to_string()),
        label("fairway.dev/namespace", resource.namespace.as_str()),
    ])
}

/// `server.team.git`. Namespaces have no dots, so no two resources share one.
pub(crate) fn secret_name(ResourceRef { kind, namespace, name }: &ResourceRef) -> String {
    let kind = match kind {
        Kind::Server => "server",
        Kind::Key => "key",
        Kind::Policy => "policy",
    };
    let plain = format!("{kind}.{namespace}.{name}");
    if plain.len() <= MAX_NAME { plain } else { format!("{kind}.{namespace}.{}", hashed(name)) }
}

/// The resource whose entry has this name.
fn resource(secret: &str) -> Option<ResourceRef> {
    let (kind, name) = secret.split_once('.')?;
    let (namespace, name) = name.split_once('.')?;
    let kind = match kind {
        "server" => Kind::Server,
        "key" => Kind::Key,
        "policy" => Kind::Policy,
        _ => return None,
    };
    let resource = ResourceRef { namespace: Namespace::new(namespace), kind, name: name.into() };
    (secret_name(&resource) == secret).then_some(resource)
}

/// 32 hexadecimal digits.
pub(crate) fn hashed(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
