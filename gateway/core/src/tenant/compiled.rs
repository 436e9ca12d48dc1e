//! What a server offers, as clients see it. Performs no I/O.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use mcp::header::ParamHeaders;

use super::uris::wrap;
use crate::catalog::{Located, fingerprint};
use crate::{ServerEntry, ServerName};

/// A tool as clients see it.
#[derive(Debug)]
pub struct CompiledTool {
    /// Whose tool it is.
    pub server: Arc<ServerEntry>,
    /// How the tenant's rules name the server.
    pub(super) known_as: ServerName,
    /// The name its server uses.
    pub name: Box<str>,
    /// Whether a call may be sent twice.
    pub replayable: bool,
    /// Arguments that a server of 2026-07-28 wants repeated as headers; none of most tools.
    pub headers: Option<Arc<ParamHeaders>>,
    /// The name among all tools of the tenant, if no other tool holds it.
    pub(super) exposed: Arc<str>,
    /// Under the exposed name.
    pub(super) listed: Rendered,
    /// Under the server's own name.
    pub(super) own: Rendered,
    /// The resources that hosts show with it.
    pub(super) shown_with: Option<ShownWith>,
}

/// Resources that hosts show with a tool.
#[derive(Debug)]
pub(super) struct ShownWith {
    pub(super) uris: Box<[Box<str>]>,
    /// The tool under the exposed name and they wrapped.
    pub(super) wrapped: Rendered,
}

/// A prompt as clients see it.
#[derive(Debug)]
pub struct CompiledPrompt {
    /// Whose prompt it is.
    pub server: Arc<ServerEntry>,
    /// How the tenant's rules name the server.
    pub(super) known_as: ServerName,
    /// The name its server uses.
    pub name: Box<str>,
    /// The name among all prompts of the tenant, if no other prompt holds it.
    pub(super) exposed: Arc<str>,
    /// Under the exposed name.
    pub(super) listed: Rendered,
    /// Under the server's own name.
    pub(super) own: Rendered,
}

/// A resource, or a template of resources, as clients see it.
#[derive(Debug)]
pub(super) struct CompiledResource {
    pub(super) server: Arc<ServerEntry>,
    pub(super) known_as: ServerName,
    /// The URI or template its server uses.
    pub(super) uri: Arc<str>,
    own: Rendered,
    wrapped: OnceLock<Rendered>,
    definition: Located,
}

/// A definition as it is listed.
#[derive(Debug, Clone)]
pub(super) struct Rendered {
    pub(super) definition: Bytes,
    pub(super) fingerprint: u64,
}

impl CompiledResource {
    pub(super) fn new(
        server: &Arc<ServerEntry>,
        known_as: &ServerName,
        definition: &Located,
    ) -> Self {
        Self {
            server: server.clone(),
            known_as: known_as.clone(),
            uri: (&*definition.uri).into(),
            own: Rendered::new(definition.definition().clone()),
            wrapped: OnceLock::new(),
            definition: definition.clone(),
        }
    }

    /// As its server defines it.
    pub(super) const fn own(&self) -> &Rendered {
        &self.own
    }

    /// Under a URI that says whose it is. Made when it is first needed: few are.
    pub(super) fn wrapped(&self) -> &Rendered {
        let render = || Rendered::new(self.definition.render(&wrap(&self.server, &self.uri)));
        self.wrapped.get_or_init(render)
    }
}

impl Rendered {
    pub(super) fn new(definition: Bytes) -> Self {
        Self { fingerprint: fingerprint(&definition), definition }
    }
}

/// Of a list.
pub(super) fn hash<'a>(list: impl Iterator<Item = &'a Rendered>) -> u64 {
    list.fold(0, |hash, rendered| fingerprint((hash, rendered.fingerprint)))
}

/// Something a server offers under a name of its own and under one among all servers'.
pub(super) trait Offer {
    fn server(&self) -> &Arc<ServerEntry>;
    fn known_as(&self) -> &ServerName;
    fn name(&self) -> &str;
    fn exposed(&self) -> &Arc<str>;
}

impl Offer for CompiledTool {
    fn server(&self) -> &Arc<ServerEntry> {
        &self.server
    }

    fn known_as(&self) -> &ServerName {
        &self.known_as
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn exposed(&self) -> &Arc<str> {
        &self.exposed
    }
}

impl Offer for CompiledPrompt {
    fn server(&self) -> &Arc<ServerEntry> {
        &self.server
    }

    fn known_as(&self) -> &ServerName {
        &self.known_as
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn exposed(&self) -> &Arc<str> {
        &self.exposed
    }
}

/// Its URI is its name everywhere, until it has to be wrapped.
impl Offer for CompiledResource {
    fn server(&self) -> &Arc<ServerEntry> {
        &self.server
    }

    fn known_as(&self) -> &ServerName {
        &self.known_as
    }

    fn name(&self) -> &str {
        &self.uri
    }

    fn exposed(&self) -> &Arc<str> {
        &self.uri
    }
}
