//! An entry as it is stored, so that operator and gateways of neighbouring versions read each
//! other's. Performs no I/O.

use serde::{Deserialize, Serialize};

use crate::Entry;

/// An entry, the resource it was made from and who wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Of this layout. A reader refuses one it does not know; fields it does not know it ignores.
    version: u32,
    /// UID of the resource.
    pub uid: String,
    /// `metadata.generation` of the resource.
    pub generation: i64,
    /// Term of the operator that wrote it: a later leader has a higher one.
    pub term: i64,
    /// The facts.
    pub entry: Entry,
}

/// Why a record cannot be read. The text repeats nothing of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// No JSON of ours.
    #[error("the entry cannot be read, at byte {0} of its JSON")]
    Malformed(usize),
    /// Written by a later operator.
    #[error("the entry has version {0}, this program reads {VERSION}; upgrade the gateway")]
    Version(u32),
}

impl Record {
    /// A record of an entry.
    pub const fn new(uid: String, generation: i64, term: i64, entry: Entry) -> Self {
        Self { version: VERSION, uid, generation, term, entry }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn parse(json: &[u8]) -> Result<Self, RecordError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let malformed = |error: serde_json::Error| RecordError::Malformed(error.column());
        let Version { version } = serde_json::from_slice(json).map_err(malformed)?;
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        serde_json::from_slice(json).map_err(malformed)
    }

    /// The record as JSON, the same for the same record.
    ///
    /// # Errors
    /// None that the types allow.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    /// Whether it says the same of the same resource, whoever wrote it.
    pub fn says(&self, other: &Self) -> bool {
        self.uid == other.uid && self.generation == other.generation && self.entry == other.entry
    }

    /// Whether a record that was read before this one is the newer: a leader that was paused and
    /// wakes must not turn anything back.
    pub fn is_older_than(&self, before: &Self) -> bool {
        self.uid == before.uid && (self.term, self.generation) < (before.term, before.generation)
    }
}

const VERSION: u32 = 1;

/// What has a text.
pub(crate) mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(crate) fn deserialize<'de, T: FromStr, D: Deserializer<'de>>(
        from: D,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(|_| D::Error::custom("not a URL or the name of a header"))
    }
}

/// A header's value that is no secret, or none.
pub(crate) mod header {
    use http::HeaderValue;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(
        value: &Option<HeaderValue>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().and_then(|value| value.to_str().ok()).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<HeaderValue>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let parse = |text: String| HeaderValue::from_str(&text);
        text.map(parse).transpose().map_err(|_| D::Error::custom("not the value of a header"))
    }
}

/// A header's value that is a secret.
pub(crate) mod secret {
    use http::HeaderValue;
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &HeaderValue, to: S) -> Result<S::Ok, S::Error> {
        // `from_str` made it, which takes a little more than `to_str` gives.
        let text = std::str::from_utf8(value.as_bytes())
            .map_err(|_| S::Error::custom("a credential that is no text"))?;
        text.serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<HeaderValue, D::Error> {
        let text = String::deserialize(from)?;
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| D::Error::custom("not the value of a header"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// A time in whole milliseconds.
pub(crate) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}
