//! A small file that is read again when it changes.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use tokio::time::sleep;

use crate::watches::Watches;

/// How soon a change is noticed that nothing tells of.
const POLL: Duration = Duration::from_secs(1);
/// Largest file.
const MAX_FILE: u64 = 1024 * 1024;

/// The file, and what it held when it was last looked at.
pub(crate) struct Followed {
    path: PathBuf,
    watches: Watches,
    /// None while it cannot be read.
    read: Option<String>,
}

impl Followed {
    /// Reads the file for the first time.
    pub(crate) fn open(path: &Path) -> io::Result<(Self, String)> {
        let path = std::path::absolute(path)?;
        let directory = path.parent().map(Path::to_owned).unwrap_or_default();
        // Watched before it is read, so that nothing falls between.
        let watches = Watches::new(&[directory], |_| true)?;
        let text = load(&path)?;
        Ok((Self { path, watches, read: Some(text.clone()) }, text))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its text as soon as it is another one, or why it cannot be read for as long as it cannot.
    pub(crate) async fn changed(&mut self) -> io::Result<String> {
        loop {
            tokio::select! {
                biased;
                () = self.watches.changed() => self.watches.settled().await,
                () = sleep(POLL) => {}
            }
            self.watches.renew();
            match load(&self.path) {
                Ok(text) if self.read.as_ref() == Some(&text) => {}
                Ok(text) => {
                    self.read = Some(text.clone());
                    return Ok(text);
                }
                Err(error) => {
                    self.read = None;
                    return Err(error);
                }
            }
        }
    }
}

fn load(path: &Path) -> io::Result<String> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return Err(io::Error::other("not a file, or larger than 1 MiB"));
    }
    fs::read_to_string(path)
}
