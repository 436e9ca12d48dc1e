//! The routing table of all tenants. Performs no I/O.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;

use crate::tenant::Touched;
use crate::{
    Account, Catalog, Diagnostic, Entry, KeyDigest, KeyEntry, KeyValue, Kind, Namespace,
    PolicyEntry, Reason, ResourceRef, ServerEntry, ServerName, Tenant,
};

/// All entries there are, by tenant, and what the servers offer.
#[derive(Debug, Default)]
pub struct Entries {
    tenants: BTreeMap<Namespace, TenantEntries>,
    /// The servers of others that a tenant may be granted.
    exposed: BTreeMap<Namespace, BTreeSet<(Namespace, ServerName)>>,
    /// Tenants whose table is no longer what the entries say.
    touched: BTreeMap<Namespace, Touched>,
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
        let namespace = entry.resource().namespace;
        let entries = self.tenants.entry(namespace.clone()).or_default();
        match entry {
            Entry::Server(server) => {
                let before = entries.servers.insert(server.name.clone(), server.clone());
                self.expose(before.as_deref(), Some(&server));
                self.touch_offers(&namespace);
            }
            Entry::Key(key) => {
                entries.keys.insert(key.name.clone(), key);
                self.touch_rights(&namespace);
            }
            Entry::Policy(policy) => {
                entries.policies.insert(policy.name.clone(), policy);
                self.touch_rights(&namespace);
            }
        }
    }

    /// Removes the entry of a resource. A server's catalog goes with it.
    pub fn delete(&mut self, resource: &ResourceRef) {
        let Some(entries) = self.tenants.get_mut(&resource.namespace) else { return };
        match resource.kind {
            Kind::Server => {
                let name = ServerName::new(&resource.name);
                entries.catalogs.remove(&name);
                let gone = entries.servers.remove(&name);
                self.expose(gone.as_deref(), None);
                self.touch_offers(&resource.namespace);
            }
            Kind::Key => {
                entries.keys.remove(&resource.name);
                self.touch_rights(&resource.namespace);
            }
            Kind::Policy => {
                entries.policies.remove(&resource.name);
                self.touch_rights(&resource.namespace);
            }
        }
        if self.tenants.get(&resource.namespace).is_some_and(TenantEntries::is_empty) {
            self.tenants.remove(&resource.namespace);
        }
    }

    /// Keeps what a server offers. Of a server that has no entry nothing is kept.
    pub fn offer(&mut self, namespace: &Namespace, server: &ServerName, catalog: Arc<Catalog>) {
        if let Some(entries) = self.tenants.get_mut(namespace)
            && let Some(entry) = entries.servers.get(server).cloned()
        {
            entries.catalogs.insert(server.clone(), catalog);
            self.touch_offers(namespace);
            entry.exposed_to.iter().for_each(|tenant| self.touch_offers(tenant));
        }
    }

    /// What a server offers, as far as it is known.
    pub fn catalog(&self, namespace: &Namespace, server: &ServerName) -> Option<&Arc<Catalog>> {
        self.tenants.get(namespace)?.catalogs.get(server)
    }

    /// Notes to whom a server was exposed and is now.
    fn expose(&mut self, before: Option<&ServerEntry>, now: Option<&ServerEntry>) {
        if let Some(entry) = before {
            for tenant in &entry.exposed_to {
                self.touch_offers(tenant);
                if let Some(exposed) = self.exposed.get_mut(tenant) {
                    exposed.remove(&(entry.namespace.clone(), entry.name.clone()));
                    if exposed.is_empty() {
                        self.exposed.remove(tenant);
                    }
                }
            }
        }
        if let Some(entry) = now {
            for tenant in &entry.exposed_to {
                self.touch_offers(tenant);
                let id = (entry.namespace.clone(), entry.name.clone());
                self.exposed.entry(tenant.clone()).or_default().insert(id);
            }
        }
    }

    fn touch_offers(&mut self, tenant: &Namespace) {
        self.touched.entry(tenant.clone()).or_default().offers = true;
    }

    fn touch_rights(&mut self, tenant: &Namespace) {
        self.touched.entry(tenant.clone()).or_default().rights = true;
    }

    /// The servers that concern a tenant, its own and those exposed to it, each with its list.
    pub(crate) fn servers_of(
        &self,
        tenant: &Namespace,
    ) -> impl Iterator<Item = (&Arc<ServerEntry>, Option<&Arc<Catalog>>)> {
        let own = self.tenants.get(tenant).into_iter().flat_map(|entries| {
            entries.servers.iter().map(|(name, entry)| (entry, entries.catalogs.get(name)))
        });
        let exposed = self.exposed.get(tenant).into_iter().flatten().filter_map(|(owner, name)| {
            let entries = self.tenants.get(owner)?;
            Some((entries.servers.get(name)?, entries.catalogs.get(name)))
        });
        own.chain(exposed)
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

impl TenantEntries {
    fn is_empty(&self) -> bool {
        self.servers.is_empty() && self.keys.is_empty() && self.policies.is_empty()
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
    /// Compiles entries and catalogs. Only what changed since the last time is compiled anew, tenant
    /// by tenant, everything else is taken from `previous`; the tables of `previous` also tell who
    /// holds a tool's name.
    pub fn build(entries: &mut Entries, previous: &Self) -> Self {
        let touched = std::mem::take(&mut entries.touched);
        let compile = |namespace: &Namespace, own: &TenantEntries| {
            let before = previous.tenants.get(namespace);
            match (before, touched.get(namespace)) {
                (Some(tenant), None) => tenant.clone(),
                (before, touched) => {
                    let servers = entries.servers_of(namespace);
                    let before = before.map(AsRef::as_ref).zip(touched.copied());
                    Arc::new(Tenant::compile(namespace, own, servers, before))
                }
            }
        };
        let tenants: BTreeMap<_, _> = entries
            .tenants
            .iter()
            .map(|(namespace, own)| (namespace.clone(), compile(namespace, own)))
            .collect();
        let mut diagnostics: Vec<Diagnostic> =
            tenants.values().flat_map(|tenant| tenant.diagnostics().iter().cloned()).collect();
        let principals = index_keys(&tenants, &previous.principals, &mut diagnostics);
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
        if principal.ends_at().is_some_and(|end| end <= now) {
            return Err(Refusal::Expired);
        }
        Ok(principal.clone())
    }

    /// The same principal as this table has it; `None` when its key is no longer good.
    pub fn renew(&self, principal: &Principal, now: Timestamp) -> Option<Principal> {
        let renewed = self.authenticate(&principal.digest, now).ok()?;
        let same = renewed.key.name == principal.key.name
            && renewed.key.namespace == principal.key.namespace;
        same.then_some(renewed)
    }

    /// All values of all keys, whether they are good or not.
    pub fn principals(&self) -> impl Iterator<Item = &Principal> {
        self.principals.values()
    }

    /// What is wrong with resources as they meet each other.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}

/// Of two resources that hold one key the earlier claim counts.
fn index_keys(
    tenants: &BTreeMap<Namespace, Arc<Tenant>>,
    previous: &HashMap<KeyDigest, Principal>,
    diagnostics: &mut Vec<Diagnostic>,
) -> HashMap<KeyDigest, Principal> {
    let count = tenants.values().map(|tenant| tenant.keys().len()).sum();
    let mut principals = HashMap::with_capacity(count);
    let mut losers: Vec<Arc<KeyEntry>> = Vec::new();
    for (tenant, (key, entitlement)) in
        tenants.values().flat_map(|tenant| tenant.keys().iter().map(move |key| (tenant, key)))
    {
        for KeyValue { digest, .. } in &key.values {
            let principal = || Principal {
                tenant: tenant.clone(),
                key: held(key, previous.get(digest)),
                digest: *digest,
                entitlement: *entitlement,
            };
            match principals.entry(*digest) {
                MapEntry::Vacant(free) => {
                    free.insert(principal());
                }
                MapEntry::Occupied(taken) if Arc::ptr_eq(&taken.get().key.entry, key) => {}
                MapEntry::Occupied(mut taken) if key.claim < taken.get().key.claim => {
                    losers.push(taken.insert(principal()).key.entry.clone());
                }
                MapEntry::Occupied(_) => losers.push(key.clone()),
            }
        }
    }
    losers.sort_by(|a, b| a.claim.cmp(&b.claim));
    diagnostics.extend(losers.into_iter().map(|key| Diagnostic {
        resource: Entry::Key(key).resource(),
        reason: Reason::KeyConflict,
        message: "another McpApiKey holds the same key; give this one a key of its own".to_owned(),
    }));
    principals
}

/// The key of a principal. The account of one that was there before goes on.
fn held(key: &Arc<KeyEntry>, before: Option<&Principal>) -> Arc<HeldKey> {
    let before = before.map(|before| &before.key);
    if let Some(same) = before.filter(|before| Arc::ptr_eq(&before.entry, key)) {
        return same.clone();
    }
    let account = before
        .filter(|before| before.claim == key.claim && before.namespace == key.namespace)
        .map_or_else(Arc::default, |before| before.account.clone());
    Arc::new(HeldKey { entry: key.clone(), account })
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
    pub key: Arc<HeldKey>,
    /// Which of the key's values it was.
    digest: KeyDigest,
    /// Index of the tenant's entitlement that is this principal's.
    pub(crate) entitlement: usize,
}

/// A key, and what is counted of one of its values: one hold on both, as every request takes it.
#[derive(Debug)]
pub struct HeldKey {
    entry: Arc<KeyEntry>,
    /// Table after table holds the same one.
    pub account: Arc<Account>,
}

impl Deref for HeldKey {
    type Target = KeyEntry;

    fn deref(&self) -> &KeyEntry {
        &self.entry
    }
}

impl Principal {
    /// Which of the key's values was presented: by it [`Snapshot::authenticate`] finds the principal
    /// again.
    pub const fn digest(&self) -> KeyDigest {
        self.digest
    }

    /// From when on the key, or the value of it that was presented, is not valid.
    pub fn ends_at(&self) -> Option<Timestamp> {
        let value = self.key.values.iter().find(|value| value.digest == self.digest);
        let ends = [self.key.expires_at, value.and_then(|value| value.not_after)];
        ends.into_iter().flatten().min()
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.key.namespace, self.key.name)
    }
}
