//! The names under which clients see tools. Performs no I/O.
//!
//! Model APIs take `[A-Za-z0-9_-]`, most of them 64 characters at most, so names that do not fit
//! are changed; the way back is always a table, never a split of the string. They follow from the
//! server's list alone, so that every gateway finds the same ones: a tool whose own name fits keeps
//! it, whoever else of that server would come to it.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};

/// Longest name most model APIs take.
const MAX_LENGTH: usize = 64;

/// Names for all tools of one server, in the order given, which a tool's name does not depend on.
/// Distinct tools get distinct names, unless somebody names a tool after the hash of another one.
pub(crate) fn exposed_names(prefix: &str, tools: &[&str]) -> Vec<String> {
    let wanted: Vec<Wanted> = tools.iter().map(|tool| Wanted::new(prefix, tool)).collect();
    let mut claims: HashMap<&str, usize> = HashMap::new();
    for name in &wanted {
        *claims.entry(name.text.as_str()).or_default() += 1;
    }
    wanted
        .iter()
        .map(|name| {
            let shared = claims.get(name.text.as_str()).is_some_and(|claims| *claims > 1);
            if name.cut || (name.changed && shared) {
                with_hash(&name.text, &name.whole)
            } else {
                name.text.clone()
            }
        })
        .collect()
}

struct Wanted {
    /// Prefix and name as they are.
    whole: String,
    /// The same in characters that every model API takes.
    text: String,
    /// Characters were replaced: the name may meet another one.
    changed: bool,
    /// Too long.
    cut: bool,
}

impl Wanted {
    fn new(prefix: &str, tool: &str) -> Self {
        let whole = format!("{prefix}{tool}");
        let text: String = whole.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
        let cut = text.len() > MAX_LENGTH || text.is_empty();
        Self { changed: text != whole, cut, text, whole }
    }
}

const fn allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// A shortened name made unique by 32 bits of a hash over what it was: of the prefix too, which may
/// have been what was cut.
fn with_hash(text: &str, whole: &str) -> String {
    let hash = digest(&SHA256, whole.as_bytes());
    let suffix: String = hash.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let kept: String = text.chars().take(MAX_LENGTH - 1 - suffix.len()).collect();
    format!("{kept}_{suffix}")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_fit_stay() {
        assert_eq!(exposed_names("git_", &["log", "show"]), ["git_log", "git_show"]);
        assert_eq!(exposed_names("", &["add"]), ["add"]);
    }

    #[test]
    fn dots_become_underscores_and_a_name_taken_gets_a_hash() {
        let names = exposed_names("", &["repo.list", "a.b", "a_b", "a:b"]);

        assert_eq!(names[0], "repo_list");
        assert_eq!(names[2], "a_b");
        assert!(names[1].starts_with("a_b_") && names[3].starts_with("a_b_"));
        assert_ne!(names[1], names[3]);
    }

    #[test]
    fn long_names_are_cut_to_the_limit() {
        let long = "x".repeat(80);

        let names = exposed_names("server_", &[&long]);

        assert_eq!(names[0].len(), 64);
        assert!(names[0].starts_with("server_xxx"));
    }

    #[test]
    fn names_cut_behind_different_prefixes_differ() {
        let server = "s".repeat(60);

        let one = exposed_names(&format!("{server}1_"), &["add"]);
        let two = exposed_names(&format!("{server}2_"), &["add"]);

        assert_ne!(one, two);
    }

    proptest! {
        #[test]
        fn every_tool_is_found_again_by_its_name_in_any_order(
            prefix in "[a-z]{0,20}_?",
            tools in proptest::collection::btree_set("[a-zA-Z0-9_.:é -]{1,90}", 1..30),
        ) {
            let forward: Vec<&str> = tools.iter().map(String::as_str).collect();
            let backward: Vec<&str> = tools.iter().rev().map(String::as_str).collect();

            let names: BTreeMap<_, _> =
                forward.iter().zip(exposed_names(&prefix, &forward)).collect();
            let again: BTreeMap<_, _> =
                backward.iter().zip(exposed_names(&prefix, &backward)).collect();

            prop_assert_eq!(&names, &again);
            let distinct: BTreeSet<_> = names.values().collect();
            prop_assert_eq!(distinct.len(), tools.len());
            for name in names.values() {
                prop_assert!(!name.is_empty() && name.len() <= 64 && name.chars().all(allowed));
            }
        }
    }
}
