//! The Secrets of the entries' namespace as they were last seen, and what each change of them
//! means. Performs no I/O.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use gateway_core::{Catalog, Entry, Forbidden, Kind, Record, ResourceRef};
use k8s_openapi::api::core::v1::Secret;

use super::read::{Held, Stored, read};
use crate::table::{News, Rejected, ServerId};

/// The Secrets, by name.
#[derive(Debug, Default)]
pub(super) struct Objects {
    known: BTreeMap<String, Known>,
    /// Which Secret holds the entry of a resource.
    holders: HashMap<ResourceRef, String>,
    /// What a list under way has named so far.
    listing: Option<HashSet<String>>,
    /// What became different and was not yet told.
    news: News,
    /// Whether other things than before are not taken.
    rejected: bool,
    /// Ranges that were read and not yet put in force.
    forbidden: Option<Forbidden>,
    /// Highest version that was seen.
    watermark: u64,
}

/// One Secret.
#[derive(Debug, Default)]
struct Known {
    version: String,
    /// What it holds, in its last good version.
    held: Option<Held>,
    /// Why what it holds now is not taken.
    rejected: Option<String>,
}

impl Objects {
    /// A list begins anew.
    pub(super) fn begin_list(&mut self) {
        self.listing = Some(HashSet::new());
    }

    /// What the list names. It is told when the list is complete.
    pub(super) fn list(&mut self, secret: &Secret) {
        let Some(name) = &secret.metadata.name else { return };
        self.take(name, secret);
        if let Some(listing) = &mut self.listing {
            listing.insert(name.clone());
        }
    }

    /// What a complete list says; what it does not name is gone. `None` if it is not to be
    /// believed: the operator always keeps its config there, so an empty list is that of a
    /// namespace that was lost, or of a storage that is not what it was.
    pub(super) fn end_list(&mut self) -> Option<News> {
        let listing = self.listing.take().unwrap_or_default();
        if listing.is_empty() && !self.known.is_empty() {
            return None;
        }
        let absent = |name: &&String| !listing.contains(*name);
        let gone: Vec<String> = self.known.keys().filter(absent).cloned().collect();
        for name in gone {
            self.forget(&name);
        }
        // Deletions are told first, and a list that was given up half-way may have named what this
        // one does not.
        let holders = &self.holders;
        self.news.applied.retain(|entry| holders.contains_key(&entry.resource()));
        Some(self.told())
    }

    pub(super) fn apply(&mut self, secret: &Secret) -> News {
        if let Some(name) = &secret.metadata.name {
            self.take(name, secret);
        }
        self.told()
    }

    pub(super) fn delete(&mut self, secret: &Secret) -> News {
        self.see(version_of(secret));
        if let Some(name) = &secret.metadata.name {
            self.forget(name);
        }
        self.told()
    }

    /// Ranges to put in force, if there are new ones.
    pub(super) fn take_forbidden(&mut self) -> Option<Forbidden> {
        self.forbidden.take()
    }

    fn told(&mut self) -> News {
        let rejected = std::mem::take(&mut self.rejected).then(|| self.all_rejected());
        News { rejected, watermark: self.watermark, ..std::mem::take(&mut self.news) }
    }

    fn see(&mut self, version: &str) {
        // Versions that are no numbers are of no API server that we know.
        self.watermark = self.watermark.max(version.parse().unwrap_or_default());
    }

    /// All that is not taken, and why.
    fn all_rejected(&self) -> Vec<Rejected> {
        let rejected = self.known.iter().filter_map(|(name, known)| {
            let resource = match &known.held {
                Some(Held::Entry(record)) => Some(record.entry.resource().to_string()),
                _ => None,
            };
            Some(Rejected { file: name.clone(), resource, reason: known.rejected.clone()? })
        });
        rejected.collect()
    }

