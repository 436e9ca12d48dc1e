//! What the gateways report: how far they have come, how servers are doing, which keys are used.
//! Performs no I/O; [`stream`] does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use gateway_core::report::{Conflict, KeyUse, Line, ServerId, ServerReport, Watermark};
use gateway_core::{Kind, ResourceRef};
use jiff::Timestamp;
use tokio::time::sleep;

use crate::bell::Bell;
use crate::conditions::Verdict;

pub(crate) mod stream;
mod waiting;

use waiting::Waiting;

/// One gateway's report.
#[derive(Debug, Default)]
struct Gateway {
    pod: String,
    /// Whether Kubernetes sends it clients.
    ready: bool,
    table: Option<Watermark>,
    servers: HashMap<ServerId, ServerReport>,
    conflicts: Vec<Conflict>,
}

impl Gateway {
    fn reached(&self) -> u64 {
        self.table.filter(|table| table.complete).map_or(0, |table| table.resource_version)
    }
}

/// For whom to ring when something is reported.
#[derive(Debug, Default)]
pub(crate) struct Bells {
    pub(crate) servers: Arc<Bell>,
    pub(crate) keys: Arc<Bell>,
    pub(crate) policies: Arc<Bell>,
    /// Policies that are in no hurry: whom they apply to is another.
    pub(crate) later: Arc<Bell>,
}

/// How long whom a policy applies to may be out of date: each look compares it with everything in
/// its namespace, which may be about to change a thousand times.
const LATER: Duration = Duration::from_secs(1);

impl Bells {
    /// Rings for those in no hurry, as long as it is polled.
    pub(crate) async fn ring_later(self: Arc<Self>) {
        loop {
            self.later.rung().await;
            sleep(LATER).await;
            self.policies.ring_all(self.later.take());
        }
    }

    pub(crate) fn ring(&self, resource: &ResourceRef) {
        let bell = match resource.kind {
            Kind::Server => &self.servers,
            Kind::Key => &self.keys,
            Kind::Policy => &self.policies,
        };
        bell.ring(resource.namespace.as_str(), &resource.name);
    }
}

/// All gateways, by the UID of their pod.
#[derive(Debug, Default)]
pub(crate) struct Gateways {
    bells: Arc<Bells>,
    gateways: RwLock<BTreeMap<String, Gateway>>,
    /// Who waits for the gateways to reach a `resourceVersion`.
    waiting: Mutex<Waiting>,
    used: Mutex<HashMap<(String, String), Timestamp>>,
}

/// What one ready gateway says of a server.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) pod: String,
    /// None until it said something.
    pub(crate) report: Option<ServerReport>,
}

impl Gateways {
    pub(crate) fn new(bells: Arc<Bells>) -> Self {
        Self { bells, ..Self::default() }
    }

    /// Whether every ready gateway knows the entry of this `resourceVersion`. Who asks is told when
    /// that changes.
    pub(crate) fn programmed(&self, resource: &ResourceRef, version: u64) -> Verdict {
        // Noted first, so that no report falls between.
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.add(resource, version);
        let gateways = self.read();
        let ready = || gateways.values().filter(|gateway| gateway.ready);
        if ready().next().is_none() {
            let message = "no gateway is ready; it is in force as soon as one is";
            return Verdict::unknown("NoGateway", message);
        }
        let behind: Vec<&str> = ready()
            .filter(|gateway| gateway.reached() < version)
            .map(|gateway| &*gateway.pod)
            .collect();
        if !behind.is_empty() {
            let message = format!("not yet known to {}", behind.join(", "));
            return Verdict::no("Pending", message);
        }
        // Ready gateways may come that are behind; they have read everything before they are ready.
        waiting.remove(resource);
        Verdict::yes("Programmed", "every ready gateway knows it")
    }

    /// What each ready gateway says of a server.
    pub(crate) fn views(&self, id: &ServerId, uid: &str) -> Vec<View> {
        let gateways = self.read();
        let ready = gateways.values().filter(|gateway| gateway.ready);
        let view = |gateway: &Gateway| View {
            pod: gateway.pod.clone(),
            report: gateway.servers.get(id).filter(|report| report.uid == uid).cloned(),
        };
        ready.map(view).collect()
    }

