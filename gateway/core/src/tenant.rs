//! The routing table of one tenant. Performs no I/O.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::catalog::fingerprint;
use crate::entry::Subject;
use crate::exposed::exposed_names;
use crate::rights::Entitlement;
use crate::snapshot::TenantEntries;
use crate::{
    Catalog, Diagnostic, Entry, KeyEntry, Namespace, Principal, Reason, ServerEntry, ServerName,
};

/// What one tenant's principals may see and call.
#[derive(Debug)]
pub struct Tenant {
    namespace: Namespace,
    /// By name.
    servers: BTreeMap<ServerName, Server>,
    /// All tools, server by server.
    tools: Vec<CompiledTool>,
    /// Exposed name to index of the tool.
    names: HashMap<Box<str>, usize>,
    /// Each key with the index of its entitlement.
    keys: Vec<(Arc<KeyEntry>, usize)>,
    entitlements: Vec<(Entitlement, OnceLock<View>)>,
    diagnostics: Vec<Diagnostic>,
}

/// A server of the tenant.
#[derive(Debug)]
pub struct Server {
    /// Its facts.
    pub entry: Arc<ServerEntry>,
    /// What it offers; `None` until it first said.
    pub catalog: Option<Arc<Catalog>>,
    tools: Range<usize>,
    /// Its own names to indices of tools.
    names: HashMap<Box<str>, usize>,
}

/// A tool as clients see it.
#[derive(Debug)]
pub struct CompiledTool {
    /// Whose tool it is.
    pub server: Arc<ServerEntry>,
    /// The name its server uses.
    pub name: Box<str>,
    /// Whether a call may be sent twice.
    pub replayable: bool,
    /// Name among all tools of the tenant; `None` when another server holds it.
    exposed: Option<Box<str>>,
    /// Definition under the exposed name.
    listed: Bytes,
    /// Definition under the server's own name.
    own: Bytes,
    fingerprint: u64,
}

/// Through which URL a client looks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All servers, exposed names.
    All,
    /// One server, its own names.
    Server(ServerName),
}

/// The tools an entitlement shows: one bit a tool.
#[derive(Debug)]
struct View {
    visible: Box<[u64]>,
}

impl View {
    fn new(tools: &[CompiledTool], entitlement: &Entitlement) -> Self {
        let mut visible = vec![0_u64; tools.len().div_ceil(64)].into_boxed_slice();
        for (at, tool) in tools.iter().enumerate() {
            if entitlement.allows(tool.server.name.as_str(), &tool.name)
                && let Some(word) = visible.get_mut(at / 64)
            {
                *word |= 1 << (at % 64);
            }
        }
        Self { visible }
    }

    fn shows(&self, tool: usize) -> bool {
        self.visible.get(tool / 64).is_some_and(|word| word & (1 << (tool % 64)) != 0)
    }
}

impl Tenant {
    /// The tenant's name.
    pub const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// A server by name, whoever asks.
    pub fn server(&self, name: &ServerName) -> Option<&Server> {
        self.servers.get(name)
    }

    /// The tool of that name, if the principal may use it. Unknown and forbidden are one answer.
    pub fn find(&self, name: &str, scope: &Scope, principal: &Principal) -> Option<&CompiledTool> {
        let at = match scope {
            Scope::All => self.names.get(name),
            Scope::Server(server) => self.servers.get(server)?.names.get(name),
        };
        at.filter(|at| self.view(principal).is_some_and(|view| view.shows(**at)))
            .and_then(|at| self.tools.get(*at))
    }

