//! The routing table of one tenant: what its principals may see and call. Performs no I/O.

mod compile;
mod compiled;
mod names;
mod offers;
mod rights;
mod uris;
mod view;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::rights::Entitlement;
use crate::{Catalog, Diagnostic, KeyEntry, Namespace, Principal, ServerEntry, ServerName};
pub(crate) use compile::Touched;
pub use compiled::{CompiledPrompt, CompiledTool};
use compiled::{CompiledResource, Rendered, hash};
use offers::{Offers, Span};
use uris::{Unwrapped, Uris, is_marked, wrap};
use view::View;

/// What one tenant's principals may see and call. Tables share the parts that no change touched.
#[derive(Debug)]
pub struct Tenant {
    namespace: Namespace,
    offered: Arc<Offered>,
    rights: Arc<Rights>,
    /// One an entitlement.
    views: Vec<Arc<OnceLock<View>>>,
}

/// What the servers of a tenant offer, whoever asks.
#[derive(Debug)]
struct Offered {
    /// By name.
    servers: BTreeMap<ServerName, Server>,
    tools: Offers<CompiledTool>,
    /// Indices of the tools with which hosts show resources that are wrapped.
    rewritten: HashSet<usize>,
    prompts: Offers<CompiledPrompt>,
    uris: Uris,
    diagnostics: Vec<Diagnostic>,
}

/// Which rules match whose key.
#[derive(Debug)]
struct Rights {
    /// Each key with the index of its entitlement.
    keys: Vec<(Arc<KeyEntry>, usize)>,
    entitlements: Vec<Entitlement>,
}