    /// Why a resource is in another one's way, as the gateways see it.
    pub(crate) fn conflicts(&self, resource: &ResourceRef) -> Vec<Conflict> {
        let gateways = self.read();
        let mut found: Vec<Conflict> = Vec::new();
        for conflict in gateways.values().flat_map(|gateway| &gateway.conflicts) {
            let of = (conflict.kind, &conflict.namespace, &*conflict.name);
            if of == (resource.kind, &resource.namespace, &*resource.name)
                && !found.contains(conflict)
            {
                found.push(conflict.clone());
            }
        }
        found
    }

    /// When a key was last used, by any client at any gateway.
    pub(crate) fn last_used(&self, namespace: &str, name: &str) -> Option<Timestamp> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.get(&(namespace.to_owned(), name.to_owned())).copied()
    }

    /// Forgets a resource that is gone.
    pub(crate) fn forget(&self, resource: &ResourceRef) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(resource);
        if resource.kind == Kind::Key {
            let id = (resource.namespace.to_string(), resource.name.to_string());
            self.used.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        }
    }

    /// How many gateways are ready.
    pub(crate) fn ready(&self) -> usize {
        self.read().values().filter(|gateway| gateway.ready).count()
    }

    /// Takes in which pods there are. A gateway that is gone no longer counts.
    pub(crate) fn set_pod(&self, uid: &str, pod: &str, ready: bool) {
        let mut gateways = self.gateways.write().unwrap_or_else(PoisonError::into_inner);
        let gateway = gateways.entry(uid.to_owned()).or_default();
        pod.clone_into(&mut gateway.pod);
        let changed = std::mem::replace(&mut gateway.ready, ready) != ready;
        drop(gateways);
        if changed {
            self.ring_everyone();
        }
    }

    pub(crate) fn remove_pod(&self, uid: &str) {
        let gone = self.gateways.write().unwrap_or_else(PoisonError::into_inner).remove(uid);
        if gone.is_some() {
            self.ring_everyone();
        }
    }

    /// A report begins anew.
    pub(crate) fn begin(&self, uid: &str) {
        if let Some(gateway) =
            self.gateways.write().unwrap_or_else(PoisonError::into_inner).get_mut(uid)
        {
            let Gateway { pod, ready, .. } = std::mem::take(gateway);
            *gateway = Gateway { pod, ready, ..Gateway::default() };
        }
    }

    /// Takes in one line of a gateway's report.
    pub(crate) fn take(&self, uid: &str, line: Line) {
        let mut gateways = self.gateways.write().unwrap_or_else(PoisonError::into_inner);
        let Some(gateway) = gateways.get_mut(uid) else { return };
        match line {
            Line::Hello(_) => {}
            Line::Table(watermark) => {
                gateway.table = Some(watermark);
                drop(gateways);
                self.ring_reached();
            }
            Line::Server(report) => {
                let id = report.server.clone();
                gateway.servers.insert(id.clone(), *report);
                drop(gateways);
                self.bells.servers.ring(id.namespace.as_str(), id.name.as_str());
            }
            Line::ServerGone(id) => {
                gateway.servers.remove(&id);
            }
            Line::Conflicts(now) => {
                let before = std::mem::replace(&mut gateway.conflicts, now.clone());
                drop(gateways);
                let news = now.iter().filter(|conflict| !before.contains(conflict));
                let over = before.iter().filter(|conflict| !now.contains(conflict));
                for Conflict { kind, namespace, name, .. } in news.chain(over) {
                    let (namespace, name) = (namespace.clone(), name.as_str().into());
                    self.bells.ring(&ResourceRef { namespace, kind: *kind, name });
                }
            }
            Line::Rejected(rejected) => {
                for entry in rejected {
                    let (pod, name, reason) = (&gateway.pod, &entry.entry, &entry.reason);
                    tracing::error!(%pod, %name, %reason, "a gateway cannot read an entry");
                }
            }
            Line::Used(keys) => {
                drop(gateways);
                self.take_uses(keys);
            }
        }
    }

    fn take_uses(&self, keys: Vec<KeyUse>) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        for KeyUse { namespace, name, at } in keys {
            let id = (namespace.to_string(), name);
            if used.get(&id).is_none_or(|before| *before < at) {
                used.insert(id.clone(), at);
                self.bells.keys.ring(&id.0, &id.1);
            }
        }
    }

    /// Tells those whose entry every ready gateway has reached.
    fn ring_reached(&self) {
        let reached = self.read().values().filter(|g| g.ready).map(Gateway::reached).min();
        let Some(reached) = reached else { return };
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let due = waiting.take(reached);
        drop(waiting);
        due.iter().for_each(|resource| self.bells.ring(resource));
    }

    /// Another gateway counts, or one less: what everybody is told may be another.
    fn ring_everyone(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let all = waiting.take(u64::MAX);
        drop(waiting);
        all.iter().for_each(|resource| self.bells.ring(resource));
        let servers: HashSet<(String, String)> = self
            .read()
            .values()
            .flat_map(|gateway| gateway.servers.keys())
            .map(|id| (id.namespace.to_string(), id.name.to_string()))
            .collect();
        self.bells.servers.ring_all(servers);
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<String, Gateway>> {
        self.gateways.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use gateway_core::Namespace;

    use super::*;
    use crate::conditions::Holds;

    fn resource() -> ResourceRef {
        ResourceRef { namespace: Namespace::new("team"), kind: Kind::Key, name: "alice".into() }
    }

    fn reached(version: u64) -> Line {
        Line::Table(Watermark { resource_version: version, complete: true })
    }

    #[test]
    fn programmed_when_every_ready_gateway_has_reached_it() {
        let gateways = Gateways::default();
        let programmed = |version| gateways.programmed(&resource(), version).holds;
        assert_eq!(programmed(5), Holds::Unknown);

        gateways.set_pod("1", "one", true);
        gateways.set_pod("2", "two", false);
        gateways.begin("1");
        assert_eq!(programmed(5), Holds::No);
        gateways.take("1", reached(5));
        assert_eq!(programmed(5), Holds::Yes);
        assert_eq!(programmed(6), Holds::No);

        gateways.set_pod("2", "two", true);
        assert_eq!(programmed(5), Holds::No);
        assert!(gateways.programmed(&resource(), 5).message.contains("two"));
        gateways.take("2", Line::Table(Watermark { resource_version: 9, complete: false }));
        assert_eq!(programmed(5), Holds::No);
        gateways.take("2", reached(9));
        assert_eq!(programmed(5), Holds::Yes);
        gateways.remove_pod("1");
        assert_eq!(programmed(9), Holds::Yes);
    }

    #[test]
    fn who_waits_is_told_when_it_is_reached() {
        let bells = Arc::new(Bells::default());
        let gateways = Gateways::new(bells.clone());
        gateways.set_pod("1", "one", true);
        gateways.programmed(&resource(), 5);

        gateways.take("1", reached(4));
        assert!(bells.keys.is_silent());
        gateways.take("1", reached(7));

        assert!(!bells.keys.is_silent());
        assert!(bells.policies.is_silent());
    }

    #[test]
    fn a_resource_waits_for_one_version_until_it_is_gone() {
        let gateways = Gateways::default();
        for version in 1..100 {
            gateways.programmed(&resource(), version);
        }
        assert_eq!(gateways.waiting.lock().unwrap().len(), 1);

        gateways.forget(&resource());

        assert_eq!(gateways.waiting.lock().unwrap().len(), 0);
    }

    #[test]
    fn who_waited_for_an_earlier_version_is_not_told_of_it() {
        let bells = Arc::new(Bells::default());
        let gateways = Gateways::new(bells.clone());
        gateways.set_pod("1", "one", true);
        gateways.programmed(&resource(), 5);
        gateways.programmed(&resource(), 9);

        gateways.take("1", reached(8));
        assert!(bells.keys.is_silent());
        gateways.take("1", reached(9));
        assert!(!bells.keys.is_silent());
    }

    #[test]
    fn a_use_is_remembered_as_long_as_there_is_the_key() {
        let gateways = Gateways::default();
        gateways.set_pod("1", "one", true);
        let used = |second: i64| {
            let at = Timestamp::from_second(second).unwrap();
            Line::Used(vec![KeyUse {
                namespace: Namespace::new("team"),
                name: "alice".to_owned(),
                at,
            }])
        };
        let last = || gateways.last_used("team", "alice").map(Timestamp::as_second);

        gateways.take("1", used(60));
        gateways.take("1", used(0));
        assert_eq!(last(), Some(60));
        gateways.forget(&resource());
        assert_eq!(last(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn policies_in_no_hurry_are_rung_for_together() {
        let bells = Arc::new(Bells::default());
        let task = tokio::spawn(bells.clone().ring_later());

        for name in ["a", "b", "a"] {
            bells.later.ring("team", name);
            sleep(LATER / 4).await;
        }
        assert!(bells.policies.is_silent());
        sleep(LATER).await;

        assert_eq!(bells.policies.take().len(), 2);
        task.abort();
    }
}
