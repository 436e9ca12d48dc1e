//! Members that a result should have.

use bytes::{BufMut, Bytes, BytesMut};

/// A member to add to a result that passes through, if it is not there.
#[derive(Clone, Debug)]
pub struct Addition {
    key: &'static str,
    value: Bytes,
    replace: bool,
    seen: bool,
}

impl Addition {
    /// Adds `"key":value`, the value as JSON text, to a result without this key. The key has at most 10
    /// characters and is written as it is.
    pub fn new(key: &'static str, value: impl Into<Bytes>) -> Self {
        Self { key, value: value.into(), replace: false, seen: false }
    }

    /// Likewise, and puts the value in the place of a string, number or literal that stands there.
    pub fn replacing(key: &'static str, value: impl Into<Bytes>) -> Self {
        Self { replace: true, ..Self::new(key, value) }
    }
}

/// Notes that the result has this key, and tells what its value is to be if that changes.
pub(super) fn see(additions: &mut [Addition], key: &[u8]) -> Option<Bytes> {
    let addition = additions.iter_mut().find(|addition| addition.key.as_bytes() == key)?;
    addition.seen = true;
    addition.replace.then(|| addition.value.clone())
}

/// The members that were not seen, to be put at the end of the result.
pub(super) fn missing(additions: &[Addition], empty: bool) -> Option<Bytes> {
    let mut out = BytesMut::new();
    for addition in additions.iter().filter(|addition| !addition.seen) {
        if !empty || !out.is_empty() {
            out.put_u8(b',');
        }
        out.put_u8(b'"');
        out.put_slice(addition.key.as_bytes());
        out.put_slice(b"\":");
        out.put_slice(&addition.value);
    }
    (!out.is_empty()).then(|| out.freeze())
}
