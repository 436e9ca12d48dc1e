//! Tells when something changes in directories, whatever becomes of the directories themselves.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::ModifyKind};
use tokio::sync::Notify;
use tokio::time::timeout;

/// Editors write in several steps; a change is read when it has been quiet for so long.
const QUIET: Duration = Duration::from_millis(20);
/// However busy a directory is, a change is read after this time: it may revoke a key.
const LONGEST: Duration = Duration::from_millis(200);

pub(crate) struct Watches {
    watcher: RecommendedWatcher,
    signals: Arc<Signals>,
    directories: Vec<Watched>,
}

#[derive(Default)]
struct Signals {
    changed: Notify,
    /// A directory was removed or renamed: one with the same number may take its place.
    moved: AtomicBool,
}

struct Watched {
    path: PathBuf,
    /// The directory that the watch is on; none while there is no watch.
    identity: Option<Identity>,
}

/// Device and number of a directory.
type Identity = (u64, u64);

impl Watches {
    /// Watches the directories for files `of_interest`.
    ///
    /// # Errors
    /// A directory that cannot be watched.
    pub(crate) fn new(directories: &[PathBuf], of_interest: fn(&Path) -> bool) -> io::Result<Self> {
        // As they are named in events.
        let paths: Vec<PathBuf> =
            directories.iter().map(std::path::absolute).collect::<io::Result<_>>()?;
        let signals = Arc::new(Signals::default());
        let watcher = notify::recommended_watcher({
            let (signals, paths) = (signals.clone(), paths.clone());
            move |event: notify::Result<Event>| {
                if let Ok(event) = event {
                    signals.take(&event, &paths, of_interest);
                }
            }
        })
        .map_err(io::Error::other)?;
        let mut watches = Self { watcher, signals, directories: Vec::new() };
        for path in paths {
            let identity = Some(identity(&path)?);
            watches.watch(&path).map_err(io::Error::other)?;
            watches.directories.push(Watched { path, identity });
        }
        Ok(watches)
    }

    /// Waits for a change.
    pub(crate) async fn changed(&self) {
        self.signals.changed.notified().await;
    }

    /// Waits until a change is complete. Given up half-way, it has forgotten the change.
    pub(crate) async fn settled(&self) {
        let changed = &self.signals.changed;
        let settled = async { while timeout(QUIET, changed.notified()).await.is_ok() {} };
        let _ = timeout(LONGEST, settled).await;
    }

    /// Puts the watches on the directories that the paths lead to now. Whether any was moved.
    pub(crate) fn renew(&mut self) -> bool {
        let moved = self.signals.moved.swap(false, Ordering::AcqRel);
        let mut directories = std::mem::take(&mut self.directories);
        let mut renewed = false;
        for Watched { path, identity: watched } in &mut directories {
            // Before the watch: whatever is swapped in between is noticed the next time.
            let now = identity(path).ok();
            if moved || now != *watched {
                // There is none any more if the directory was removed.
                let _ = self.watcher.unwatch(path);
                *watched = now.filter(|_| self.watch(path).is_ok());
                renewed = true;
            }
        }
        self.directories = directories;
        renewed
    }

    fn watch(&mut self, path: &Path) -> notify::Result<()> {
        self.watcher.watch(path, RecursiveMode::NonRecursive)
    }
}

impl Signals {
    fn take(&self, event: &Event, directories: &[PathBuf], of_interest: fn(&Path) -> bool) {
        let itself = |path: &PathBuf| directories.contains(path);
        let moved =
            matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)));
        if moved && event.paths.iter().any(itself) {
            self.moved.store(true, Ordering::Release);
        }
        let matters = |path: &PathBuf| of_interest(path) || is_volume_data(path) || itself(path);
        // Reading a file is an event, too, and would make us read for ever.
        let matters = !event.kind.is_access() && event.paths.iter().any(matters);
        if matters || event.need_rescan() {
            self.changed.notify_one();
        }
    }
}

/// The link that a ConfigMap or Secret volume replaces when its files change.
fn is_volume_data(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "..data")
}

fn identity(path: &Path) -> io::Result<Identity> {
    fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}
