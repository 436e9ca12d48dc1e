//! Manifests in directories: read at the start and whenever something changes there.
//!
//! Like `kubectl apply -f DIR`: files `*.yaml`, `*.yml` and `*.json`, not those of folders inside.
//! What does not parse or validate leaves the last good version in force.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway_core::{Claim, Entry, Pepper, References, ResourceRef, Secrets};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::manifest::{Document, Unreadable, read};
use crate::table::{Change, Changes, News, Rejected};
use crate::watches::Watches;

/// How soon a directory is noticed that was put in the place of another, or is back: nothing
/// tells of it.
const POLL: Duration = Duration::from_secs(1);
/// Whatever the system reports, everything is read again after this time: watches can overflow.
const RESYNC: Duration = Duration::from_secs(30);
/// Largest manifest.
const MAX_FILE: u64 = 4 * 1024 * 1024;

/// Reads the directories and sends what they hold, then what changes, until `stop`.
///
/// # Errors
/// A directory that cannot be read at the start. Later it counts as unchanged.
pub(crate) async fn watch(
    directories: Vec<PathBuf>,
    pepper: Pepper,
    changes: Changes,
    stop: CancellationToken,
) -> io::Result<impl Future<Output = ()>> {
    // Watched before it is read, so that nothing falls between.
    let mut watches = Watches::new(&directories, is_manifest)?;
    let mut directory = Directory::new(pepper);
    let first = directory.take(load(&directories).complete()?);
    // Without a receiver the gateway is stopping.
    let _ = changes.send(Change::Source(first.unwrap_or_default())).await;
    Ok(async move {
        let mut last_read = Instant::now();
        loop {
            let changed = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = watches.changed() => true,
                () = sleep(POLL) => false,
            };
            let due = last_read.elapsed() >= RESYNC || !directory.missing.is_empty();
            if changed && stop.run_until_cancelled(watches.settled()).await.is_none() {
                return;
            }
            if !(watches.renew() || changed || due) {
                continue;
            }
            last_read = Instant::now();
            if let Some(news) = directory.take(load(&directories))
                && changes.send(Change::Source(news)).await.is_err()
            {
                return;
            }
        }
    })
}

/// What directories hold.
#[derive(Default)]
struct Listing {
    /// Text of every file, or why it cannot be read, by path.
    files: BTreeMap<PathBuf, Result<String, String>>,
    /// Directories that cannot be read.
    missing: BTreeMap<PathBuf, io::Error>,
}

impl Listing {
    fn complete(mut self) -> io::Result<Self> {
        self.missing.pop_first().map_or(Ok(self), |(_, error)| Err(error))
    }
}

fn load(directories: &[PathBuf]) -> Listing {
    let mut listing = Listing::default();
    for directory in directories {
        match load_directory(directory) {
            Ok(files) => listing.files.extend(files),
            Err(error) => {
                listing.missing.insert(directory.clone(), error);
            }
        }
    }
    listing
}

fn load_directory(directory: &Path) -> io::Result<BTreeMap<PathBuf, Result<String, String>>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if is_manifest(&path) {
            match load_file(&path) {
                // Gone between the two looks.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                read => {
                    files.insert(path, read.map_err(|error| error.to_string()));
                }
            }
        }
    }
    // Without its directory every file is gone between the two looks.
    fs::read_dir(directory)?;
    Ok(files)
}

fn is_manifest(path: &Path) -> bool {
    path.extension()
        .and_then(|extension| extension.to_str())
        .is_some_and(|extension| matches!(extension, "yaml" | "yml" | "json"))
}

fn load_file(path: &Path) -> io::Result<String> {
    let metadata = fs::metadata(path)?;
    // A pipe would never end.
    if !metadata.is_file() {
        return Err(io::Error::other("not a file"));
    }
    if metadata.len() > MAX_FILE {
        return Err(too_large());
    }
    // Some files of the system say that they are empty and never end.
    let mut text = String::new();
    let read = fs::File::open(path)?.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_FILE {
        return Err(too_large());
    }
    Ok(text)
}

fn too_large() -> io::Error {
    io::Error::other(format!("larger than {} MiB", MAX_FILE >> 20))
}

/// A file as it was last read.
#[derive(Default)]
struct Manifest {
    read: Option<Result<String, String>>,
    /// Its documents, each in its last good version.
    documents: Vec<Document>,
    rejected: Vec<Rejected>,
}

/// What the directories hold.
struct Directory {
    pepper: Pepper,
    manifests: BTreeMap<PathBuf, Manifest>,
    /// Counts the changes: a resource that appears in a later one has the later claim.
    round: i64,
    claims: BTreeMap<ResourceRef, Claim>,
    /// Entries in force.
    entries: BTreeMap<ResourceRef, Entry>,
    rejected: Vec<Rejected>,
    /// Directories that cannot be read, and why. What they held stays in force.
    missing: BTreeMap<PathBuf, String>,
}

impl Directory {
    const fn new(pepper: Pepper) -> Self {
        Self {
            pepper,
            manifests: BTreeMap::new(),
            round: 0,
            claims: BTreeMap::new(),
            entries: BTreeMap::new(),
            rejected: Vec::new(),
            missing: BTreeMap::new(),
        }
    }

    /// Takes in what the files say now. `None` when that changes nothing.
    fn take(&mut self, Listing { files, missing }: Listing) -> Option<News> {
        self.round += 1;
        for (directory, error) in &missing {
            if !self.missing.contains_key(directory) {
                let directory = directory.display();
                tracing::error!(%directory, %error, "cannot read the directory of manifests");
            }
        }
        self.missing = missing.into_iter().map(|(path, error)| (path, error.to_string())).collect();
        self.manifests.retain(|path, _| {
            let directory = path.parent();
            files.contains_key(path)
                || directory.is_some_and(|directory| self.missing.contains_key(directory))
        });
        for (path, text) in files {
            let manifest = self.manifests.entry(path.clone()).or_default();
            if manifest.read.as_ref() != Some(&text) {
                manifest.update(&path, text);
            }
        }
        self.resolve()
    }

