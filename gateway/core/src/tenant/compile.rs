//! From the entries of one tenant to its table. Performs no I/O.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use super::compiled::{CompiledPrompt, CompiledResource, CompiledTool, Offer, Rendered, ShownWith};
use super::names::{by_claim, conflicts, settle_names};
use super::offers::{Offers, Span};
use super::rights::entitle;
use super::uris::{Uris, wrap};
use super::view::View;
use super::{Offered, Server, Tenant};
use crate::catalog::{Change, Listed, Prompt};
use crate::entry::ToolRules;
use crate::exposed::exposed_names;
use crate::rights::Entitlement;
use crate::snapshot::TenantEntries;
use crate::{Catalog, Namespace, ServerEntry, ServerName, Tool};

/// Which parts of a table are no longer what the entries say.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Touched {
    /// Servers, or what they offer.
    pub(crate) offers: bool,
    /// Keys or policies.
    pub(crate) rights: bool,
}

impl Tenant {
    /// Compiles the entries of one tenant. `previous` lends the parts that are not `touched`, tells
    /// who holds which name, and lends what was compiled of servers that are as they were.
    pub(crate) fn compile<'a>(
        namespace: &Namespace,
        entries: &TenantEntries,
        servers: impl Iterator<Item = (&'a Arc<ServerEntry>, Option<&'a Arc<Catalog>>)>,
        previous: Option<(&Self, Touched)>,
    ) -> Self {
        let before = previous.map(|(table, _)| table);
        let (offered, same_offers) = match previous {
            Some((table, Touched { offers: false, .. })) => (table.offered.clone(), Some(table)),
            _ => {
                let before = before.map(|table| &*table.offered);
                (Arc::new(Offered::compile(namespace, servers, before)), None)
            }
        };
        let rights = match previous {
            Some((table, Touched { rights: false, .. })) => table.rights.clone(),
            _ => Arc::new(entitle(entries)),
        };
        // What an entitlement shows is what it was as long as there is nothing else to show.
        let made = same_offers.map(Self::made_views).unwrap_or_default();
        let view = |entitlement: &Entitlement| {
            made.get(entitlement).map_or_else(Arc::default, |made| Arc::clone(made))
        };
        let views = rights.entitlements.iter().map(view).collect();
        Self { namespace: namespace.clone(), offered, rights, views }
    }

    /// The views that some request needed.
    fn made_views(&self) -> HashMap<&Entitlement, &Arc<OnceLock<View>>> {
        let all = self.rights.entitlements.iter().zip(&self.views);
        all.filter(|(_, view)| view.get().is_some()).collect()
    }
}

impl Offered {
    fn compile<'a>(
        tenant: &Namespace,
        servers: impl Iterator<Item = (&'a Arc<ServerEntry>, Option<&'a Arc<Catalog>>)>,
        previous: Option<&Self>,
    ) -> Self {
        let (servers, lists) = compile_lists(tenant, servers, previous);
        let by_claim = by_claim(&servers);
        let tools = settle_names(
            lists.tools,
            &servers,
            &by_claim,
            |server| &server.tools,
            previous.map(|previous| (previous, &previous.tools)),
        );
        let prompts = settle_names(
            lists.prompts,
            &servers,
            &by_claim,
            |server| &server.prompts,
            previous.map(|previous| (previous, &previous.prompts)),
        );
        let resources = settle_names(
            lists.resources,
            &servers,
            &by_claim,
            |server| &server.resources,
            previous.map(|previous| (previous, &previous.uris.resources)),
        );
        let uris = Uris::new(resources, lists.templates, &by_claim);
        let mut diagnostics = conflicts(Listed::Tool, &tools);
        diagnostics.extend(conflicts(Listed::Prompt, &prompts));
        let rewritten = rewritten(&tools, &uris);
        Self { servers, tools, rewritten, prompts, uris, diagnostics }
    }

    /// A server as it was, if nothing about it is new.
    fn unchanged(
        &self,
        name: &ServerName,
        entry: &Arc<ServerEntry>,
        catalog: Option<&Arc<Catalog>>,
    ) -> Option<&Server> {
        let server = self.servers.get(name)?;
        let same = Arc::ptr_eq(&server.entry, entry)
            && server.catalog.as_ref().map(Arc::as_ptr) == catalog.map(Arc::as_ptr);
        same.then_some(server)
    }
}

/// What all servers offer, server by server.
#[derive(Default)]
struct Lists {
    tools: Vec<Arc<CompiledTool>>,
    prompts: Vec<Arc<CompiledPrompt>>,
    resources: Vec<Arc<CompiledResource>>,
    templates: Vec<Arc<CompiledResource>>,
}