    fn take(&mut self, name: &str, secret: &Secret) {
        let version = version_of(secret);
        self.see(version);
        let mut known = self.known.remove(name).unwrap_or_default();
        if known.version != version || version.is_empty() {
            known.version = version.to_owned();
            let held =
                read(name, secret).and_then(|held| self.check(name, held, known.held.as_ref()));
            let rejected = match held {
                Ok(held) => {
                    self.replace(name, known.held.as_ref(), held.as_ref());
                    known.held = held;
                    None
                }
                Err(reason) => Some(reason),
            };
            if rejected != known.rejected {
                if let Some(reason) = &rejected {
                    tracing::warn!(entry = name, reason, "entry is not taken");
                }
                known.rejected = rejected;
                self.rejected = true;
            }
        }
        self.known.insert(name.to_owned(), known);
    }

    fn forget(&mut self, name: &str) {
        if let Some(known) = self.known.remove(name) {
            self.replace(name, known.held.as_ref(), None);
            self.rejected |= known.rejected.is_some();
        }
    }

    /// Refuses an entry that is another one's, or older than what the Secret held before.
    fn check(
        &self,
        name: &str,
        held: Option<Held>,
        before: Option<&Held>,
    ) -> Result<Option<Held>, String> {
        let Some(Held::Entry(record)) = &held else { return Ok(held) };
        let resource = record.entry.resource();
        if let Some(holder) = self.holders.get(&resource).filter(|holder| *holder != name) {
            return Err(format!("{resource} is already in {holder}"));
        }
        if let Some(Held::Entry(newer)) = before
            && record.is_older_than(newer)
        {
            return Err(format!(
                "it was written in term {} for generation {}, after one of term {} for generation \
                 {}: by an operator that does not lead any more",
                record.term, record.generation, newer.term, newer.generation
            ));
        }
        Ok(held)
    }

    /// Tells what becomes of it that a Secret holds something else now.
    fn replace(&mut self, name: &str, before: Option<&Held>, now: Option<&Held>) {
        let before = match before {
            Some(Held::Entry(before)) => Some(before),
            _ => None,
        };
        if let Some(before) = before {
            let resource = before.entry.resource();
            // One that was made anew under its name is another one.
            let same = |now: &Record| now.uid == before.uid && now.entry.resource() == resource;
            if !matches!(now, Some(Held::Entry(now)) if same(now)) {
                self.holders.remove(&resource);
                self.news.deleted.push(resource);
            }
        }
        match now {
            Some(Held::Entry(record)) => {
                self.holders.insert(record.entry.resource(), name.to_owned());
                let is_it =
                    |before: &Record| before.uid == record.uid && before.entry == record.entry;
                if before.is_none_or(|before| !is_it(before)) {
                    self.news.applied.push(record.entry.clone());
                }
                if before.is_none_or(|before| before.uid != record.uid) {
                    let stored = self.list_of(record);
                    self.news.stored.extend(stored);
                }
            }
            Some(Held::List(stored)) if self.is_current(stored) => {
                self.news.stored.push((stored.server.clone(), stored.catalog.clone()));
            }
            Some(Held::Config(forbidden)) => self.forbidden = Some(forbidden.clone()),
            _ => {}
        }
    }

    /// The list that was stored of a server.
    fn list_of(&self, record: &Record) -> Option<(ServerId, Arc<Catalog>)> {
        let Entry::Server(server) = &record.entry else { return None };
        let name = format!("catalog.{}.{}", server.namespace, server.name);
        match self.known.get(&name)?.held.as_ref()? {
            Held::List(stored) if stored.uid == record.uid => {
                Some((stored.server.clone(), stored.catalog.clone()))
            }
            _ => None,
        }
    }

    /// Whether the list is of the server that there is, not of one before it.
    fn is_current(&self, stored: &Stored) -> bool {
        let (namespace, name) = &stored.server;
        let resource = ResourceRef {
            namespace: namespace.clone(),
            kind: Kind::Server,
            name: name.as_str().into(),
        };
        let holder = self.holders.get(&resource).and_then(|holder| self.known.get(holder));
        let held = holder.and_then(|known| known.held.as_ref());
        matches!(held, Some(Held::Entry(record)) if record.uid == stored.uid)
    }
}

fn version_of(secret: &Secret) -> &str {
    secret.metadata.resource_version.as_deref().unwrap_or_default()
}
