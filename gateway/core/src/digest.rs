//! Keyed digests of API keys. Performs no I/O.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};

use crate::hex;

/// The secret that turns API keys into digests, so that a stolen digest is not a key and cannot be
/// guessed offline.
#[derive(Clone)]
pub struct Pepper(Arc<hmac::Key>);

impl Pepper {
    /// A pepper of these bytes; 32 random ones are the recommended size.
    pub fn new(bytes: &[u8]) -> Self {
        Self(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, bytes)))
    }

    /// The digest of an API key.
    pub fn digest(&self, key: &[u8]) -> KeyDigest {
        let tag = hmac::sign(&self.0, key);
        let mut digest = [0; 32];
        for (to, from) in digest.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        KeyDigest(digest)
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

/// HMAC-SHA-256 of an API key. Looking one up takes time that says nothing of the key: who does
/// not know the pepper cannot choose a digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct KeyDigest([u8; 32]);

impl From<KeyDigest> for String {
    fn from(digest: KeyDigest) -> Self {
        hex::encode(&digest.0)
    }
}

impl TryFrom<String> for KeyDigest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        hex::decode(&text).map(Self).ok_or("a digest is 64 hexadecimal digits")
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(…)")
    }
}
