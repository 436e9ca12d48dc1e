//! Who waits for the gateways to reach a `resourceVersion`. Performs no I/O.

use std::collections::{BTreeMap, HashMap};

use gateway_core::ResourceRef;

/// Resources by the version they wait for: each for one only, the latest, so that there are never
/// more than resources.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    by_version: BTreeMap<u64, ResourceRef>,
    of: HashMap<ResourceRef, u64>,
}

impl Waiting {
    /// It waits for this version, and for no other any more. A version is that of one entry.
    pub(super) fn add(&mut self, resource: &ResourceRef, version: u64) {
        self.remove(resource);
        self.by_version.insert(version, resource.clone());
        self.of.insert(resource.clone(), version);
    }

    /// It waits no more.
    pub(super) fn remove(&mut self, resource: &ResourceRef) {
        if let Some(version) = self.of.remove(resource) {
            self.by_version.remove(&version);
        }
    }

    /// Takes out those who wait for this version or an earlier one.
    pub(super) fn take(&mut self, reached: u64) -> Vec<ResourceRef> {
        let later = self.by_version.split_off(&reached.saturating_add(1));
        let due = std::mem::replace(&mut self.by_version, later);
        let due: Vec<ResourceRef> = due.into_values().collect();
        for resource in &due {
            self.of.remove(resource);
        }
        due
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.by_version.len(), self.of.len());
        self.of.len()
    }
}