    /// Definitions of all tools that the principal may use, in a stable order.
    pub fn list<'a>(
        &'a self,
        scope: &'a Scope,
        principal: &Principal,
    ) -> impl Iterator<Item = &'a Bytes> {
        self.visible(scope, principal).map(|tool| tool.definition(scope))
    }

    /// Changes when what [`Self::list`] gives changes.
    pub fn view_hash(&self, scope: &Scope, principal: &Principal) -> u64 {
        self.visible(scope, principal).fold(0, |hash, tool| fingerprint((hash, tool.fingerprint)))
    }

    /// Whether the principal may use any tool of that server, or could once it has tools.
    pub fn knows(&self, server: &ServerName, principal: &Principal) -> bool {
        let Some(known) = self.servers.get(server) else { return false };
        let Some((entitlement, _)) = self.entitlements.get(principal.entitlement) else {
            return false;
        };
        match &known.catalog {
            Some(_) => self.visible(&Scope::Server(server.clone()), principal).next().is_some(),
            None => entitlement.may_reach(server.as_str()),
        }
    }

    /// What is wrong with resources as they meet each other.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    pub(crate) fn keys(&self) -> &[(Arc<KeyEntry>, usize)] {
        &self.keys
    }

    /// Made at the first request that needs it: most entitlements of a large tenant sleep.
    fn view(&self, principal: &Principal) -> Option<&View> {
        let (entitlement, view) = self.entitlements.get(principal.entitlement)?;
        Some(view.get_or_init(|| View::new(&self.tools, entitlement)))
    }

    fn visible<'a>(
        &'a self,
        scope: &'a Scope,
        principal: &Principal,
    ) -> impl Iterator<Item = &'a CompiledTool> {
        let range = match scope {
            Scope::All => 0..self.tools.len(),
            Scope::Server(name) => {
                self.servers.get(name).map_or(0..0, |server| server.tools.clone())
            }
        };
        let view = self.view(principal);
        range
            .filter(move |at| view.is_some_and(|view| view.shows(*at)))
            .filter_map(|at| self.tools.get(at))
            .filter(move |tool| *scope != Scope::All || tool.exposed.is_some())
    }
}

impl CompiledTool {
    fn definition(&self, scope: &Scope) -> &Bytes {
        match scope {
            Scope::All => &self.listed,
            Scope::Server(_) => &self.own,
        }
    }
}

impl Tenant {
    /// Compiles the entries of one tenant. `previous` tells who holds which name.
    pub(crate) fn compile(
        namespace: &Namespace,
        entries: &TenantEntries,
        previous: Option<&Self>,
    ) -> Self {
        let (servers, mut tools) = compile_tools(entries);
        let (names, diagnostics) = settle_names(&servers, &mut tools, previous);
        let (keys, entitlements) = entitle(entries);
        Self {
            namespace: namespace.clone(),
            servers,
            tools,
            names,
            keys,
            entitlements,
            diagnostics,
        }
    }
}

fn compile_tools(entries: &TenantEntries) -> (BTreeMap<ServerName, Server>, Vec<CompiledTool>) {
    let mut tools = Vec::new();
    let servers = entries
        .servers
        .iter()
        .map(|(name, entry)| {
            let catalog = entries.catalogs.get(name).cloned();
            let start = tools.len();
            tools.extend(catalog.iter().flat_map(|catalog| compile_server(entry, catalog)));
            let range = start..tools.len();
            let names = range
                .clone()
                .filter_map(|at| tools.get(at).map(|tool: &CompiledTool| (tool.name.clone(), at)))
                .collect();
            (name.clone(), Server { entry: entry.clone(), catalog, tools: range, names })
        })
        .collect();
    (servers, tools)
}

fn compile_server(entry: &Arc<ServerEntry>, catalog: &Catalog) -> Vec<CompiledTool> {
    let rules = &entry.tools;
    let shown: Vec<_> = catalog.tools().iter().filter(|tool| rules.show(&tool.name)).collect();
    let own_names: Vec<&str> = shown.iter().map(|tool| &*tool.name).collect();
    let exposed = exposed_names(&rules.prefix, &own_names);
    shown
        .into_iter()
        .zip(exposed)
        .map(|(tool, exposed)| {
            let description = rules.descriptions.get(&*tool.name).map(String::as_str);
            let listed = tool.render(&exposed, description);
            CompiledTool {
                server: entry.clone(),
                name: tool.name.clone(),
                replayable: tool.replayable,
                fingerprint: fingerprint(&listed),
                own: tool.render(&tool.name, description),
                exposed: Some(exposed.into()),
                listed,
            }
        })
        .collect()
}

