//! Patterns with `*` and `?`. Performs no I/O.

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

/// A set of names given by patterns: `*` is any run of characters, `?` is one.
#[derive(Clone, Serialize, Deserialize)]
#[serde(into = "Vec<String>", from = "Vec<String>")]
pub(crate) struct Globs {
    patterns: Box<[String]>,
    matchers: Box<[WildMatch]>,
    everything: bool,
}

impl Globs {
    pub(crate) fn new(patterns: &[String]) -> Self {
        let mut patterns = patterns.to_vec();
        patterns.sort_unstable();
        patterns.dedup();
        let matchers = patterns.iter().map(|pattern| WildMatch::new(pattern)).collect();
        let everything = patterns.iter().any(|pattern| pattern == "*");
        Self { patterns: patterns.into_boxed_slice(), matchers, everything }
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        self.everything || self.matchers.iter().any(|matcher| matcher.matches(name))
    }

    /// Whether no name is left out.
    pub(crate) const fn is_everything(&self) -> bool {
        self.everything
    }
}

impl From<Vec<String>> for Globs {
    fn from(patterns: Vec<String>) -> Self {
        Self::new(&patterns)
    }
}

impl From<Globs> for Vec<String> {
    fn from(globs: Globs) -> Self {
        globs.patterns.into_vec()
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
    use proptest::prelude::*;

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

    #[test]
    fn any_of_several_patterns_is_enough_and_their_order_is_nothing() {
        let globs = |patterns: &[&str]| {
            Globs::new(&patterns.iter().map(|&pattern| pattern.to_owned()).collect::<Vec<_>>())
        };

        assert!(globs(&["a", "b*"]).matches("bc"));
        assert!(!globs(&[]).matches("a"));
        assert!(globs(&["a", "*"]).is_everything() && !globs(&["?*"]).is_everything());
        assert_eq!(globs(&["b", "a", "b"]), globs(&["a", "b"]));
    }

    /// As the manual says it, however slow.
    fn reference(pattern: &[char], name: &[char]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, left) => left.is_none(),
            (Some((&'*', rest)), left) => {
                reference(rest, name) || left.is_some_and(|(_, name)| reference(pattern, name))
            }
            (Some(_), None) => false,
            (Some((p, pattern)), Some((c, name))) => {
                (*p == '?' || p == c) && reference(pattern, name)
            }
        }
    }

    proptest! {
        #[test]
        fn patterns_match_as_the_manual_says(pattern in "[abé*?]{0,7}", name in "[abé]{0,9}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();

            let matches = Globs::new(std::slice::from_ref(&pattern)).matches(&name);

            prop_assert_eq!(matches, reference(&chars(&pattern), &chars(&name)));
        }
    }
}
