//! What the lists of globs in keys and policies share: `servers` and `tools`, both of them
//! everything by default.

use kube::core::Rule;

/// The default of a list of globs: everything.
pub(crate) fn everything() -> Vec<String> {
    vec!["*".to_owned()]
}

/// Refuses an empty list, which could be read as "all" as well as "none".
pub(crate) fn not_empty() -> Rule {
    Rule::new("self.size() > 0")
        .message("must not be an empty list; leave it out to mean all, or name at least one")
}
