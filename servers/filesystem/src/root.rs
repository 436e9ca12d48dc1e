//! Files under one directory which no path leads out of.
//!
//! Every path is resolved by the kernel, or component by component, beneath an open directory
//! (cap-std), so that a symlink swapped in at the last moment leads nowhere either. All of this
//! blocks: call it from a blocking task.

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use cap_fs_ext::OpenOptionsSyncExt;
use cap_std::{
    ambient_authority,
    fs::{Dir, DirEntry, File, OpenOptions},
};

use crate::listing::Listing;

#[derive(Debug)]
pub(crate) struct Root {
    dir: Dir,
}

/// Why a path was refused, as a sentence that tells a model what to do instead.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0} is an absolute path. Give a path relative to the root, such as notes/today.txt.")]
    Absolute(String),
    #[error("{0} leads outside the root. Use list_files to see what there is.")]
    Outside(String),
    #[error("{0} does not exist. Use list_files to see what there is.")]
    Missing(String),
    #[error("{0} is a directory. Use list_files to see what is in it, or name a file.")]
    Directory(String),
    #[error("{0} is not a directory. Use read_file to read it, or name a directory.")]
    NotDirectory(String),
    #[error("{0} is neither a file nor a directory. Name a regular file.")]
    Special(String),
    #[error("{0} is not UTF-8 text. Only text files can be read.")]
    NotText(String),
    #[error("The content has {0} bytes, more than the {MAX_BYTES} allowed. Write less.")]
    TooLarge(usize),
    #[error("{path} can't be used: {reason}")]
    Io { path: String, reason: io::Error },
}

impl Root {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Dir::open_ambient_dir(path, ambient_authority()).map(|dir| Self { dir })
    }

    pub(crate) fn list(&self, path: &str) -> Result<String, Refusal> {
        let directory = relative(path)?;
        let refused = |error: io::Error| match error.kind() {
            io::ErrorKind::NotADirectory => Refusal::NotDirectory(path.to_owned()),
            _ => refusal(path, error),
        };
        let mut listing = Listing::default();
        for entry in self.dir.read_dir(&directory).map_err(refused)? {
            let entry = entry.map_err(refused)?;
            let is_dir = self.is_dir(&directory, &entry);
            listing.add(is_dir, entry.file_name().to_string_lossy().into_owned());
        }
        Ok(listing.to_string())
    }

    pub(crate) fn read(&self, path: &str) -> Result<String, Refusal> {
        let mut options = OpenOptions::new();
        options.read(true);
        let (file, size) = self.open_file(path, &mut options)?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES as u64 + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| refusal(path, error))?;
        if bytes.len() <= MAX_BYTES {
            return String::from_utf8(bytes).map_err(|_| Refusal::NotText(path.to_owned()));
        }
        bytes.truncate(MAX_BYTES);
        let mut text =
            without_half_a_character(bytes).ok_or_else(|| Refusal::NotText(path.to_owned()))?;
        let shown = text.len();
        text.push_str(&format!("\n[cut: these are the first {shown} of {size} bytes]"));
        Ok(text)
    }

    pub(crate) fn write(&self, path: &str, content: &str) -> Result<(), Refusal> {
        if content.len() > MAX_BYTES {
            return Err(Refusal::TooLarge(content.len()));
        }
        let mut options = OpenOptions::new();
        options.write(true).create(true);
        let (mut file, _) = match self.open_file(path, &mut options) {
            Err(Refusal::Missing(_)) => {
                self.make_parents(path)?;
                self.open_file(path, &mut options)?
            }
            opened => opened?,
        };
        file.set_len(0)
            .and_then(|()| file.write_all(content.as_bytes()))
            .map_err(|error| refusal(path, error))
    }

    /// Opens a regular file and tells its size. Opening does not wait, so that a pipe nobody
    /// writes to can't hold a thread; nor does it truncate, as what it opens is not known yet.
    fn open_file(&self, path: &str, options: &mut OpenOptions) -> Result<(File, u64), Refusal> {
        let opened = self.dir.open_with(relative(path)?, options.nonblock(true));
        let (file, metadata) = opened
            .and_then(|file| file.metadata().map(|metadata| (file, metadata)))
            .map_err(|error| refusal(path, error))?;
        if metadata.is_dir() {
            Err(Refusal::Directory(path.to_owned()))
        } else if metadata.is_file() {
            Ok((file, metadata.len()))
        } else {
            Err(Refusal::Special(path.to_owned()))
        }
    }

    fn make_parents(&self, path: &str) -> Result<(), Refusal> {
        match relative(path)?.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => self.dir.create_dir_all(parent).map_err(|error| refusal(path, error)),
            None => Ok(()),
        }
    }

    /// A symlink counts as what it leads to, if that is under the root.
    fn is_dir(&self, directory: &Path, entry: &DirEntry) -> bool {
        entry.file_type().is_ok_and(|kind| {
            kind.is_dir()
                || kind.is_symlink()
                    && self
                        .dir
                        .metadata(directory.join(entry.file_name()))
                        .is_ok_and(|target| target.is_dir())
        })
    }
}

/// The path as one below the root. Whether it stays there is for the kernel to say.
fn relative(path: &str) -> Result<PathBuf, Refusal> {
    match Path::new(path) {
        path if path.as_os_str().is_empty() => Ok(PathBuf::from(".")),
        absolute if absolute.has_root() => Err(Refusal::Absolute(path.to_owned())),
        path => Ok(path.to_owned()),
    }
}

fn refusal(path: &str, error: io::Error) -> Refusal {
    let path = path.to_owned();
    match error.kind() {
        // Permission denied by cap-std rather than by the system.
        io::ErrorKind::PermissionDenied if error.raw_os_error().is_none() => Refusal::Outside(path),
        io::ErrorKind::NotFound => Refusal::Missing(path),
        io::ErrorKind::IsADirectory => Refusal::Directory(path),
        _ if error.raw_os_error() == Some(NO_SUCH_DEVICE_OR_ADDRESS) => Refusal::Special(path),
        _ => Refusal::Io { path, reason: error },
    }
}

/// The text without the part of a character that cutting may have left at its end; `None` if it
/// is not text.
fn without_half_a_character(mut bytes: Vec<u8>) -> Option<String> {
    if let Err(error) = std::str::from_utf8(&bytes) {
        // A length means bytes that are wrong whatever follows.
        if error.error_len().is_some() {
            return None;
        }
        bytes.truncate(error.valid_up_to());
    }
    String::from_utf8(bytes).ok()
}

/// The most bytes of a file that are read or written at once: 1 MiB, a lot of text for a model
/// and little memory for a server.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// ENXIO: a pipe without a reader, or a socket.
const NO_SUCH_DEVICE_OR_ADDRESS: i32 = 6;

#[cfg(test)]
mod tests;
