//! From the entries of one tenant to its table. Performs no I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::names::settle_names;
use super::rights::entitle;
use super::{CompiledTool, Rendered, Server, Tenant};
use crate::catalog::Change;
use crate::entry::ToolRules;
use crate::exposed::exposed_names;
use crate::snapshot::TenantEntries;
use crate::{Catalog, Namespace, ServerEntry, ServerName, Tool};

impl Tenant {
    /// Compiles the entries of one tenant. `previous` tells who holds which name, and lends the
    /// tools of servers that are as they were.
    pub(crate) fn compile<'a>(
        namespace: &Namespace,
        entries: &TenantEntries,
        servers: impl Iterator<Item = (&'a Arc<ServerEntry>, Option<&'a Arc<Catalog>>)>,
        previous: Option<&Self>,
    ) -> Self {
        let (servers, tools) = compile_tools(namespace, servers, previous);
        let (names, nameless, diagnostics) = settle_names(&servers, &tools, previous);
        let (keys, entitlements) = entitle(entries);
        Self {
            namespace: namespace.clone(),
            servers,
            tools,
            names,
            nameless,
            keys,
            entitlements,
            diagnostics,
        }
    }

    /// A server as it was, if nothing about it is new, and its tools.
    fn unchanged(
        &self,
        name: &ServerName,
        entry: &Arc<ServerEntry>,
        catalog: Option<&Arc<Catalog>>,
    ) -> Option<(&Server, &[Arc<CompiledTool>])> {
        let server = self.servers.get(name)?;
        let same = Arc::ptr_eq(&server.entry, entry)
            && server.catalog.as_ref().map(Arc::as_ptr) == catalog.map(Arc::as_ptr);
        let tools = self.tools.get(server.tools.clone())?;
        same.then_some((server, tools))
    }
}

fn compile_tools<'a>(
    tenant: &Namespace,
    servers: impl Iterator<Item = (&'a Arc<ServerEntry>, Option<&'a Arc<Catalog>>)>,
    previous: Option<&Tenant>,
) -> (BTreeMap<ServerName, Server>, Vec<Arc<CompiledTool>>) {
    let mut tools = Vec::new();
    let servers = servers
        .map(|(entry, catalog)| {
            let name = entry.known_as(tenant);
            let own = entry.namespace == *tenant;
            let start = tools.len();
            let before = previous.and_then(|previous| previous.unchanged(&name, entry, catalog));
            let names = if let Some((server, before)) = before {
                tools.extend_from_slice(before);
                server.names.clone()
            } else {
                let prefix = entry.tools.prefix_for(&entry.name, own);
                let compile = |catalog| compile_server(entry, &name, &prefix, catalog);
                tools.extend(catalog.map(|catalog| compile(catalog)).into_iter().flatten());
                let new = tools.iter().skip(start).enumerate();
                Arc::new(new.map(|(offset, tool)| (tool.name.clone(), offset)).collect())
            };
            let tools = start..tools.len();
            let (entry, catalog) = (entry.clone(), catalog.cloned());
            (name, Server { entry, own, catalog, tools, names })
        })
        .collect();
    (servers, tools)
}

fn compile_server(
    entry: &Arc<ServerEntry>,
    known_as: &ServerName,
    prefix: &str,
    catalog: &Catalog,
) -> Vec<Arc<CompiledTool>> {
    let shown: Vec<_> = catalog.tools().iter().filter(|tool| entry.tools.show(tool)).collect();
    let own_names: Vec<&str> = shown.iter().map(|tool| &*tool.name).collect();
    let exposed = exposed_names(prefix, &own_names);
    let compile =
        |(tool, exposed)| Arc::new(CompiledTool::new(entry, known_as, tool, prefix, exposed));
    shown.into_iter().zip(exposed).map(compile).collect()
}

impl CompiledTool {
    fn new(
        server: &Arc<ServerEntry>,
        known_as: &ServerName,
        tool: &Tool,
        prefix: &str,
        exposed: String,
    ) -> Self {
        let ToolRules { descriptions, .. } = &server.tools;
        let description = descriptions.get(&*tool.name).map(String::as_str);
        let own = Change { name: &tool.name, description, title: None };
        // People should see what a name was before it had to be changed or cut.
        let recognisable = exposed.strip_prefix(prefix) == Some(&tool.name);
        let title = (!recognisable).then_some(&*tool.name);
        Self {
            listed: Rendered::new(tool.render(&Change { name: &exposed, title, ..own })),
            own: Rendered::new(tool.render(&own)),
            server: server.clone(),
            known_as: known_as.clone(),
            name: tool.name.clone(),
            replayable: tool.replayable,
            exposed: exposed.into(),
        }
    }
}
