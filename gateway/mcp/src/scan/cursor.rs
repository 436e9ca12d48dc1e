//! Skipping over bytes that mean nothing to the scanner, fast.

use memchr::memchr2;

/// A place in a chunk.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    pub(super) bytes: &'a [u8],
    /// At most `bytes.len()`.
    pub(super) at: usize,
}

/// How a string stands when no more of it can be skipped.
pub(super) enum StringEnd {
    Closed,
    Open { escaped: bool },
}

impl Cursor<'_> {
    pub(super) fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Goes past the next quote or bracket and returns it.
    pub(super) fn skip_plain(&mut self) -> Option<u8> {
        let rest = self.rest();
        let found = rest.iter().position(|byte| STRUCTURE[usize::from(*byte)]);
        let byte = found.and_then(|found| rest.get(found)).copied();
        self.at += found.map_or(rest.len(), |found| found + 1);
        byte
    }

    /// Goes past the end of the string that `self` is in.
    pub(super) fn skip_string(&mut self, mut escaped: bool) -> StringEnd {
        loop {
            if escaped {
                if self.peek().is_none() {
                    return StringEnd::Open { escaped };
                }
                self.at += 1;
            }
            let rest = self.rest();
            let Some(found) = quote_or_backslash(rest) else {
                self.at += rest.len();
                return StringEnd::Open { escaped: false };
            };
            escaped = rest.get(found) == Some(&b'\\');
            self.at += found + 1;
            if !escaped {
                return StringEnd::Closed;
            }
        }
    }
}

/// Most strings are short and most escapes close together: a plain loop finds those before
/// `memchr2` has started.
fn quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    let (near, far) = bytes.split_at_checked(NEAR).unwrap_or((bytes, &[]));
    near.iter()
        .position(|byte| matches!(byte, b'"' | b'\\'))
        .or_else(|| memchr2(b'"', b'\\', far).map(|found| near.len() + found))
}

const STRUCTURE: [bool; 256] = {
    let mut table = [false; 256];
    let structure = *b"\"{}[]";
    let mut at = 0;
    while at < structure.len() {
        table[structure[at] as usize] = true;
        at += 1;
    }
    table
};

const NEAR: usize = 16;
