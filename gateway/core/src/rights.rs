//! Who may use what: (the key's `allow` ∪ what policies allow) − what any policy denies.
//! Performs no I/O.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::glob::Globs;

/// Tools of servers, by patterns on both names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Access {
    pub(crate) servers: ServerGlobs,
    /// Patterns on the names the server itself uses.
    pub(crate) tools: Globs,
}

/// Patterns on servers. One without a namespace matches servers of the rule's own namespace only,
/// so that no `*` opens what another namespace exposes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct ServerGlobs {
    own: Globs,
    exposed: Globs,
}

impl ServerGlobs {
    pub(crate) fn new(patterns: &[String]) -> Self {
        let (exposed, own): (Vec<_>, Vec<_>) =
            patterns.iter().cloned().partition(|pattern| pattern.contains('/'));
        Self { own: Globs::new(&own), exposed: Globs::new(&exposed) }
    }

    /// Whether the rule means the server, which is `NAMESPACE/NAME` for an exposed one.
    pub(crate) fn matches(&self, server: &str) -> bool {
        if server.contains('/') { self.exposed.matches(server) } else { self.own.matches(server) }
    }
}

/// Whether one of the patterns of a rule means a server, which is `NAMESPACE/NAME` for one that
/// another namespace exposes.
pub fn named_by(patterns: &[String]) -> impl Fn(&str) -> bool + use<> {
    let globs = ServerGlobs::new(patterns);
    move |server| globs.matches(server)
}

/// The rules that matched some principal. Principals of one entitlement share one view.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Entitlement {
    pub(crate) allow: Vec<Arc<Access>>,
    pub(crate) deny: Vec<Arc<Access>>,
}

impl Entitlement {
    /// What of it concerns one server.
    pub(crate) fn on(&self, server: &str) -> ServerRights<'_> {
        let matching = |rule: &&Arc<Access>| rule.servers.matches(server);
        ServerRights {
            allow: self.allow.iter().filter(matching).map(|rule| &rule.tools).collect(),
            deny: self.deny.iter().filter(matching).map(|rule| &rule.tools).collect(),
        }
    }
}

/// An entitlement to what one server offers.
pub(crate) struct ServerRights<'a> {
    allow: Vec<&'a Globs>,
    deny: Vec<&'a Globs>,
}

impl ServerRights<'_> {
    /// Default deny; a denial beats every allowance.
    pub(crate) fn allows(&self, tool: &str) -> bool {
        self.allow.iter().any(|tools| tools.matches(tool))
            && !self.deny.iter().any(|tools| tools.matches(tool))
    }

    /// Whether prompts and resources are allowed: by what allows all tools. Rules that name tools
    /// are about these tools alone.
    pub(crate) fn allow_whole(&self) -> bool {
        self.allow.iter().any(|tools| tools.is_everything())
            && !self.deny.iter().any(|tools| tools.is_everything())
    }

    /// Whether a tool could be allowed, whatever its name.
    pub(crate) fn may_allow(&self) -> bool {
        !self.allow.is_empty() && !self.deny.iter().any(|tools| tools.is_everything())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(server: &str, tool: &str) -> Arc<Access> {
        let globs = |pattern: &str| Globs::new(&[pattern.to_owned()]);
        let servers = ServerGlobs::new(&[server.to_owned()]);
        Arc::new(Access { servers, tools: globs(tool) })
    }

    #[test]
    fn nothing_is_allowed_by_default() {
        let rights = Entitlement::default();

        assert!(!rights.on("git").allows("log"));
        assert!(!rights.on("git").may_allow());
    }

    #[test]
    fn an_exposed_server_is_meant_by_its_full_name_only() {
        for (pattern, server, meant) in [
            ("*", "git", true),
            ("*", "ops/git", false),
            ("*/*", "ops/git", true),
            ("*/*", "git", false),
            ("ops/*", "ops/git", true),
            ("ops/git", "dev/git", false),
            ("git", "ops/git", false),
        ] {
            let globs = ServerGlobs::new(&[pattern.to_owned()]);
            assert_eq!(globs.matches(server), meant, "{pattern} on {server}");
        }
    }

    #[test]
    fn a_denial_beats_an_allowance_and_both_names_must_match() {
        let entitlement = Entitlement {
            allow: vec![access("git", "*"), access("files", "read_*"), access("old", "*")],
            deny: vec![access("*", "push"), access("old", "*")],
        };

        for (server, tool, allowed, may_allow) in [
            ("git", "log", true, true),
            ("git", "push", false, true),
            ("files", "read_file", true, true),
            ("files", "write_file", false, true),
            ("old", "log", false, false),
            ("other", "log", false, false),
        ] {
            let rights = entitlement.on(server);
            assert_eq!(rights.allows(tool), allowed, "{server} {tool}");
            assert_eq!(rights.may_allow(), may_allow, "{server}");
        }
    }
}
