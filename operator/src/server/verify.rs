//! What is kept of a server's list, and what of a changed one is to be accepted. Performs no I/O.

use std::collections::BTreeSet;
use std::sync::Arc;

use crds::{McpServer, ToolChanges};
use kube::ResourceExt;

use super::catalogs::{Definitions, Verified, definitions, fits};
use super::observe::Observed;

/// Accepts changed tools: its value is the hash that was looked at.
pub(super) const ACCEPT: &str = "fairway.dev/accept-tools";

/// What becomes of the list that is kept.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// To be kept in its place.
    pub(super) keep: Option<Verified>,
    /// How the definitions differ from those before; for people.
    pub(super) change: Option<String>,
    /// Whether the list is too large to be kept.
    pub(super) too_large: bool,
}

impl Lists {
    /// What is kept once this is applied.
    pub(super) fn kept<'a>(&'a self, observed: &'a Observed) -> Option<&'a Verified> {
        self.keep.as_ref().or(observed.verified.as_ref())
    }
}

/// The first list is trusted. Later ones are, unless they are to be held in quarantine: then the
/// accepted definitions stay, until somebody names the hash of the new list.
pub(super) fn lists(server: &McpServer, observed: &Observed) -> Lists {
    let uid = server.metadata.uid.as_deref().unwrap_or_default();
    let accepts = |hash: String| {
        server.spec.tool_changes == ToolChanges::Accept
            || server.annotations().get(ACCEPT) == Some(&hash)
    };
    match (&observed.verified, &observed.news) {
        (None, None) => Lists::default(),
        (_, Some(catalog)) if !fits(catalog) => Lists { too_large: true, ..Lists::default() },
        (None, Some(catalog)) => {
            Lists { keep: Some(Verified::first(uid, catalog)), ..Lists::default() }
        }
        (Some(before), Some(catalog)) => {
            let tools = Arc::new(definitions(catalog));
            let change = (before.tools != tools).then(|| difference(&before.tools, &tools));
            let hash = catalog.hash();
            let accepted =
                if accepts(hash.to_string()) { tools.clone() } else { before.accepted.clone() };
            let whole = Some(catalog.whole_hash());
            let keep = Verified { uid: uid.to_owned(), hash, whole, tools, accepted };
            Lists { keep: Some(keep), change, too_large: false }
        }
        (Some(before), None) => {
            let behind = before.accepted != before.tools && accepts(before.hash.to_string());
            let keep =
                behind.then(|| Verified { accepted: before.tools.clone(), ..before.clone() });
            Lists { keep, ..Lists::default() }
        }
    }
}

/// Whether the list that is kept has definitions that nobody accepted.
pub(super) fn unaccepted(server: &McpServer, verified: &Verified) -> Option<String> {
    let held = server.spec.tool_changes == ToolChanges::Quarantine
        && verified.tools.iter().any(|(tool, hash)| verified.accepted.get(tool) != Some(hash));
    held.then(|| difference(&verified.accepted, &verified.tools))
}

/// `changed: a; new: b; gone: c`
pub(super) fn difference(before: &Definitions, now: &Definitions) -> String {
    let names = |names: BTreeSet<&String>| {
        let mut names: Vec<&str> = names.into_iter().map(String::as_str).collect();
        let more = names.len().saturating_sub(MOST);
        names.truncate(MOST);
        let list = names.join(", ");
        if more > 0 { format!("{list} and {more} more") } else { list }
    };
    let changed = now.iter().filter(|(tool, hash)| before.get(*tool).is_some_and(|h| h != *hash));
    let new = now.keys().filter(|tool| !before.contains_key(*tool));
    let gone = before.keys().filter(|tool| !now.contains_key(*tool));
    [
        ("changed", changed.map(|(tool, _)| tool).collect::<BTreeSet<_>>()),
        ("new", new.collect()),
        ("gone", gone.collect()),
    ]
    .into_iter()
    .filter(|(_, tools)| !tools.is_empty())
    .map(|(what, tools)| format!("{what}: {}", names(tools)))
    .collect::<Vec<_>>()
    .join("; ")
}

/// Most names in a message.
const MOST: usize = 10;
