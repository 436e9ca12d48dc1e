//! Which tool holds which name among all tools of a tenant. Performs no I/O.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::{CompiledTool, Server, Tenant};
use crate::{Diagnostic, Entry, Reason, ServerName};

/// Exposed name to index of its tool, the indices of tools that hold none, and what to tell of
/// these.
pub(super) type Settled = (HashMap<Arc<str>, usize>, HashSet<usize>, Vec<Diagnostic>);

/// Gives each exposed name to one tool: the earliest claim among the servers, except that a tool
/// added later to a server's list never takes a name from the tool that holds it.
pub(super) fn settle_names(
    servers: &BTreeMap<ServerName, Server>,
    tools: &[Arc<CompiledTool>],
    previous: Option<&Tenant>,
) -> Settled {
    let held = Held { servers, tools, previous };
    let mut by_claim: Vec<&Server> = servers.values().collect();
    // The tenant's own servers first, whatever others expose to it and when.
    // Stable: equal claims, as of two servers in one file, are decided by name.
    by_claim.sort_by_key(|server| (!server.own, &server.entry.claim));

    let mut names: HashMap<Arc<str>, usize> = HashMap::with_capacity(tools.len());
    let mut nameless = HashSet::new();
    for at in by_claim.into_iter().flat_map(|server| server.tools.clone()) {
        let Some(tool) = tools.get(at) else { continue };
        match names.entry(tool.exposed.clone()) {
            MapEntry::Vacant(free) => {
                free.insert(at);
            }
            MapEntry::Occupied(mut taken) => {
                let earlier = *taken.get();
                let holder = held.holder(taken.key());
                let may_hold =
                    |at| holder.is_none_or(|holder| holder == at || held.is_first_claim(at));
                if may_hold(at) && !may_hold(earlier) {
                    taken.insert(at);
                    nameless.insert(earlier);
                } else {
                    nameless.insert(at);
                }
            }
        }
    }
    let diagnostics = conflicts(tools, &names, &nameless);
    (names, nameless, diagnostics)
}

/// Looks up what the table before says of tools of this one.
struct Held<'a> {
    servers: &'a BTreeMap<ServerName, Server>,
    tools: &'a [Arc<CompiledTool>],
    previous: Option<&'a Tenant>,
}

impl Held<'_> {
    /// The server of the table before, if it is the same: one that was deleted and made anew under
    /// its name has a claim of its own.
    fn before(&self, name: &ServerName) -> Option<&Server> {
        let server = self.servers.get(name)?;
        self.previous?.servers.get(name).filter(|before| before.entry.claim == server.entry.claim)
    }

    /// Index of the tool that held the name and still claims it.
    fn holder(&self, name: &str) -> Option<usize> {
        let previous = self.previous?;
        let tool = previous.tools.get(*previous.names.get(name)?)?;
        let server = self.servers.get(&tool.known_as)?;
        let at = self.before(&tool.known_as).and_then(|_| server.find(&tool.name))?;
        self.tools.get(at).filter(|tool| *tool.exposed == *name).map(|_| at)
    }

    /// Whether the tool is of its server's first list. Which server lists first is chance, so the
    /// first list of an earlier claim takes its names; after that it comes too late.
    fn is_first_claim(&self, tool: usize) -> bool {
        self.tools
            .get(tool)
            .and_then(|tool| self.before(&tool.known_as))
            .is_none_or(|before| before.catalog.is_none())
    }
}

fn conflicts(
    tools: &[Arc<CompiledTool>],
    names: &HashMap<Arc<str>, usize>,
    nameless: &HashSet<usize>,
) -> Vec<Diagnostic> {
    let mut losers: Vec<usize> = nameless.iter().copied().collect();
    losers.sort_unstable();
    let conflict = |at| {
        let tool: &Arc<CompiledTool> = tools.get(at)?;
        let holder = tools.get(*names.get(&tool.exposed)?)?;
        Some(Diagnostic {
            resource: Entry::Server(tool.server.clone()).resource(),
            reason: Reason::NameConflict,
            message: format!(
                "tool {} is hidden: the name {} is held by tool {} of McpServer {}; set another \
                 tools.prefix",
                tool.name, tool.exposed, holder.name, holder.server.name,
            ),
        })
    };
    losers.into_iter().filter_map(conflict).collect()
}