    /// Turns documents into entries, and tells what became different.
    fn resolve(&mut self) -> Option<News> {
        let (mut secrets, mut rejected) = (Secrets::default(), Vec::new());
        for manifest in self.manifests.values() {
            rejected.extend(manifest.rejected.iter().cloned());
            for document in &manifest.documents {
                if let Document::Secret(secret) = document {
                    secrets.insert((**secret).clone());
                }
            }
        }
        let mut entries = BTreeMap::new();
        let mut holders: BTreeMap<ResourceRef, &Path> = BTreeMap::new();
        for (path, manifest) in &self.manifests {
            for document in &manifest.documents {
                let Document::Resource(resource) = document else { continue };
                let reference = resource.resource();
                let mut reject = |reason: String| {
                    rejected.push(reject(path, Some(reference.to_string()), reason));
                };
                if let Some(holder) = holders.get(&reference) {
                    reject(format!("is already in {}; remove one", file_name(holder)));
                    continue;
                }
                holders.insert(reference.clone(), path);
                let tie = path.to_string_lossy().into();
                let claim = self.claims.entry(reference.clone());
                let claim = claim.or_insert(Claim { created: self.round, tie }).clone();
                let references = References::without_cluster(claim, &secrets, &self.pepper);
                match Entry::from_resource(resource, references) {
                    Ok(entry) => {
                        entries.insert(reference, entry);
                    }
                    Err(invalid) => {
                        reject(invalid.to_string());
                        // The last good version stays in force.
                        if let Some(entry) = self.entries.get(&reference) {
                            entries.insert(reference, entry.clone());
                        }
                    }
                }
            }
        }
        self.claims.retain(|reference, _| holders.contains_key(reference));
        self.publish(entries, rejected)
    }

    fn publish(
        &mut self,
        entries: BTreeMap<ResourceRef, Entry>,
        mut rejected: Vec<Rejected>,
    ) -> Option<News> {
        let applied: Vec<Entry> = entries
            .iter()
            .filter(|(reference, entry)| self.entries.get(reference) != Some(entry))
            .map(|(_, entry)| entry.clone())
            .collect();
        let gone = self.entries.keys().filter(|reference| !entries.contains_key(reference));
        let deleted: Vec<ResourceRef> = gone.cloned().collect();
        for entry in &applied {
            tracing::info!(resource = %entry.resource(), "manifest is in force");
        }
        for resource in &deleted {
            tracing::info!(%resource, "manifest is gone");
        }
        for Rejected { file, resource, reason } in
            rejected.iter().filter(|rejected| !self.rejected.contains(rejected))
        {
            let resource = resource.as_deref().unwrap_or_default();
            tracing::warn!(file, resource, reason, "manifest is not in force");
        }
        rejected.extend(self.missing.iter().map(|(directory, error)| Rejected {
            file: directory.display().to_string(),
            resource: None,
            reason: format!("the directory cannot be read, what it held stays in force: {error}"),
        }));
        let same = applied.is_empty() && deleted.is_empty() && rejected == self.rejected;
        self.entries = entries;
        self.rejected.clone_from(&rejected);
        (!same).then(|| News { applied, deleted, rejected: Some(rejected), ..News::default() })
    }
}

impl Manifest {
    fn update(&mut self, path: &Path, text: Result<String, String>) {
        self.rejected.clear();
        match text.as_ref().map_err(Clone::clone).and_then(|text| documents(text)) {
            Ok(documents) => {
                let before = std::mem::take(&mut self.documents);
                let mut unplaced = false;
                for document in documents {
                    match document {
                        Ok(document) => self.documents.push(document),
                        Err(unreadable) => {
                            let what = unreadable.what.as_ref();
                            let last = what.and_then(|what| {
                                before.iter().find(|document| identity(document) == *what)
                            });
                            unplaced |= last.is_none();
                            self.documents.extend(last.cloned());
                            let resource = what.map(|(kind, namespace, name)| {
                                format!("{kind} {namespace}/{name}")
                            });
                            self.rejected.push(reject(path, resource, unreadable.reason));
                        }
                    }
                }
                // The mistake may stand in the very kind or name: nothing that was there is gone for
                // certain.
                let kept = if unplaced { before } else { Vec::new() };
                for document in kept {
                    let what = identity(&document);
                    if self.documents.iter().all(|other| identity(other) != what) {
                        self.documents.push(document);
                    }
                }
            }
            Err(reason) => self.rejected.push(reject(path, None, reason)),
        }
        self.read = Some(text);
    }
}

fn documents(text: &str) -> Result<Vec<Result<Document, Unreadable>>, String> {
    // Most editors empty a file before they write it.
    if text.trim().is_empty() {
        return Err("is empty; remove the file to remove its resources".to_owned());
    }
    read(text)
}

fn identity(document: &Document) -> (String, String, String) {
    match document {
        Document::Resource(resource) => {
            let ResourceRef { kind, namespace, name } = resource.resource();
            (kind.to_string(), namespace.to_string(), name.to_string())
        }
        Document::Secret(secret) => (
            "Secret".to_owned(),
            secret.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned()),
            secret.metadata.name.clone().unwrap_or_default(),
        ),
    }
}

fn reject(path: &Path, resource: Option<String>, reason: String) -> Rejected {
    Rejected { file: file_name(path), resource, reason }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