/// Gives each exposed name to one tool: the earliest claim among the servers, except that a tool
/// added later to a server's list never takes a name from the server that holds it.
fn settle_names(
    servers: &BTreeMap<ServerName, Server>,
    tools: &mut [CompiledTool],
    previous: Option<&Tenant>,
) -> (HashMap<Box<str>, usize>, Vec<Diagnostic>) {
    let mut by_claim: Vec<&Server> = servers.values().collect();
    by_claim.sort_by(|a, b| a.entry.claim.cmp(&b.entry.claim));
    // Servers whose first list this is have had no chance to claim before.
    let newly_listed = |server: &ServerName| {
        previous
            .and_then(|previous| previous.server(server))
            .is_none_or(|server| server.catalog.is_none())
    };
    let held = |name: &str, server: &ServerName| {
        previous.is_some_and(|previous| {
            previous
                .names
                .get(name)
                .and_then(|at| previous.tools.get(*at))
                .is_some_and(|tool| tool.server.name == *server)
        })
    };

    let mut names: HashMap<Box<str>, usize> = HashMap::new();
    for server in &by_claim {
        for at in server.tools.clone() {
            let Some(tool) = tools.get(at) else { continue };
            let Some(name) = tool.exposed.clone() else { continue };
            match names.entry(name) {
                MapEntry::Vacant(free) => {
                    free.insert(at);
                }
                MapEntry::Occupied(mut taken) => {
                    let winner = tools.get(*taken.get()).map(|tool| &tool.server.name);
                    let winner_is_late = winner
                        .is_some_and(|winner| !newly_listed(winner) && !held(taken.key(), winner));
                    if winner_is_late && held(taken.key(), &server.entry.name) {
                        taken.insert(at);
                    }
                }
            }
        }
    }
    let diagnostics = drop_losers(&names, tools);
    (names, diagnostics)
}

fn drop_losers(names: &HashMap<Box<str>, usize>, tools: &mut [CompiledTool]) -> Vec<Diagnostic> {
    let holders: HashMap<usize, ServerName> = names
        .values()
        .filter_map(|at| tools.get(*at).map(|tool| (*at, tool.server.name.clone())))
        .collect();
    let mut diagnostics = Vec::new();
    for (at, tool) in tools.iter_mut().enumerate() {
        let Some(name) = tool.exposed.take_if(|_| !holders.contains_key(&at)) else { continue };
        let holder = names.get(&name).and_then(|at| holders.get(at));
        diagnostics.push(Diagnostic {
            resource: Entry::Server(tool.server.clone()).resource(),
            reason: Reason::NameConflict,
            message: format!(
                "tool {} is hidden: the name {name} is held by McpServer {}; set another tools.prefix",
                tool.name,
                holder.map_or("", ServerName::as_str),
            ),
        });
    }
    diagnostics
}

type Keys = Vec<(Arc<KeyEntry>, usize)>;

/// Finds the rules that match each key. Keys that match the same rules share an entitlement.
fn entitle(entries: &TenantEntries) -> (Keys, Vec<(Entitlement, OnceLock<View>)>) {
    let mut by_subject: HashMap<&Subject, Vec<usize>> = HashMap::new();
    let policies: Vec<_> = entries.policies.values().collect();
    for (at, policy) in policies.iter().enumerate() {
        for subject in &policy.subjects {
            by_subject.entry(subject).or_default().push(at);
        }
    }
    let mut entitlements: HashMap<Entitlement, usize> = HashMap::new();
    let keys = entries
        .keys
        .values()
        .map(|key| {
            let mut matching: Vec<usize> = subjects(key)
                .iter()
                .filter_map(|subject| by_subject.get(subject))
                .flatten()
                .copied()
                .collect();
            matching.sort_unstable();
            matching.dedup();
            let mut entitlement = Entitlement::default();
            entitlement.allow.extend(key.allow.clone());
            for policy in matching.iter().filter_map(|at| policies.get(*at)) {
                entitlement.allow.extend(policy.allow.iter().cloned());
                entitlement.deny.extend(policy.deny.iter().cloned());
            }
            let next = entitlements.len();
            (key.clone(), *entitlements.entry(entitlement).or_insert(next))
        })
        .collect();
    let mut ordered: Vec<(Entitlement, usize)> = entitlements.into_iter().collect();
    ordered.sort_unstable_by_key(|(_, at)| *at);
    let entitlements =
        ordered.into_iter().map(|(entitlement, _)| (entitlement, OnceLock::new())).collect();
    (keys, entitlements)
}

fn subjects(key: &KeyEntry) -> Vec<Subject> {
    let groups = key.groups.iter().cloned().map(Subject::Group);
    [Subject::User(key.user.to_string()), Subject::Key(key.name.to_string())]
        .into_iter()
        .chain(groups)
        .collect()
}