/// A server of the tenant.
#[derive(Debug)]
pub struct Server {
    /// Its facts.
    pub entry: Arc<ServerEntry>,
    /// Whether it is the tenant's, not one exposed to it.
    own: bool,
    /// Its bit in a view.
    place: usize,
    /// What it offers; `None` until it first said.
    pub catalog: Option<Arc<Catalog>>,
    tools: Span,
    prompts: Span,
    resources: Span,
    templates: Span,
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
        self.offered.servers.get(name)
    }

    /// The tool of that name, if the principal may use it. Unknown and forbidden are one answer.
    pub fn find(&self, name: &str, scope: &Scope, principal: &Principal) -> Option<&CompiledTool> {
        let at = match scope {
            Scope::All => self.offered.tools.holder(name)?,
            Scope::Server(server) => self.offered.servers.get(server)?.tools.find(name)?,
        };
        let view = self.view(principal)?;
        self.offered.tools.get(at).filter(|_| view.shows(at))
    }

    /// The prompt of that name, if the principal may use it. Unknown and forbidden are one answer.
    pub fn find_prompt(
        &self,
        name: &str,
        scope: &Scope,
        principal: &Principal,
    ) -> Option<&CompiledPrompt> {
        let at = match scope {
            Scope::All => self.offered.prompts.holder(name)?,
            Scope::Server(server) => self.offered.servers.get(server)?.prompts.find(name)?,
        };
        let prompt = self.offered.prompts.get(at)?;
        self.whole(&prompt.known_as, principal).map(|_| prompt)
    }

    /// The server that a URI leads to, and the URI as that server writes it, if the principal may
    /// use its resources. Unknown and forbidden are one answer.
    pub fn resolve_uri<'a>(
        &self,
        uri: &'a str,
        scope: &Scope,
        principal: &Principal,
    ) -> Option<(&Arc<ServerEntry>, Cow<'a, str>)> {
        self.resolve(uri, scope, principal, |uris| uris.leads_to(uri))
    }

    /// The same for a template, as it is listed. What is no template is taken for a URI.
    pub fn resolve_template<'a>(
        &self,
        template: &'a str,
        scope: &Scope,
        principal: &Principal,
    ) -> Option<(&Arc<ServerEntry>, Cow<'a, str>)> {
        let lists_it = |name: &&ServerName| {
            self.offered
                .servers
                .get(*name)
                .is_some_and(|server| server.templates.find(template).is_some())
        };
        self.resolve(template, scope, principal, |uris| {
            let owner = uris.template_leads_to(template).filter(lists_it);
            owner.or_else(|| uris.leads_to(template))
        })
    }

    /// How clients see a URI that a server names: as it is where it leads back to that server,
    /// else wrapped. [`Self::resolve_uri`] finds both.
    pub fn expose_uri<'a>(
        &self,
        uri: &'a str,
        server: &ServerEntry,
        scope: &Scope,
    ) -> Cow<'a, str> {
        let leads_back =
            || self.offered.uris.leads_to(uri) == Some(&server.known_as(&self.namespace));
        if *scope != Scope::All || leads_back() { uri.into() } else { wrap(server, uri).into() }
    }

    /// Definitions of all tools that the principal may use, in a stable order.
    pub fn list<'a>(
        &'a self,
        scope: &'a Scope,
        principal: &Principal,
    ) -> impl Iterator<Item = &'a Bytes> {
        self.visible_tools(scope, principal).map(|rendered| &rendered.definition)
    }

    /// Definitions of all prompts that the principal may use, in a stable order.
    pub fn list_prompts<'a>(
        &'a self,
        scope: &'a Scope,
        principal: &Principal,
    ) -> impl Iterator<Item = &'a Bytes> {
        self.visible_prompts(scope, principal).map(|rendered| &rendered.definition)
    }

    /// Definitions of all resources that the principal may use, in a stable order.
    pub fn list_resources<'a>(
        &'a self,
        scope: &'a Scope,
        principal: &Principal,
    ) -> impl Iterator<Item = &'a Bytes> {
        self.visible_resources(scope, principal).map(|rendered| &rendered.definition)
    }

    /// Definitions of all templates of resources that the principal may use, in a stable order.
    pub fn list_templates<'a>(
        &'a self,
        scope: &'a Scope,
        principal: &Principal,
    ) -> impl Iterator<Item = &'a Bytes> {
        self.visible_templates(scope, principal).map(|rendered| &rendered.definition)
    }

    /// Changes when what [`Self::list`] gives changes, and only then.
    pub fn view_hash(&self, scope: &Scope, principal: &Principal) -> u64 {
        self.hash_once(0, scope, principal, || hash(self.visible_tools(scope, principal)))
    }

    /// Changes when what [`Self::list_prompts`] gives changes, and only then.
    pub fn prompts_hash(&self, scope: &Scope, principal: &Principal) -> u64 {
        self.hash_once(1, scope, principal, || hash(self.visible_prompts(scope, principal)))
    }

    /// Changes when what [`Self::list_resources`] or [`Self::list_templates`] gives changes, and
    /// only then.
    pub fn resources_hash(&self, scope: &Scope, principal: &Principal) -> u64 {
        self.hash_once(2, scope, principal, || {
            let resources = hash(self.visible_resources(scope, principal));
            let templates = hash(self.visible_templates(scope, principal));
            crate::catalog::fingerprint((resources, templates))
        })
    }

    /// Whether the principal may use anything of that server, or could once it offers something.
    pub fn knows(&self, server: &ServerName, principal: &Principal) -> bool {
        let (Some(server), Some(view)) = (self.offered.servers.get(server), self.view(principal))
        else {
            return false;
        };
        view.knows(server)
    }

    /// The server of that name, if the principal may use all that it offers, not some tools alone.
    pub fn whole(&self, server: &ServerName, principal: &Principal) -> Option<&Server> {
        let view = self.view(principal)?;
        self.offered.servers.get(server).filter(|server| view.shows_whole(server))
    }

    /// The servers that the principal [knows](Self::knows), by name.
    pub fn servers_for<'a>(
        &'a self,
        scope: &'a Scope,
        principal: &Principal,
    ) -> impl Iterator<Item = &'a Server> {
        let view = self.view(principal);
        self.within(scope).filter(move |server| view.is_some_and(|view| view.knows(server)))
    }

    /// What is wrong with resources as they meet each other.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.offered.diagnostics
    }

    pub(crate) fn keys(&self) -> &[(Arc<KeyEntry>, usize)] {
        &self.rights.keys
    }
}

impl Tenant {
    fn view(&self, principal: &Principal) -> Option<&View> {
        // Its entitlement is a place in its own table; in another one somebody else's is there.
        if !std::ptr::eq(self, Arc::as_ptr(&principal.tenant)) {
            return None;
        }
        let entitlement = self.rights.entitlements.get(principal.entitlement)?;
        let view = self.views.get(principal.entitlement)?;
        // Made at the first request that needs it: most entitlements of a large tenant sleep.
        let Offered { servers, tools, .. } = &*self.offered;
        Some(view.get_or_init(|| View::new(servers, tools, entitlement)))
    }

    fn within<'a>(&'a self, scope: &'a Scope) -> impl Iterator<Item = &'a Server> {
        let (one, all) = match scope {
            Scope::All => (None, Some(self.offered.servers.values())),
            Scope::Server(name) => (self.offered.servers.get(name), None),
        };
        one.into_iter().chain(all.into_iter().flatten())
    }

