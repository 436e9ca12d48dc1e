//! Changing parts of a message without touching the rest. Performs no I/O.

use bytes::{BufMut, Bytes, BytesMut};

/// A part of some source bytes and what to put in its place.
#[derive(Debug, Clone)]
pub struct Edit<'a> {
    /// Byte offset of the first byte replaced.
    start: usize,
    /// Byte offset after the last byte replaced.
    end: usize,
    with: &'a [u8],
}

impl<'a> Edit<'a> {
    /// Replaces `part`, which must be a slice of `source`, by `with`.
    ///
    /// Returns `None` when `part` lies elsewhere, which a parser that borrows never hands out.
    pub fn replace(source: &[u8], part: &[u8], with: &'a [u8]) -> Option<Self> {
        let start = (part.as_ptr() as usize).checked_sub(source.as_ptr() as usize)?;
        let end = start.checked_add(part.len())?;
        (end <= source.len()).then_some(Self { start, end, with })
    }

    /// Replaces the bytes from offset `start` to before `end` by `with`.
    pub const fn at((start, end): (usize, usize), with: &'a [u8]) -> Self {
        Self { start, end, with }
    }

    /// The bytes replaced, as offsets into the source.
    pub const fn range(&self) -> (usize, usize) {
        (self.start, self.end)
    }
}

/// Applies edits to `source`; the bytes between them are copied as they are.
///
/// Edits may come in any order; of two that overlap the one that starts first wins.
pub fn splice(source: &[u8], edits: &mut [Edit<'_>]) -> Bytes {
    edits.sort_unstable_by_key(|edit| edit.start);
    let added: usize = edits.iter().map(|edit| edit.with.len()).sum();
    let mut out = BytesMut::with_capacity(source.len() + added);
    let mut at = 0;
    for edit in edits {
        if let Some(kept) = source.get(at..edit.start) {
            out.put_slice(kept);
            out.put_slice(edit.with);
            at = edit.end;
        }
    }
    out.put_slice(source.get(at..).unwrap_or_default());
    out.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn edits_are_applied_where_they_stand() {
        let source = br#"{"id":1,"name":"a"}"#;
        let mut edits = [
            Edit::replace(source, &source[15..18], b"\"longer\"").unwrap(),
            Edit::replace(source, &source[6..7], b"\"x\"").unwrap(),
        ];

        assert_eq!(splice(source, &mut edits), &br#"{"id":"x","name":"longer"}"#[..]);
    }

    #[test]
    fn a_part_of_other_bytes_is_refused() {
        assert!(Edit::replace(b"abc", b"elsewhere, and longer", b"x").is_none());
    }

    proptest! {
        #[test]
        fn replacing_a_part_by_itself_changes_nothing(
            source in proptest::collection::vec(any::<u8>(), 1..200),
            cut in any::<(prop::sample::Index, prop::sample::Index)>(),
        ) {
            let (a, b) = (cut.0.index(source.len()), cut.1.index(source.len()));
            let part = source[a.min(b)..a.max(b)].to_vec();
            let mut edits =
                [Edit::replace(&source, &source[a.min(b)..a.max(b)], &part).unwrap()];

            prop_assert_eq!(splice(&source, &mut edits), source);
        }
    }
}
