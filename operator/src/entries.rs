//! The entry Secrets: one for each resource, read by the gateways.
//!
//! What was last seen of each is known here, so that nothing is written twice and every write
//! stands on what was seen: a leader that was paused and wakes gets a conflict.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::digest::{SHA256, digest};
use gateway_core::{Kind, Record, ResourceRef};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt};

use crate::lease::Leadership;
use crate::objects::{Error, FIELD_MANAGER, call};

/// Of a Secret that holds an entry.
pub(crate) const ENTRY_TYPE: &str = "fairway.dev/entry";
/// The key of its data.
const ENTRY: &str = "entry";
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
}

/// All entries.
#[derive(Debug)]
pub(crate) struct Entries {
    api: Api<Secret>,
    leadership: Arc<Leadership>,
    seen: RwLock<HashMap<String, Stored>>,
}

impl Entries {
    pub(crate) fn new(client: Client, namespace: &str, leadership: Arc<Leadership>) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, leadership, seen: RwLock::default() }
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

    /// Takes in what the apiserver tells of an entry; an echo from before our own write says
    /// nothing. Gives the resource it is of.
    pub(crate) fn saw(&self, secret: &Secret) -> Option<ResourceRef> {
        let stored = stored(secret);
        let resource = stored.record.as_ref().map(|record| record.entry.resource());
        self.keep(secret.name_any(), stored);
        resource
    }

    /// Takes in that an entry is gone.
    pub(crate) fn lost(&self, secret: &Secret) -> Option<ResourceRef> {
        let gone = stored(secret);
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        let name = secret.name_any();
        if seen.get(&name).is_some_and(|known| known.version <= gone.version) {
            seen.remove(&name);
        }
        gone.record.map(|record| record.entry.resource())
    }

    /// After a full list: forgets what was not in it.
    pub(crate) fn retain(&self, listed: &std::collections::HashSet<String>) {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|name, _| listed.contains(name));
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
                resource_version: before.map(|before| before.version.to_string()),
                labels: Some(labels(&resource)),
                ..ObjectMeta::default()
            },
            type_: Some(ENTRY_TYPE.to_owned()),
            data: Some(BTreeMap::from([(ENTRY.to_owned(), ByteString(record.to_json()?))])),
            ..Secret::default()
        };
        self.leadership.term().ok_or(Error::NotLeader)?;
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let written =
            call("write the entry", self.api.patch(&name, &params, &Patch::Apply(&secret))).await?;
        let stored = stored(&written);
        let version = stored.version;
        self.keep(name, stored);
        tracing::info!(%resource, version, "entry is written");
        Ok(version)
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
        let params = DeleteParams {
            preconditions: Some(Preconditions {
                uid: stored.secret.clone(),
                resource_version: Some(stored.version.to_string()),
            }),
            ..DeleteParams::default()
        };
        match call("delete the entry", self.api.delete(&name, &params)).await {
            Err(Error::Kube(_, error)) if is_not_found(&error) => {}
            other => {
                other?;
            }
        }
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        if seen.get(&name).is_some_and(|known| known.version == stored.version) {
            seen.remove(&name);
        }
        tracing::info!(%resource, "entry is deleted");
        Ok(())
    }
}

pub(crate) fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found())
}

fn stored(secret: &Secret) -> Stored {
    let json = secret.data.as_ref().and_then(|data| data.get(ENTRY));
    let record = json.and_then(|json| {
        let read = Record::parse(&json.0);
        if let Err(error) = &read {
            let name = secret.name_any();
            tracing::warn!(name, %error, "an entry cannot be read and will be written anew");
        }
        read.ok().map(Arc::new)
    });
    Stored { version: version(&secret.metadata), secret: secret.uid(), record }
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

/// Name of the Secret that keeps a server's list.
pub(crate) fn catalog_name(namespace: &str, server: &str) -> String {
    // Both are labels of at most 63 characters.
    format!("catalog.{namespace}.{server}")
}

/// 32 hexadecimal digits.
pub(crate) fn hashed(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use gateway_core::Namespace;

    use super::*;

    #[test]
    fn names_of_secrets_are_names_and_no_two_are_alike() {
        let name = |kind, namespace: &str, name: &str| {
            let namespace = Namespace::new(namespace);
            secret_name(&ResourceRef { kind, namespace, name: name.into() })
        };

        assert_eq!(name(Kind::Server, "team", "git"), "server.team.git");
        assert_ne!(name(Kind::Key, "a", "b.c"), name(Kind::Policy, "a", "b.c"));
        let (long, other) = ("k".repeat(253), format!("{}j", "k".repeat(252)));
        assert!(name(Kind::Key, &"n".repeat(63), &long).len() <= MAX_NAME);
        assert_ne!(name(Kind::Key, "a", &long), name(Kind::Key, "a", &other));
    }
}
