//! What a directory listing looks like: directories first, each kind sorted by name.

use std::{collections::BTreeSet, fmt};

/// The first entries of a directory, however many it has.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    entries: BTreeSet<Entry>,
    seen: usize,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Entry {
    Directory(String),
    File(String),
}

impl Listing {
    pub(crate) fn add(&mut self, is_dir: bool, name: String) {
        let entry = if is_dir { Entry::Directory(name) } else { Entry::File(name) };
        self.entries.insert(entry);
        self.seen += 1;
        if self.entries.len() > MAX_ENTRIES {
            self.entries.pop_last();
        }
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.entries.is_empty() {
            return f.write_str("(empty)");
        }
        for (index, entry) in self.entries.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            match entry {
                Entry::Directory(name) => write!(f, "{separator}[DIR] {name}")?,
                Entry::File(name) => write!(f, "{separator}{name}")?,
            }
        }
        if self.seen > self.entries.len() {
            let shown = self.entries.len();
            write!(f, "\n[cut: these are the first {shown} of {} entries]", self.seen)?;
        }
        Ok(())
    }
}

/// As many as a model can make use of.
const MAX_ENTRIES: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(entries: impl IntoIterator<Item = (bool, String)>) -> String {
        let mut listing = Listing::default();
        for (is_dir, name) in entries {
            listing.add(is_dir, name);
        }
        listing.to_string()
    }

    #[test]
    fn directories_come_first_and_each_kind_is_sorted() {
        let entries = [(false, "b"), (true, "z"), (false, "B"), (true, "a"), (false, "a")];

        let listing = listing(entries.map(|(is_dir, name)| (is_dir, name.to_owned())));

        assert_eq!(listing, "[DIR] a\n[DIR] z\nB\na\nb");
    }

    #[test]
    fn nothing_is_said_to_be_empty() {
        assert_eq!(listing([]), "(empty)");
    }

    #[test]
    fn a_listing_ends_at_the_cap_and_says_so() {
        let full = listing((0..1000).map(|n| (false, format!("{n:04}"))));
        let over = listing((0..1003).rev().map(|n| (n == 1002, format!("{n:04}"))));

        assert_eq!(full.lines().count(), 1000);
        assert_eq!(over.lines().next(), Some("[DIR] 1002"));
        assert_eq!(over.lines().nth(999), Some("0998"));
        assert_eq!(
            over.lines().skip(1000).collect::<Vec<_>>(),
            ["[cut: these are the first 1000 of 1003 entries]"]
        );
    }
}