fn compile_lists<'a>(
    tenant: &Namespace,
    servers: impl Iterator<Item = (&'a Arc<ServerEntry>, Option<&'a Arc<Catalog>>)>,
    previous: Option<&Offered>,
) -> (BTreeMap<ServerName, Server>, Lists) {
    let mut lists = Lists::default();
    let servers = servers
        .enumerate()
        .map(|(place, (entry, catalog))| {
            let name = entry.known_as(tenant);
            let own = entry.namespace == *tenant;
            let before = previous.and_then(|previous| {
                previous.unchanged(&name, entry, catalog).map(|server| (previous, server))
            });
            let [tools, prompts, resources, templates] = match before {
                Some((table, server)) => [
                    lend(&mut lists.tools, &server.tools, table.tools.of(&server.tools)),
                    lend(&mut lists.prompts, &server.prompts, table.prompts.of(&server.prompts)),
                    lend(
                        &mut lists.resources,
                        &server.resources,
                        table.uris.resources.of(&server.resources),
                    ),
                    lend(
                        &mut lists.templates,
                        &server.templates,
                        table.uris.templates.of(&server.templates),
                    ),
                ],
                None => {
                    let prefix = entry.tools.prefix_for(&entry.name, own);
                    let of = Of { server: entry, known_as: &name, prefix: &prefix };
                    let nothing = Catalog::default();
                    let catalog = catalog.map_or(&nothing, AsRef::as_ref);
                    [
                        add(&mut lists.tools, of.tools(catalog)),
                        add(&mut lists.prompts, of.prompts(catalog)),
                        add(&mut lists.resources, of.located(catalog.resources())),
                        add(&mut lists.templates, of.located(catalog.templates())),
                    ]
                }
            };
            let (entry, catalog) = (entry.clone(), catalog.cloned());
            let server =
                Server { entry, own, place, catalog, tools, prompts, resources, templates };
            (name, server)
        })
        .collect();
    (servers, lists)
}

fn lend<T>(all: &mut Vec<Arc<T>>, span: &Span, before: &[Arc<T>]) -> Span {
    let start = all.len();
    all.extend_from_slice(before);
    span.moved(start)
}

fn add<T: Offer>(all: &mut Vec<Arc<T>>, new: Vec<T>) -> Span {
    let span = Span::new(all.len(), new.iter().map(Offer::name));
    all.extend(new.into_iter().map(Arc::new));
    span
}

/// Whose lists are compiled.
struct Of<'a> {
    server: &'a Arc<ServerEntry>,
    known_as: &'a ServerName,
    prefix: &'a str,
}

impl Of<'_> {
    fn tools(&self, catalog: &Catalog) -> Vec<CompiledTool> {
        let rules = &self.server.tools;
        let shown: Vec<_> = catalog.tools().iter().filter(|tool| rules.show(tool)).collect();
        let own_names: Vec<&str> = shown.iter().map(|tool| &*tool.name).collect();
        let exposed = exposed_names(self.prefix, &own_names);
        shown.into_iter().zip(exposed).map(|(tool, exposed)| self.tool(tool, exposed)).collect()
    }

    fn tool(&self, tool: &Tool, exposed: String) -> CompiledTool {
        let ToolRules { descriptions, .. } = &self.server.tools;
        let description = descriptions.get(&*tool.name).map(String::as_str);
        let own = Change { name: &tool.name, description, title: None, wrap: None };
        let listed = Change { name: &exposed, title: self.changed(&tool.name, &exposed), ..own };
        let uris: Box<[Box<str>]> = tool.shown_with().map(Box::from).collect();
        let wrap = |uri: &str| wrap(self.server, uri);
        let shown_with = (!uris.is_empty()).then(|| ShownWith {
            uris,
            wrapped: Rendered::new(tool.render(&Change { wrap: Some(&wrap), ..listed })),
        });
        CompiledTool {
            listed: Rendered::new(tool.render(&listed)),
            own: Rendered::new(tool.render(&own)),
            shown_with,
            server: self.server.clone(),
            known_as: self.known_as.clone(),
            name: tool.name.clone(),
            replayable: tool.replayable,
            headers: tool.headers.clone(),
            exposed: exposed.into(),
        }
    }

    fn prompts(&self, catalog: &Catalog) -> Vec<CompiledPrompt> {
        let own_names: Vec<&str> = catalog.prompts().iter().map(|prompt| &*prompt.name).collect();
        let exposed = exposed_names(self.prefix, &own_names);
        let prompts = catalog.prompts().iter().zip(exposed);
        prompts.map(|(prompt, exposed)| self.prompt(prompt, exposed)).collect()
    }

    fn prompt(&self, prompt: &Prompt, exposed: String) -> CompiledPrompt {
        let title = self.changed(&prompt.name, &exposed);
        CompiledPrompt {
            listed: Rendered::new(prompt.render(&exposed, title)),
            own: Rendered::new(prompt.definition().clone()),
            server: self.server.clone(),
            known_as: self.known_as.clone(),
            name: prompt.name.clone(),
            exposed: exposed.into(),
        }
    }

    /// The name if it had to be changed or cut: people should see what it was before.
    fn changed<'a>(&self, name: &'a str, exposed: &str) -> Option<&'a str> {
        (exposed.strip_prefix(self.prefix) != Some(name)).then_some(name)
    }

    fn located(&self, list: &[crate::Located]) -> Vec<CompiledResource> {
        list.iter().map(|item| CompiledResource::new(self.server, self.known_as, item)).collect()
    }
}

/// Indices of the tools with which hosts show resources that have to be wrapped.
fn rewritten(tools: &Offers<CompiledTool>, uris: &Uris) -> HashSet<usize> {
    let leads_away = |tool: &CompiledTool| {
        let shown = tool.shown_with.iter().flat_map(|shown| &shown.uris);
        shown.into_iter().any(|uri| uris.leads_to(uri) != Some(&tool.known_as))
    };
    let tools = tools.items.iter().enumerate();
    tools.filter(|(_, tool)| leads_away(tool)).map(|(at, _)| at).collect()
}
