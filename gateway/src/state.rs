//! The secrets of a gateway in one file: peppers, sealing keys, tokens of the admin port.
//!
//! Whoever starts with the same file knows the same keys and opens the same sessions. Without a
//! cluster the gateway makes the file; in one the operator does, and the gateway only reads it.
//! Either way it is read again when it changes.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gateway_core::Pepper;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::followed::Followed;
use crate::peer::PeerKeys;
use crate::session::Sealer;

/// What the file holds. Secrets are base64 of 32 bytes; tokens are taken as they stand.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Contents {
    #[serde(skip_serializing_if = "Option::is_none")]
    pepper: Option<String>,
    /// In place of `pepper`: the current one and the one before, while a rotation goes on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    peppers: Vec<String>,
    /// The first seals, all open. To rotate, add a new one at the end, put it in front when every
    /// gateway has read it, and take the old one away when the sessions it sealed have expired.
    sealing: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<String>,
}

/// Whose file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeper {
    /// This gateway: it makes the file where there is none, for nobody else to read.
    Own,
    /// The operator: a Secret that is mounted, which the pod's group may read.
    Operator,
}

/// The secrets, ready for use.
pub(crate) struct Secrets {
    /// What digests of API keys are made with.
    pub(crate) pepper: Pepper,
    /// The one before, while digests are replaced.
    pub(crate) previous: Option<Pepper>,
    pub(crate) sealer: Sealer,
    /// For requests between gateways.
    pub(crate) peers: PeerKeys,
    pub(crate) tokens: Tokens,
}

/// The secrets that are in force.
#[derive(Debug)]
pub(crate) struct Keyring {
    keeper: Keeper,
    /// The current one first.
    pub(crate) peppers: ArcSwap<Vec<Pepper>>,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) peers: Arc<PeerKeys>,
    pub(crate) tokens: ArcSwap<Tokens>,
}

impl Keyring {
    /// Takes the keys of the file, and gives what follows its changes until `stop`.
    pub(crate) fn new(
        secrets: Secrets,
        mut file: Followed,
        keeper: Keeper,
        stop: CancellationToken,
    ) -> (Arc<Self>, impl Future<Output = ()> + use<>) {
        let Secrets { pepper, previous, sealer, peers, tokens } = secrets;
        let peppers =
            ArcSwap::from_pointee([Some(pepper), previous].into_iter().flatten().collect());
        let (sealer, peers) = (Arc::new(sealer), Arc::new(peers));
        let tokens = ArcSwap::from_pointee(tokens);
        let keyring = Arc::new(Self { keeper, peppers, sealer, peers, tokens });
        let kept = keyring.clone();
        let follow = async move {
            let mut problem = None;
            while let Some(changed) = stop.run_until_cancelled(file.changed()).await {
                let path = file.path();
                let read = changed.map_err(|error| StateError::Io(path.to_owned(), error));
                match read.and_then(|text| check(path, &text, keeper)) {
                    Ok(secrets) => {
                        kept.take(secrets);
                        problem = None;
                        tracing::info!("the keys of the state file are in force");
                    }
                    Err(error) => {
                        let reason = Some(error.to_string());
                        if problem != reason {
                            tracing::error!(%error, "the last good keys stay in force");
                            problem = reason;
                        }
                    }
                }
            }
        };
        (keyring, follow)
    }

    fn take(&self, Secrets { pepper, previous, sealer, peers, tokens }: Secrets) {
        // Without an operator what a pepper has digested never leaves the process.
        if self.keeper == Keeper::Operator {
            let peppers = [Some(pepper), previous].into_iter().flatten();
            self.peppers.store(Arc::new(peppers.collect()));
        }
        self.sealer.replace(sealer);
        self.peers.replace(peers);
        self.tokens.store(Arc::new(tokens));
    }
}

/// What opens the admin port.
#[derive(Clone, Default)]
pub(crate) struct Tokens {
    /// Everything there.
    pub(crate) admin: Option<Token>,
    /// The metrics alone.
    pub(crate) metrics: Option<Token>,
}

/// A secret that is presented as it is.
#[derive(Clone)]
pub(crate) struct Token(Box<str>);

