//! One list of all servers of a tenant, and who of them holds which name. Performs no I/O.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// All items of one kind, server by server.
#[derive(Debug)]
pub(super) struct Offers<T> {
    pub(super) items: Vec<Arc<T>>,
    /// Exposed name to index of the item that holds it.
    pub(super) holders: HashMap<Arc<str>, usize>,
    /// Indices of the items that hold no name.
    pub(super) nameless: HashSet<usize>,
}

impl<T> Default for Offers<T> {
    fn default() -> Self {
        Self { items: Vec::new(), holders: HashMap::new(), nameless: HashSet::new() }
    }
}

impl<T> Offers<T> {
    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.items.get(at).map(AsRef::as_ref)
    }

    /// The item that holds a name.
    pub(super) fn holder(&self, name: &str) -> Option<usize> {
        self.holders.get(name).copied()
    }

    pub(super) fn of(&self, span: &Span) -> &[Arc<T>] {
        self.items.get(span.range()).unwrap_or_default()
    }
}

/// The items of one server.
#[derive(Debug, Clone)]
pub(super) struct Span {
    start: usize,
    len: usize,
    /// Its own names to offsets.
    names: Arc<HashMap<Box<str>, usize>>,
}

impl Span {
    /// The items that stand from `start` on, under the names they have.
    pub(super) fn new<'a>(start: usize, names: impl Iterator<Item = &'a str>) -> Self {
        let names: HashMap<_, _> =
            names.enumerate().map(|(offset, name)| (name.into(), offset)).collect();
        Self { start, len: names.len(), names: Arc::new(names) }
    }

    /// The same items in another place.
    pub(super) fn moved(&self, start: usize) -> Self {
        Self { start, ..self.clone() }
    }

    pub(super) const fn range(&self) -> Range<usize> {
        self.start..self.start + self.len
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Index of the item that the server calls so.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.names.get(name).map(|offset| self.start + offset)
    }
}
