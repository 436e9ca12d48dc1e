//! Log messages and their severity. Performs no I/O.

use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use serde::de::Error;

use crate::json::Json;
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
    pub fn parse(params: Json<'_>) -> Result<Self, serde_json::Error> {
        let [level, _] = members(params, &["level", "_meta"])?;
        let level = level.ok_or_else(|| serde_json::Error::missing_field("level"))?;
        text(level).and_then(|level| Self::from_wire(&level)).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            serde_json::Error::custom(format_args!("`level` must be one of {known}"))
        })
    }
}

/// A level that may change while it is looked at: none until it is set.
#[derive(Debug, Default)]
pub struct Threshold(AtomicU8);

impl Threshold {
    /// The level, if it was set.
    pub fn get(&self) -> Option<Level> {
        Self::level(self.0.load(Ordering::Relaxed))
    }

    /// Sets the level and tells the one before.
    pub fn replace(&self, level: Level) -> Option<Level> {
        Self::level(self.0.swap(level as u8 + 1, Ordering::Relaxed))
    }

    fn level(number: u8) -> Option<Level> {
        Level::ALL.get(usize::from(number).checked_sub(1)?).copied()
    }
}

/// The request that tells a legacy server which log messages are wanted.
pub fn set_level(id: u64, level: Level) -> Bytes {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"logging/setLevel","params":{{"level":"{level}"}}}}"#
    )
    .into()
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The level of a `notifications/message` with these raw params, if it names one that we know.
pub fn level_of(params: Option<Json<'_>>) -> Option<Level> {
    let level = member(params?.get(), "level").and_then(unescape)?;
    Level::from_wire(&level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_none_until_it_is_set() {
        let threshold = Threshold::default();
        let mut before = None;
        assert_eq!(threshold.get(), before);
        for level in Level::ALL {
            assert_eq!(threshold.replace(level), before);
            before = Some(level);
            assert_eq!(threshold.get(), before);
        }
    }

    #[test]
    fn a_level_is_told_as_a_request() {
        let told = set_level(7, Level::Notice);
        let Ok(crate::Message::Request { id, method, params }) = crate::Message::parse(&told)
        else {
            panic!("{told:?}")
        };
        assert_eq!((id.as_json(), &*method), ("7", "logging/setLevel"));
        assert_eq!(Level::parse(params.unwrap()).unwrap(), Level::Notice);
    }

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