    fn resolve<'a>(
        &self,
        uri: &'a str,
        scope: &Scope,
        principal: &Principal,
        leads_to: impl Fn(&Uris) -> Option<&ServerName>,
    ) -> Option<(&Arc<ServerEntry>, Cow<'a, str>)> {
        if let Scope::Server(server) = scope {
            let server = self.whole(server, principal)?;
            return Some((&server.entry, uri.into()));
        }
        if is_marked(uri) {
            let Unwrapped { namespace, name, uri } = Unwrapped::parse(uri)?;
            let server = self.whole(&self.known_as(namespace, name), principal)?;
            let meant = server.entry.name.as_str() == name;
            return meant.then_some((&server.entry, uri));
        }
        let view = self.view(principal)?;
        // A URI that stands in a text only was never exposed; if it can be of one server alone, it
        // is. One that leads to a server which is not shown is no other: it must not tell of that.
        let shown = |server: &ServerName| self.whole(server, principal);
        let server = leads_to(&self.offered.uris).and_then(shown);
        let server = server.or_else(|| view.sole.as_ref().and_then(shown))?;
        Some((&server.entry, uri.into()))
    }

    /// The hash of a list, kept for the list of all servers: every open stream asks for it at every
    /// new table.
    fn hash_once(
        &self,
        list: usize,
        scope: &Scope,
        principal: &Principal,
        hash: impl Fn() -> u64,
    ) -> u64 {
        let view = self.view(principal).filter(|_| *scope == Scope::All);
        let kept = view.and_then(|view| view.hashes.get(list));
        kept.map_or_else(&hash, |kept| *kept.get_or_init(&hash))
    }

    fn visible_tools<'a>(
        &'a self,
        scope: &'a Scope,
        principal: &Principal,
    ) -> impl Iterator<Item = &'a Rendered> {
        let range = match scope {
            Scope::All => 0..self.offered.tools.items.len(),
            Scope::Server(name) => {
                self.offered.servers.get(name).map_or(0..0, |server| server.tools.range())
            }
        };
        let view = self.view(principal);
        range
            .filter(move |at| view.is_some_and(|view| view.shows(*at)))
            .filter(move |at| *scope != Scope::All || !self.offered.tools.nameless.contains(at))
            .filter_map(|at| Some((at, self.offered.tools.get(at)?)))
            .map(move |(at, tool)| match (scope, &tool.shown_with) {
                (Scope::Server(_), _) => &tool.own,
                (Scope::All, Some(shown)) if self.offered.rewritten.contains(&at) => &shown.wrapped,
                (Scope::All, _) => &tool.listed,
            })
    }

    fn visible_prompts<'a>(
        &'a self,
        scope: &'a Scope,
        principal: &Principal,
    ) -> impl Iterator<Item = &'a Rendered> {
        self.whole_within(scope, principal)
            .flat_map(|server| server.prompts.range())
            .filter(move |at| *scope != Scope::All || !self.offered.prompts.nameless.contains(at))
            .filter_map(|at| self.offered.prompts.get(at))
            .map(move |prompt| match scope {
                Scope::All => &prompt.listed,
                Scope::Server(_) => &prompt.own,
            })
    }

    fn visible_resources<'a>(
        &'a self,
        scope: &'a Scope,
        principal: &Principal,
    ) -> impl Iterator<Item = &'a Rendered> {
        self.whole_within(scope, principal)
            .flat_map(|server| server.resources.range())
            .filter_map(move |at| located(&self.offered.uris.resources, at, scope))
    }

    fn visible_templates<'a>(
        &'a self,
        scope: &'a Scope,
        principal: &Principal,
    ) -> impl Iterator<Item = &'a Rendered> {
        self.whole_within(scope, principal)
            .flat_map(|server| server.templates.range())
            .filter_map(move |at| located(&self.offered.uris.templates, at, scope))
    }

    /// The servers whose prompts and resources the principal may use.
    fn whole_within<'a>(
        &'a self,
        scope: &'a Scope,
        principal: &Principal,
    ) -> impl Iterator<Item = &'a Server> {
        let view = self.view(principal);
        self.within(scope).filter(move |server| view.is_some_and(|view| view.shows_whole(server)))
    }

    fn known_as(&self, namespace: &str, name: &str) -> ServerName {
        if namespace == self.namespace.as_str() {
            ServerName::new(name)
        } else {
            ServerName::new(&format!("{namespace}/{name}"))
        }
    }
}

/// A resource or template as the scope shows it.
fn located<'a>(
    list: &'a Offers<CompiledResource>,
    at: usize,
    scope: &Scope,
) -> Option<&'a Rendered> {
    let item = list.get(at)?;
    let wrapped = *scope == Scope::All && list.nameless.contains(&at);
    Some(if wrapped { item.wrapped() } else { item.own() })
}

impl Server {
    /// Whether it has prompts, or says that it may.
    pub fn has_prompts(&self) -> bool {
        self.catalog.as_ref().is_some_and(|catalog| catalog.has_prompts())
    }

    /// Whether it has resources, or says that it may.
    pub fn has_resources(&self) -> bool {
        self.catalog.as_ref().is_some_and(|catalog| catalog.has_resources())
    }
}
