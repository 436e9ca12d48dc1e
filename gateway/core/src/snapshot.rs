//! The routing table of all tenants. Performs no I/O.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    Catalog, Diagnostic, Entry, KeyDigest, KeyEntry, Kind, Namespace, PolicyEntry, Reason,
    ResourceRef, ServerEntry, ServerName, Tenant,
};

/// All entries there are, by tenant, and what the servers offer.
#[derive(Debug, Default)]
pub struct Entries {
    tenants: BTreeMap<Namespace, TenantEntries>,
}

/// The entries of one tenant.
#[derive(Debug, Default)]
pub(crate) struct TenantEntries {
    pub(crate) servers: BTreeMap<ServerName, Arc<ServerEntry>>,
    pub(crate) keys: BTreeMap<Arc<str>, Arc<KeyEntry>>,
    pub(crate) policies: BTreeMap<Arc<str>, Arc<PolicyEntry>>,
    pub(crate) catalogs: BTreeMap<ServerName, Arc<Catalog>>,
}

impl Entries {
    /// Adds an entry, or puts it in the place of the one from the same resource.
    pub fn apply(&mut self, entry: Entry) {
        let entries = self.tenants.entry(entry.resource().namespace).or_default();
        match entry {
            Entry::Server(server) => {
                entries.servers.insert(server.name.clone(), server);
            }
            Entry::Key(key) => {
                entries.keys.insert(key.name.clone(), key);
            }
            Entry::Policy(policy) => {
                entries.policies.insert(policy.name.clone(), policy);
            }
        }
    }

    /// Removes the entry of a resource. A server's catalog goes with it.
    pub fn delete(&mut self, resource: &ResourceRef) {
        let Some(entries) = self.tenants.get_mut(&resource.namespace) else { return };
        match resource.kind {
            Kind::Server => {
                let name = ServerName::new(&resource.name);
                entries.servers.remove(&name);
                entries.catalogs.remove(&name);
            }
            Kind::Key => {
                entries.keys.remove(&resource.name);
            }
            Kind::Policy => {
                entries.policies.remove(&resource.name);
            }
        }
        if entries.servers.is_empty() && entries.keys.is_empty() && entries.policies.is_empty() {
            self.tenants.remove(&resource.namespace);
        }
    }

    /// Keeps what a server offers. Of a server that has no entry nothing is kept.
    pub fn offer(&mut self, namespace: &Namespace, server: &ServerName, catalog: Arc<Catalog>) {
        if let Some(entries) = self.tenants.get_mut(namespace)
            && entries.servers.contains_key(server)
        {
            entries.catalogs.insert(server.clone(), catalog);
        }
    }

    /// A server by name.
    pub fn server(&self, namespace: &Namespace, name: &ServerName) -> Option<&Arc<ServerEntry>> {
        self.tenants.get(namespace)?.servers.get(name)
    }

    /// All servers of all tenants.
    pub fn servers(&self) -> impl Iterator<Item = &Arc<ServerEntry>> {
        self.tenants.values().flat_map(|entries| entries.servers.values())
    }
}

/// An immutable routing table: who is who, and what each may see and call.
#[derive(Debug, Default)]
pub struct Snapshot {
    tenants: BTreeMap<Namespace, Arc<Tenant>>,
    principals: HashMap<KeyDigest, Principal>,
    diagnostics: Vec<Diagnostic>,
}

impl Snapshot {
    /// Compiles entries and catalogs. Only the tenants in `touched` are compiled anew, all others
    /// are taken from `previous`; the tables of `previous` also tell who holds a tool's name.
    pub fn build(entries: &Entries, touched: &BTreeSet<Namespace>, previous: &Self) -> Self {
        let tenants: BTreeMap<_, _> = entries
            .tenants
            .iter()
            .map(|(namespace, entries)| {
                let before = previous.tenants.get(namespace);
                let tenant = match before {
                    Some(tenant) if !touched.contains(namespace) => tenant.clone(),
                    _ => Arc::new(Tenant::compile(namespace, entries, before.map(AsRef::as_ref))),
                };
                (namespace.clone(), tenant)
            })
            .collect();
        let mut diagnostics: Vec<Diagnostic> =
            tenants.values().flat_map(|tenant| tenant.diagnostics().iter().cloned()).collect();
        let principals = index_keys(&tenants, &mut diagnostics);
        Self { tenants, principals, diagnostics }
    }

    /// Whom a key with this digest belongs to.
    ///
    /// # Errors
    /// No such key, or one that is switched off or expired at `now`.
    pub fn authenticate(&self, digest: &KeyDigest, now: Timestamp) -> Result<Principal, Refusal> {
        let principal = self.principals.get(digest).ok_or(Refusal::Unknown)?;
        if principal.key.disabled {
            return Err(Refusal::Disabled);
        }
        match principal.key.expires_at {
            Some(end) if end <= now => Err(Refusal::Expired),
            _ => Ok(principal.clone()),
        }
    }

    /// The same principal as this table has it; `None` when its key is no longer good.
    pub fn renew(&self, principal: &Principal, now: Timestamp) -> Option<Principal> {
        let renewed = self.authenticate(&principal.key.digest, now).ok()?;
        let same = renewed.key.name == principal.key.name
            && renewed.key.namespace == principal.key.namespace;
        same.then_some(renewed)
    }

    /// What is wrong with resources as they meet each other.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}

/// Of two resources that hold one key the earlier claim counts.
fn index_keys(
    tenants: &BTreeMap<Namespace, Arc<Tenant>>,
    diagnostics: &mut Vec<Diagnostic>,
) -> HashMap<KeyDigest, Principal> {
    let mut claims: Vec<Principal> = tenants
        .values()
        .flat_map(|tenant| {
            tenant.keys().iter().map(|(key, entitlement)| Principal {
                tenant: tenant.clone(),
                key: key.clone(),
                entitlement: *entitlement,
            })
        })
        .collect();
    claims.sort_by(|a, b| a.key.claim.cmp(&b.key.claim));
    let mut principals = HashMap::with_capacity(claims.len());
    for principal in claims {
        match principals.entry(principal.key.digest) {
            MapEntry::Vacant(free) => {
                free.insert(principal);
            }
            MapEntry::Occupied(_) => diagnostics.push(Diagnostic {
                resource: Entry::Key(principal.key).resource(),
                reason: Reason::KeyConflict,
                message: "another McpApiKey holds the same key; give this one a key of its own"
                    .to_owned(),
            }),
        }
    }
    principals
}

/// Why a credential is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No McpApiKey holds it.
    #[error("invalid API key")]
    Unknown,
    /// `disabled: true`
    #[error("API key is disabled")]
    Disabled,
    /// After `expiresAt`.
    #[error("API key has expired")]
    Expired,
}

/// Who makes a request, as the table of one moment has it: always a tenant and a subject.
#[derive(Clone)]
pub struct Principal {
    /// The tenant's table, pinned.
    pub tenant: Arc<Tenant>,
    /// The key that was presented.
    pub key: Arc<KeyEntry>,
    /// Index of the tenant's entitlement that is this principal's.
    pub(crate) entitlement: usize,
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.key.namespace, self.key.name)
    }
}
