//! The keys of a message.

use std::borrow::Cow;

use memchr::memchr;

use super::ScanError;

/// The keys of the top level that matter here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Member {
    Id,
    Method,
    Params,
    Result,
    Error,
}

impl Member {
    /// The member with this key. `raw` is the key as it stands, with the closing quote; what is
    /// longer than [`MAX_RAW_KEY`] is none of them.
    pub(super) fn of_raw_key(raw: &[u8]) -> Result<Option<Self>, ScanError> {
        Ok(unescaped(raw)?.and_then(|key| Self::of_key(&key)))
    }

    fn of_key(key: &[u8]) -> Option<Self> {
        [Self::Id, Self::Method, Self::Params, Self::Result, Self::Error]
            .into_iter()
            .find(|member| member.name().as_bytes() == key)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Method => "method",
            Self::Params => "params",
            Self::Result => "result",
            Self::Error => "error",
        }
    }
}

/// The text of a key, `raw` being as in [`Member::of_raw_key`]; `None` of one that is too long.
pub(super) fn unescaped(raw: &[u8]) -> Result<Option<Cow<'_, [u8]>>, ScanError> {
    let Some((b'"', raw)) = raw.split_last().filter(|_| raw.len() <= MAX_RAW_KEY) else {
        return Ok(None);
    };
    if memchr(b'\\', raw).is_none() {
        return Ok(Some(Cow::Borrowed(raw)));
    }
    let quoted = [b"\"", raw, b"\""].concat();
    let key: String = serde_json::from_slice(&quoted).map_err(|_| ScanError::MalformedKey)?;
    Ok(Some(Cow::Owned(key.into_bytes())))
}

/// The longest known key, `inputRequests`, has 13 characters; an escaped one takes 6 bytes, as in
/// `\u0069`. One byte is the closing quote.
pub(super) const MAX_RAW_KEY: usize = 79;
