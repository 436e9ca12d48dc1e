//! Changing parts of a message without touching the rest. Performs no I/O.

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

/// A part of some source bytes and what to put in its place.
#[derive(Debug, Clone)]
pub struct Edit<'a> {
    /// Byte offset of the first byte replaced.
    start: usize,
    /// Byte offset after the last byte replaced.
    end: usize,
    with: Cow<'a, [u8]>,
    /// A member put into an object that is empty so far. Another at the same place needs a comma.
    first: bool,
}

impl<'a> Edit<'a> {
    /// Replaces `part`, which must be a slice of `source`, by `with`.
    ///
    /// Returns `None` when `part` lies elsewhere, which a parser that borrows never hands out.
    pub fn replace(source: &[u8], part: &[u8], with: &'a [u8]) -> Option<Self> {
        let start = offset_in(source, part)?;
        Some(Self::at((start, start + part.len()), with))
    }

    /// Replaces the bytes from offset `start` to before `end` by `with`.
    pub const fn at(range: (usize, usize), with: &'a [u8]) -> Self {
        Self { start: range.0, end: range.1, with: Cow::Borrowed(with), first: false }
    }

    /// Like [`at`](Self::at), with text that nobody else needs to keep.
    pub fn owned((start, end): (usize, usize), with: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { start, end, with: with.into(), first: false }
    }

    /// Adds a member at the end of an object, with the comma that it needs. `first` says that no
    /// other member stays in the object.
    pub(crate) fn member(at: usize, mut text: Vec<u8>, first: bool) -> Self {
        if !first {
            text.insert(0, b',');
        }
        Self { start: at, end: at, with: Cow::Owned(text), first }
    }

    /// The same edit, holding its own text.
    pub fn into_owned(self) -> Edit<'static> {
        let Self { start, end, with, first } = self;
        Edit { start, end, with: Cow::Owned(with.into_owned()), first }
    }

    /// The bytes replaced, as offsets into the source.
    pub const fn range(&self) -> (usize, usize) {
        (self.start, self.end)
    }
}

/// Applies edits to `source`; the bytes between them are copied as they are.
///
/// Edits may come in any order; of two that overlap the one that starts first wins. What is inserted
/// at one place stays in order.
pub fn splice(source: &[u8], edits: &mut [Edit<'_>]) -> Bytes {
    edits.sort_by_key(Edit::range);
    let added: usize = edits.iter().map(|edit| edit.with.len() + usize::from(edit.first)).sum();
    let mut out = BytesMut::with_capacity(source.len() + added);
    let mut at = 0;
    let mut first_at = None;
    for edit in edits {
        if let Some(kept) = source.get(at..edit.start) {
            out.put_slice(kept);
            if edit.first && first_at.replace(edit.start) == Some(edit.start) {
                out.put_u8(b',');
            }
            out.put_slice(&edit.with);
            at = edit.end;
        }
    }
    out.put_slice(source.get(at..).unwrap_or_default());
    out.freeze()
}

/// Where in `source` the slice `part` of it begins; `None` when it lies elsewhere.
pub(crate) fn offset_in(source: &[u8], part: &[u8]) -> Option<usize> {
    let start = (part.as_ptr() as usize).checked_sub(source.as_ptr() as usize)?;
    (start.checked_add(part.len())? <= source.len()).then_some(start)
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
