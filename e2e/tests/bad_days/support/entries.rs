//! Every entry as it is written, one after the other: what was ever there shows, however short.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result};
use e2e::cluster::release::ENTRIES;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt as _,
    runtime::{WatchStreamExt as _, watcher, watcher::Event},
};
use serde::Deserialize;
use tokio::{sync::watch, task::JoinSet, time::Instant};

/// Who wrote an entry, from what.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Record {
    pub(crate) uid: String,
    pub(crate) generation: i64,
    pub(crate) term: i64,
}

/// An entry that was written or deleted.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) name: String,
    /// None if it was deleted.
    pub(crate) record: Option<Record>,
}

/// The record in a Secret, if it holds an entry that can be read.
pub(crate) fn record(secret: &Secret) -> Option<Record> {
    serde_json::from_slice(&secret.data.as_ref()?.get("entry")?.0).ok()
}

/// What a watch has seen.
struct Notes {
    log: Arc<Mutex<Vec<Seen>>>,
    there: BTreeSet<String>,
    /// What a list under way has named.
    listing: BTreeSet<String>,
}

impl Notes {
    fn is(&mut self, secret: &Secret) {
        // What holds no entry is not looked at.
        if let Some(record) = record(secret) {
            self.there.insert(secret.name_any());
            self.note(secret.name_any(), Some(record));
        }
    }

    fn is_gone(&mut self, name: &str) {
        if self.there.remove(name) {
            self.note(name.to_owned(), None);
        }
    }

    fn note(&self, name: String, record: Option<Record>) {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(Seen { at: Instant::now(), name, record });
    }
}

/// Watches the entries until it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    seen: Arc<Mutex<Vec<Seen>>>,
    _task: JoinSet<()>,
}

impl Watch {
    /// Begins once everything that is there was seen.
    pub(crate) async fn start(client: &Client) -> Result<Self> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (listed, mut is_listed) = watch::channel(false);
        let api = Api::<Secret>::namespaced(client.clone(), ENTRIES);
        let (log, mut task) = (seen.clone(), JoinSet::new());
        task.spawn(async move {
            let mut events = pin!(watcher(api, watcher::Config::default()).default_backoff());
            let mut notes = Notes { log, there: BTreeSet::new(), listing: BTreeSet::new() };
            while let Some(event) = events.next().await {
                match event {
                    Ok(Event::Init) => notes.listing.clear(),
                    Ok(Event::InitApply(secret)) => {
                        notes.listing.insert(secret.name_any());
                        notes.is(&secret);
                    }
                    Ok(Event::InitDone) => {
                        let gone = notes.there.difference(&notes.listing);
                        let gone: Vec<String> = gone.cloned().collect();
                        gone.iter().for_each(|name| notes.is_gone(name));
                        listed.send_replace(true);
                    }
                    Ok(Event::Apply(secret)) => notes.is(&secret),
                    Ok(Event::Delete(secret)) => notes.is_gone(&secret.name_any()),
                    // It is tried again.
                    Err(_) => {}
                }
            }
        });
        is_listed.wait_for(|listed| *listed).await.context("the watch of entries ended")?;
        Ok(Self { seen, _task: task })
    }

    pub(crate) fn all(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was written in an earlier term or from an earlier generation than what it took the place of.
    pub(crate) fn reverts(&self) -> Vec<(Record, Seen)> {
        let mut newest: BTreeMap<String, Record> = BTreeMap::new();
        let mut reverts = Vec::new();
        for seen in self.all() {
            let Some(record) = &seen.record else { continue };
            let before = newest.insert(seen.name.clone(), record.clone());
            if let Some(before) = before.filter(|before| before.uid == record.uid)
                && (record.term, record.generation) < (before.term, before.generation)
            {
                reverts.push((before, seen));
            }
        }
        reverts
    }

    /// How long each of these entries was there again after it had been deleted at first.
    pub(crate) fn returned(&self, name: &str) -> Vec<Duration> {
        let mut returned = Vec::new();
        let (mut was_deleted, mut back) = (false, None);
        for seen in self.all().into_iter().filter(|seen| seen.name == name) {
            match (&seen.record, back) {
                (Some(_), None) if was_deleted => back = Some(seen.at),
                (None, Some(since)) => {
                    returned.push(seen.at - since);
                    back = None;
                }
                _ => {}
            }
            was_deleted |= seen.record.is_none();
        }
        returned.extend(back.map(|since| since.elapsed()));
        returned
    }
}
