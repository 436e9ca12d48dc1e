//! The secrets of a gateway without a cluster: pepper and sealing keys, in one file.
//!
//! Whoever starts with the same file knows the same keys and opens the same sessions.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gateway_core::Pepper;
use serde::{Deserialize, Serialize};

use crate::session::Sealer;

/// What the file holds, each secret as base64 of 32 bytes.
#[derive(Serialize, Deserialize)]
struct Contents {
    pepper: String,
    /// The first seals, all open: put a new one in front to rotate, and take the old one away when
    /// the sessions it sealed have expired.
    sealing: Vec<String>,
}

/// The secrets, ready for use.
pub(crate) struct Secrets {
    pub(crate) pepper: Pepper,
    pub(crate) sealer: Sealer,
}

/// Why there is no usable state file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The file or its directory cannot be read or written.
    #[error("cannot use the state file {0}")]
    Io(PathBuf, #[source] io::Error),
    /// Not what we wrote.
    #[error("the state file {0} is damaged: {1}; restore it, or remove it to end all sessions")]
    Damaged(PathBuf, String),
    /// Others may read it.
    #[error("the state file {0} can be read by others; run chmod 600 on it")]
    Exposed(PathBuf),
}

/// Reads the file, or makes it where there is none.
pub(crate) fn open(path: &Path) -> Result<Secrets, StateError> {
    let failed = |error| StateError::Io(path.to_owned(), error);
    if !path.exists() {
        create(path).map_err(failed)?;
    }
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(StateError::Exposed(path.to_owned()));
    }
    let text = fs::read(path).map_err(failed)?;
    let damaged = |reason: String| StateError::Damaged(path.to_owned(), reason);
    // The text of a JSON error can quote what it read: only its place is told.
    let contents: Contents = serde_json::from_slice(&text)
        .map_err(|error| damaged(format!("no JSON of ours at line {}", error.line())))?;
    let decode = |text: &str| {
        let bytes = STANDARD.decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.ok_or_else(|| damaged("a secret is not 32 bytes of base64".to_owned()))
    };
    let sealing = contents.sealing.iter().map(|key| decode(key)).collect::<Result<Vec<_>, _>>()?;
    let sealer =
        Sealer::new(&sealing).ok_or_else(|| damaged("it has no sealing key".to_owned()))?;
    Ok(Secrets { pepper: Pepper::new(&decode(&contents.pepper)?), sealer })
}

/// Written aside and linked into place, so that of two gateways that start at once both use the
/// file of one.
fn create(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let contents = Contents { pepper: random_secret()?, sealing: vec![random_secret()?] };
    let aside = path.with_extension(format!("{}.new", std::process::id()));
    let mut file: File =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(&serde_json::to_vec_pretty(&contents)?)?;
    file.sync_all()?;
    let linked = fs::hard_link(&aside, path);
    fs::remove_file(&aside)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn random_secret() -> io::Result<String> {
    let mut secret = [0; 32];
    aws_lc_rs::rand::fill(&mut secret).map_err(|_| io::Error::other("no randomness"))?;
    Ok(STANDARD.encode(secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_gateway_opens_what_the_first_sealed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/state.json");

        let first = open(&path).unwrap();
        let second = open(&path).unwrap();

        assert_eq!(first.pepper.digest(b"key"), second.pepper.digest(b"key"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_exposed_or_damaged_file_is_refused_without_showing_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        open(&path).map(drop).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(open(&path), Err(StateError::Exposed(_))));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, r#"{"pepper":"sesame""#).unwrap();
        let Err(error) = open(&path) else { panic!("a damaged file is taken") };
        assert!(!error.to_string().contains("sesame"), "{error}");
    }
}
