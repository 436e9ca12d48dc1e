//! Log messages and their severity. Performs no I/O.

use std::fmt;

use serde::de::Error;
use serde_json::value::RawValue;

use crate::members::members;
use crate::object::{member, unescape};
use crate::tool::text;

/// How severe a log message is, least first (RFC 5424).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// `debug`
    Debug,
    /// `info`
    Info,
    /// `notice`
    Notice,
    /// `warning`
    Warning,
    /// `error`
    Error,
    /// `critical`
    Critical,
    /// `alert`
    Alert,
    /// `emergency`
    Emergency,
}

impl Level {
    /// All of them, least severe first.
    pub const ALL: [Self; 8] = [
        Self::Debug,
        Self::Info,
        Self::Notice,
        Self::Warning,
        Self::Error,
        Self::Critical,
        Self::Alert,
        Self::Emergency,
    ];

    /// As written on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
            Self::Alert => "alert",
            Self::Emergency => "emergency",
        }
    }

    /// The level of that name.
    pub fn from_wire(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.as_str() == name)
    }

    /// Reads the parameters of `logging/setLevel`.
    ///
    /// # Errors
    /// No known level, or keys that another parser could take for others: see [`members`].
    pub fn parse(params: &RawValue) -> Result<Self, serde_json::Error> {
        let [level, _] = members(params.get(), &["level", "_meta"])?;
        let level = level.ok_or_else(|| serde_json::Error::missing_field("level"))?;
        text(level).and_then(|level| Self::from_wire(&level)).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            serde_json::Error::custom(format_args!("`level` must be one of {known}"))
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The level of a `notifications/message` with these raw params, if it names one that we know.
pub fn level_of(params: Option<&RawValue>) -> Option<Level> {
    let level = member(params?.get(), "level").and_then(unescape)?;
    Level::from_wire(&level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_read_and_ordered() {
        for pair in Level::ALL.windows(2) {
            assert!(pair[0] < pair[1], "{pair:?}");
        }
        for level in Level::ALL {
            let params = format!(r#"{{"level":"{level}","data":{{"level":"x"}}}}"#);
            let params = serde_json::from_str(&params).unwrap();
            assert_eq!(level_of(Some(params)), Some(level));
            assert_eq!(Level::parse(params).unwrap(), level);
        }
        for wrong in ["{}", r#"{"level":"verbose"}"#, r#"{"level":1}"#, "[]"] {
            let wrong = serde_json::from_str(wrong).unwrap();
            assert_eq!(level_of(Some(wrong)), None);
            assert!(Level::parse(wrong).is_err());
        }
        assert_eq!(level_of(None), None);
    }
}