impl Token {
    /// Takes as long whatever the first difference is.
    pub(crate) fn is(&self, presented: &str) -> bool {
        let (own, presented) = (self.0.as_bytes(), presented.as_bytes());
        aws_lc_rs::constant_time::verify_slices_are_equal(own, presented).is_ok()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokens(…)")
    }
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
    #[error("the state file {0} can be read by others; run chmod {1} on it")]
    Exposed(PathBuf, &'static str),
    /// The operator has not made it, or it is not mounted.
    #[error("there is no state file {0}; the operator makes it as a Secret, to be mounted there")]
    Missing(PathBuf),
}

/// Reads the file. Its keeper makes it where there is none.
pub(crate) fn open(path: &Path, keeper: Keeper) -> Result<(Secrets, Followed), StateError> {
    let failed = |error| StateError::Io(path.to_owned(), error);
    if !path.exists() {
        match keeper {
            Keeper::Own => create(path).map_err(failed)?,
            Keeper::Operator => return Err(StateError::Missing(path.to_owned())),
        }
    }
    let (file, text) = Followed::open(path).map_err(failed)?;
    Ok((check(path, &text, keeper)?, file))
}

fn check(path: &Path, text: &str, keeper: Keeper) -> Result<Secrets, StateError> {
    let failed = |error| StateError::Io(path.to_owned(), error);
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
    let (others, proper) = match keeper {
        Keeper::Own => (0o077, "600"),
        Keeper::Operator => (0o007, "440"),
    };
    if mode & others != 0 {
        return Err(StateError::Exposed(path.to_owned(), proper));
    }
    let secrets = read(text).and_then(|secrets| match (keeper, &secrets.tokens.admin) {
        (Keeper::Operator, None) => Err("it has no admin token".to_owned()),
        _ => Ok(secrets),
    });
    secrets.map_err(|reason| StateError::Damaged(path.to_owned(), reason))
}

/// Why it cannot be read is told without what it holds.
fn read(text: &str) -> Result<Secrets, String> {
    let contents: Contents = serde_json::from_str(text)
        .map_err(|error| format!("no JSON of ours at line {}", error.line()))?;
    let Contents { pepper, peppers, sealing, admin, metrics } = contents;
    let peppers: Vec<&String> = pepper.iter().chain(&peppers).collect();
    let pepper = |text: &String| decode(text).map(|pepper| Pepper::new(&pepper));
    // Each is one more digest of every key that is presented.
    let (pepper, previous) = match peppers.as_slice() {
        [current] => (pepper(current)?, None),
        [current, previous] => (pepper(current)?, Some(pepper(previous)?)),
        _ => return Err("it needs a pepper, and may have one more during a rotation".to_owned()),
    };
    let sealing = sealing.iter().map(|key| decode(key)).collect::<Result<Vec<_>, _>>()?;
    let sealer = Sealer::new(&sealing).ok_or("it has no sealing key")?;
    let token = |text: Option<String>| match text {
        Some(text) if text.len() < MIN_TOKEN => {
            Err(format!("a token has fewer than {MIN_TOKEN} characters"))
        }
        text => Ok(text.map(|text| Token(text.into()))),
    };
    let tokens = Tokens { admin: token(admin)?, metrics: token(metrics)? };
    let peers = PeerKeys::new(&sealing);
    Ok(Secrets { pepper, previous, sealer, peers, tokens })
}

fn decode(text: &str) -> Result<[u8; 32], String> {
    let bytes = STANDARD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| "a secret is not 32 bytes of base64".to_owned())
}

/// Shorter ones could be guessed.
const MIN_TOKEN: usize = 16;

/// Written aside and linked into place, so that of two gateways that start at once both use the
/// file of one.
fn create(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    let contents = Contents {
        pepper: Some(random_secret()?),
        sealing: vec![random_secret()?],
        ..Contents::default()
    };
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

    fn digests(secrets: &Secrets) -> Vec<gateway_core::KeyDigest> {
        let peppers = [Some(&secrets.pepper), secrets.previous.as_ref()];
        peppers.into_iter().flatten().map(|pepper| pepper.digest(b"key")).collect()
    }

    #[test]
    fn a_second_gateway_opens_what_the_first_sealed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/state.json");

        let (first, _) = open(&path, Keeper::Own).unwrap();
        let (second, _) = open(&path, Keeper::Own).unwrap();

        assert_eq!(digests(&first), digests(&second));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn an_exposed_or_damaged_file_is_refused_without_showing_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        open(&path, Keeper::Own).map(drop).unwrap();
        for (mode, keeper, taken) in [
            (0o640, Keeper::Own, false),
            (0o440, Keeper::Operator, true),
            (0o444, Keeper::Operator, false),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let exposed = matches!(open(&path, keeper), Err(StateError::Exposed(..)));
            assert_eq!(exposed, !taken, "{mode:o} {keeper:?}");
        }

        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, r#"{"pepper":"sesame""#).unwrap();
        let Err(error) = open(&path, Keeper::Own) else { panic!("a damaged file is taken") };
        assert!(!error.to_string().contains("sesame"), "{error}");
    }

    #[test]
    fn the_operators_file_is_never_made_here_and_needs_a_token() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");

        let missing = open(&path, Keeper::Operator);
        assert!(matches!(missing, Err(StateError::Missing(_))));
        assert!(!path.exists());

        open(&path, Keeper::Own).map(drop).unwrap();
        let Err(error) = open(&path, Keeper::Operator) else { panic!("a file without a token") };
        assert!(error.to_string().contains("admin token"), "{error}");
    }

    #[test]
    fn both_spellings_of_peppers_are_read() {
        let (one, two) = (STANDARD.encode([1; 32]), STANDARD.encode([2; 32]));
        let digests = |json: &str| read(json).map(|secrets| digests(&secrets));
        let current = Pepper::new(&[1; 32]).digest(b"key");
        let previous = Pepper::new(&[2; 32]).digest(b"key");
        let sealing = format!(r#""sealing":["{one}"]"#);

        for (json, expected) in [
            (format!(r#"{{"pepper":"{one}",{sealing}}}"#), Some(vec![current])),
            (format!(r#"{{"peppers":["{one}"],{sealing}}}"#), Some(vec![current])),
            (
                format!(r#"{{"peppers":["{one}","{two}"],{sealing}}}"#),
                Some(vec![current, previous]),
            ),
            (format!(r#"{{"peppers":["{one}","{two}","{one}"],{sealing}}}"#), None),
            (format!("{{{sealing}}}"), None),
            (format!(r#"{{"pepper":"{one}"}}"#), None),
            (format!(r#"{{"pepper":"{one}",{sealing},"admin":"short"}}"#), None),
        ] {
            assert_eq!(digests(&json).ok(), expected, "{json}");
        }
    }

    #[test]
    fn a_token_is_the_text_as_it_stands() {
        let token = Token("abcdefghijklmnop".into());

        assert!(token.is("abcdefghijklmnop"));
        for other in ["", "abcdefghijklmno", "abcdefghijklmnoq", "abcdefghijklmnopq"] {
            assert!(!token.is(other), "{other}");
        }
    }
}
