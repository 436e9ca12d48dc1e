//! Who may use what: (the key's `allow` ∪ what policies allow) − what any policy denies.
//! Performs no I/O.

use std::sync::Arc;

use crate::glob::Globs;

/// Tools of servers, by patterns on both names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Access {
    pub(crate) servers: Globs,
    /// Patterns on the names the server itself uses.
    pub(crate) tools: Globs,
}

impl Access {
    fn covers(&self, server: &str, tool: &str) -> bool {
        self.servers.matches(server) && self.tools.matches(tool)
    }
}

/// The rules that matched some principal. Principals with equal entitlements share one view.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Entitlement {
    pub(crate) allow: Vec<Arc<Access>>,
    pub(crate) deny: Vec<Arc<Access>>,
}

impl Entitlement {
    /// Default deny; a denial beats every allowance.
    pub(crate) fn allows(&self, server: &str, tool: &str) -> bool {
        self.allow.iter().any(|access| access.covers(server, tool))
            && !self.deny.iter().any(|access| access.covers(server, tool))
    }

    /// Whether some tool of a server may be allowed, when its tools are not known yet.
    pub(crate) fn may_reach(&self, server: &str) -> bool {
        self.allow.iter().any(|access| access.servers.matches(server))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(server: &str, tool: &str) -> Arc<Access> {
        let globs = |pattern: &str| Globs::new(&[pattern.to_owned()]);
        Arc::new(Access { servers: globs(server), tools: globs(tool) })
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        assert!(!Entitlement::default().allows("git", "log"));
    }

    #[test]
    fn a_denial_beats_an_allowance_and_both_names_must_match() {
        let entitlement = Entitlement {
            allow: vec![access("git", "*"), access("files", "read_*")],
            deny: vec![access("*", "push")],
        };

        for (server, tool, allowed) in [
            ("git", "log", true),
            ("git", "push", false),
            ("files", "read_file", true),
            ("files", "write_file", false),
            ("other", "log", false),
        ] {
            assert_eq!(entitlement.allows(server, tool), allowed, "{server} {tool}");
        }
    }
}
