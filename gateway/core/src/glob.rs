//! Patterns with `*` and `?`. Performs no I/O.

use std::fmt;
use std::hash::{Hash, Hasher};

use wildmatch::WildMatch;

/// A set of names given by patterns: `*` is any run of characters, `?` is one.
#[derive(Clone)]
pub(crate) struct Globs {
    patterns: Box<[String]>,
    matchers: Box<[WildMatch]>,
}

impl Globs {
    pub(crate) fn new(patterns: &[String]) -> Self {
        let mut patterns = patterns.to_vec();
        patterns.sort_unstable();
        patterns.dedup();
        let matchers = patterns.iter().map(|pattern| WildMatch::new(pattern)).collect();
        Self { patterns: patterns.into_boxed_slice(), matchers }
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        self.matchers.iter().any(|matcher| matcher.matches(name))
    }
}

// Equal sets of patterns are one entitlement; the matchers follow from them.
impl PartialEq for Globs {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

impl Eq for Globs {}

impl Hash for Globs {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.patterns.hash(state);
    }
}

impl fmt::Debug for Globs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.patterns.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, matches) in [
            ("*", "anything", true),
            ("read_*", "read_file", true),
            ("read_*", "spread_file", false),
            ("list", "list_all", false),
            ("a?d", "add", true),
            ("a?d", "ad", false),
            ("[a]", "a", false),
        ] {
            let globs = Globs::new(&[pattern.to_owned()]);
            assert_eq!(globs.matches(name), matches, "{pattern} on {name}");
        }
    }
}
