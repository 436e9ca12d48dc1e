//! What belongs to the whole gateway: one file, read again when it changes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use http::{HeaderValue, Uri};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::followed::Followed;
use crate::yaml;

/// Why a gateway does not start with its configuration file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It cannot be read or watched.
    #[error("cannot read the configuration file {0}")]
    Io(PathBuf, #[source] io::Error),
    /// It says what is not understood.
    #[error("the configuration file {0} cannot be used: {1}")]
    Invalid(PathBuf, String),
}

/// The settings that are in force.
#[derive(Debug, Default)]
pub(crate) struct Config {
    settings: ArcSwap<Settings>,
    /// Why the file as it is now is not in force.
    problem: ArcSwapOption<String>,
}

/// Settings of the whole gateway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Of the URL under which clients know the gateway.
    own: Option<Origin>,
    /// Whose pages may use the gateway.
    cors: Vec<Origin>,
}

/// Scheme, host and port as browsers write them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin(Box<str>);

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Contents {
    public_url: Option<String>,
    cors: Cors,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Cors {
    origins: Vec<String>,
}

impl Config {
    /// Reads the file and gives what follows its changes until `stop`.
    ///
    /// # Errors
    /// See [`ConfigError`]. Later the last good version stays in force.
    pub(crate) fn open(
        path: &Path,
        stop: CancellationToken,
    ) -> Result<(Arc<Self>, impl Future<Output = ()> + use<>), ConfigError> {
        let failed = |error| ConfigError::Io(path.to_owned(), error);
        let (mut file, text) = Followed::open(path).map_err(failed)?;
        let settings = Settings::parse(&text);
        let settings = settings.map_err(|reason| ConfigError::Invalid(path.to_owned(), reason))?;
        let config =
            Arc::new(Self { settings: ArcSwap::from_pointee(settings), ..Self::default() });
        let kept = config.clone();
        let follow = async move {
            while let Some(changed) = stop.run_until_cancelled(file.changed()).await {
                match changed {
                    Ok(text) => kept.take(&text),
                    Err(error) => kept.refuse(format!("it cannot be read: {error}")),
                }
            }
        };
        Ok((config, follow))
    }

    /// The settings of this moment. To be dropped soon.
    pub(crate) fn settings(&self) -> arc_swap::Guard<Arc<Settings>> {
        self.settings.load()
    }

    /// Why the file as it is now is not in force.
    pub(crate) fn problem(&self) -> Option<Arc<String>> {
        self.problem.load_full()
    }

    fn take(&self, text: &str) {
        match Settings::parse(text) {
            Ok(settings) => {
                self.problem.store(None);
                if **self.settings.load() != settings {
                    self.settings.store(Arc::new(settings));
                    tracing::info!("the configuration file is in force");
                }
            }
            Err(reason) => self.refuse(reason),
        }
    }

    fn refuse(&self, reason: String) {
        if self.problem.load().as_ref().is_none_or(|problem| **problem != reason) {
            tracing::error!(
                reason,
                "the configuration file cannot be used, the last good one stays in force"
            );
            self.problem.store(Some(Arc::new(reason)));
        }
    }
}

impl Settings {
    /// # Errors
    /// What is wrong and where, in words for who wrote it.
    fn parse(text: &str) -> Result<Self, String> {
        let documents = yaml::documents(text)?;
        let contents: Contents = match <[_; 1]>::try_from(documents) {
            Ok([document]) => yaml::strict(document, |_| false)?,
            Err(none) if none.is_empty() => Contents::default(),
            Err(_) => return Err("it has more than one document".to_owned()),
        };
        let Contents { public_url, cors } = contents;
        let own = public_url.filter(|url| !url.is_empty()).map(|url| {
            let url = url.parse().map_err(|_| ());
            url.and_then(|url| Origin::of(&url).ok_or(())).map_err(
                |()| "publicUrl: must be an http or https URL, such as https://mcp.example.com",
            )
        });
        let cors = cors.origins.iter().enumerate().map(|(at, text)| {
            Origin::parse(text).map_err(|problem| format!("cors.origins.{at}: {problem}"))
        });
        Ok(Self { own: own.transpose()?, cors: cors.collect::<Result<_, _>>()? })
    }

    /// Whether this is the gateway's own origin.
    pub(crate) fn is_own(&self, origin: &HeaderValue) -> bool {
        self.own.as_ref().is_some_and(|own| own.is(origin))
    }

    /// Whether pages of this origin may use the gateway.
    pub(crate) fn admits(&self, origin: &HeaderValue) -> bool {
        self.cors.iter().any(|admitted| admitted.is(origin))
    }

    /// Whether answers depend on the origin.
    pub(crate) const fn has_cors(&self) -> bool {
        !self.cors.is_empty()
    }
}

impl Origin {
    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.contains('*') {
            return Err("* is not accepted; name each origin, such as https://app.example.com");
        }
        let problem = "must be scheme and host, such as https://app.example.com, without a path";
        let uri: Uri = text.parse().map_err(|_| problem)?;
        // A URI without a path is read as one with the path `/`.
        let plain = uri.path() == "/" && uri.query().is_none() && !text.ends_with('/');
        Self::of(&uri).filter(|_| plain).ok_or(problem)
    }

    fn of(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"))?;
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        let usual = if scheme == "https" { 443 } else { 80 };
        let host = authority.host().to_ascii_lowercase();
        let port = authority.port_u16().filter(|port| *port != usual);
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        Some(Self(format!("{scheme}://{host}{port}").into()))
    }

    fn is(&self, origin: &HeaderValue) -> bool {
        self.0.as_bytes() == origin.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_as_browsers_write_them() {
        for (text, origin) in [
            ("https://app.example.com", Some("https://app.example.com")),
            ("HTTPS://App.Example.com:443", Some("https://app.example.com")),
            ("http://app.example.com:8080", Some("http://app.example.com:8080")),
            ("http://[::1]:80", Some("http://[::1]")),
            ("*", None),
            ("https://*.example.com", None),
            ("null", None),
            ("app.example.com", None),
            ("ftp://app.example.com", None),
            ("https://app.example.com/", None),
            ("https://app.example.com/path", None),
            ("https://app.example.com?x", None),
            ("https://user@app.example.com", None),
            ("", None),
        ] {
            let read = Origin::parse(text).ok();
            assert_eq!(read.as_ref().map(|origin| &*origin.0), origin, "{text}");
        }
    }

    #[test]
    fn mistakes_are_told_by_their_place() {
        for (text, problem) in [
            ("publicUrl: mcp.example.com", "publicUrl: must be"),
            ("cors: {origins: ['https://a.test', '*']}", "cors.origins.1: * is not accepted"),
            ("cors: {orgins: []}", "unknown field cors.orgins"),
            ("corz: {}", "unknown field corz"),
            ("cors: 7", "cors: expected an object"),
            ("cors: {origins: https://a.test}", "cors.origins: expected a sequence"),
            ("a: [", "line 1"),
            ("a: 1\n---\nb: 2", "more than one"),
        ] {
            let error = Settings::parse(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
        for empty in ["", "---\n", "publicUrl: ''\ncors: {}\n", "{}"] {
            assert_eq!(Settings::parse(empty), Ok(Settings::default()), "{empty}");
        }
    }
}
