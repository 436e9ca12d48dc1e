//! The routing table of one tenant: what its principals may see and call. Performs no I/O.

mod compile;
mod names;
mod rights;
mod view;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::catalog::fingerprint;
use crate::rights::Entitlement;
use crate::{Catalog, Diagnostic, KeyEntry, Namespace, Principal, ServerEntry, ServerName};
use view::View;

/// What one tenant's principals may see and call.
#[derive(Debug)]
pub struct Tenant {
    namespace: Namespace,
    /// By name.
    servers: BTreeMap<ServerName, Server>,
    /// All tools, server by server.
    tools: Vec<Arc<CompiledTool>>,
    /// Exposed name to index of the tool that holds it.
    names: HashMap<Arc<str>, usize>,
    /// Indices of the tools that hold no name.
    nameless: HashSet<usize>,
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
    /// Whether it is the tenant's, not one exposed to it.
    own: bool,
    /// What it offers; `None` until it first said.
    pub catalog: Option<Arc<Catalog>>,
    /// Indices of its tools.
    tools: Range<usize>,
    /// Its own names to offsets into `tools`.
    names: Arc<HashMap<Box<str>, usize>>,
}

/// A tool as clients see it.
#[derive(Debug)]
pub struct CompiledTool {
    /// Whose tool it is.
    pub server: Arc<ServerEntry>,
    /// How the tenant's rules name the server.
    known_as: ServerName,
    /// The name its server uses.
    pub name: Box<str>,
    /// Whether a call may be sent twice.
    pub replayable: bool,
    /// The name among all tools of the tenant, if no other tool holds it.
    exposed: Arc<str>,
    /// Under the exposed name.
    listed: Rendered,
    /// Under the server's own name.
    own: Rendered,
}

/// A definition as it is listed.
#[derive(Debug, Clone)]
struct Rendered {
    definition: Bytes,
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
            Scope::All => *self.names.get(name)?,
            Scope::Server(server) => self.servers.get(server)?.find(name)?,
        };
        let (_, view) = self.entitled(principal)?;
        self.tools.get(at).filter(|_| view.shows(at)).map(AsRef::as_ref)
    }

    /// Definitions of all tools that the principal may use, in a stable order.
    pub fn list<'a>(
        &'a self,
        scope: &'a Scope,
        principal: &Principal,
    ) -> impl Iterator<Item = &'a Bytes> {
        self.visible(scope, principal).map(|rendered| &rendered.definition)
    }

    /// Changes when what [`Self::list`] gives changes, and only then.
    pub fn view_hash(&self, scope: &Scope, principal: &Principal) -> u64 {
        match (scope, self.entitled(principal)) {
            // Every open stream asks for it at every new table.
            (Scope::All, Some((_, view))) => {
                *view.hash.get_or_init(|| hash(self.visible(scope, principal)))
            }
            _ => hash(self.visible(scope, principal)),
        }
    }

    /// Whether the principal may use any tool of that server, or could once it has tools.
    pub fn knows(&self, server: &ServerName, principal: &Principal) -> bool {
        let (Some(known), Some((entitlement, _))) =
            (self.servers.get(server), self.entitled(principal))
        else {
            return false;
        };
        if known.tools.is_empty() {
            entitlement.on(server.as_str()).may_allow()
        } else {
            self.visible(&Scope::Server(server.clone()), principal).next().is_some()
        }
    }

    /// What is wrong with resources as they meet each other.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    pub(crate) fn keys(&self) -> &[(Arc<KeyEntry>, usize)] {
        &self.keys
    }

    fn entitled(&self, principal: &Principal) -> Option<(&Entitlement, &View)> {
        // Its entitlement is a place in its own table; in another one somebody else's is there.
        if !std::ptr::eq(self, Arc::as_ptr(&principal.tenant)) {
            return None;
        }
        let (entitlement, view) = self.entitlements.get(principal.entitlement)?;
        // Made at the first request that needs it: most entitlements of a large tenant sleep.
        Some((entitlement, view.get_or_init(|| View::new(&self.servers, &self.tools, entitlement))))
    }

    fn visible<'a>(
        &'a self,
        scope: &'a Scope,
        principal: &Principal,
    ) -> impl Iterator<Item = &'a Rendered> {
        let range = match scope {
            Scope::All => 0..self.tools.len(),
            Scope::Server(name) => {
                self.servers.get(name).map_or(0..0, |server| server.tools.clone())
            }
        };
        let view = self.entitled(principal).map(|(_, view)| view);
        range
            .filter(move |at| view.is_some_and(|view| view.shows(*at)))
            .filter(move |at| *scope != Scope::All || !self.nameless.contains(at))
            .filter_map(|at| self.tools.get(at))
            .map(move |tool| match scope {
                Scope::All => &tool.listed,
                Scope::Server(_) => &tool.own,
            })
    }
}

impl Server {
    /// Index of the tool that the server calls so.
    fn find(&self, name: &str) -> Option<usize> {
        self.names.get(name).map(|offset| self.tools.start + offset)
    }
}

impl Rendered {
    fn new(definition: Bytes) -> Self {
        Self { fingerprint: fingerprint(&definition), definition }
    }
}

fn hash<'a>(list: impl Iterator<Item = &'a Rendered>) -> u64 {
    list.fold(0, |hash, rendered| fingerprint((hash, rendered.fingerprint)))
}
