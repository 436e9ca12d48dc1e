//! A client that has legs of its own at a server, and how it is spoken to.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use gateway_core::{Principal, Scope, ServerEntry};
use mcp::json::Json;
use mcp::splice::{Edit, splice};
use mcp::tool::text;

use super::slot::ClientKey;
use crate::client::Client;
use crate::home::{Home, Homes};
use crate::peer::Fleet;
use crate::session::Sealer;
use crate::table::{ServerId, Table};

/// A client with a leg of its own. The leg declares what the client can do.
#[derive(Debug, Clone)]
pub(crate) struct Lodger {
    pub(crate) key: ClientKey,
    /// JSON text of what it can do.
    pub(crate) capabilities: Bytes,
    /// Where it is spoken to unasked; a modern client cannot be.
    pub(crate) home: Option<Arc<Home>>,
    pub(crate) sight: Sight,
    fleet: Arc<Fleet>,
}

impl Lodger {
    /// Whether it is about to have its legs elsewhere.
    pub(super) fn is_leaving(&self) -> bool {
        self.fleet.is_draining()
    }

    /// Says something to the client, wherever its stream is. False if it has none as far as is known.
    pub(super) fn say(&self, message: Bytes) -> bool {
        let Some(home) = &self.home else { return false };
        home.say(message.clone())
            || self.key.session().is_some_and(|session| self.fleet.say(session, message))
    }

    /// The same, and `unheard` if it turns out to have none.
    pub(super) fn say_or(&self, message: Bytes, unheard: impl FnOnce() + Send + 'static) -> bool {
        let Some(home) = &self.home else { return false };
        let session = self.key.session();
        home.say(message.clone())
            || session.is_some_and(|session| self.fleet.say_or(session, message, unheard))
    }
}

/// How a client sees URIs and tasks.
#[derive(Debug, Clone)]
pub(crate) struct Sight {
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) table: Arc<Table>,
    pub(crate) principal: Principal,
    pub(crate) scope: Scope,
}

/// A client with what is needed to make a lodger of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Visitor<'a> {
    pub(crate) client: &'a Client,
    pub(crate) principal: &'a Principal,
    pub(crate) scope: &'a Scope,
    pub(crate) table: &'a Arc<Table>,
    pub(crate) sealer: &'a Arc<Sealer>,
    pub(crate) homes: &'a Homes,
    pub(crate) fleet: &'a Arc<Fleet>,
}

impl Visitor<'_> {
    pub(super) fn key(&self) -> ClientKey {
        ClientKey::new(self.principal, self.client)
    }

    pub(super) fn lodger(&self) -> Lodger {
        Lodger {
            key: self.key(),
            capabilities: self.client.capabilities_bytes(),
            home: self.client.session().map(|session| self.homes.of(session)),
            sight: self.sight(),
            fleet: self.fleet.clone(),
        }
    }

    pub(crate) fn sight(&self) -> Sight {
        Sight {
            sealer: self.sealer.clone(),
            table: self.table.clone(),
            principal: self.principal.clone(),
            scope: self.scope.clone(),
        }
    }
}

impl Sight {
    /// A message of a server with the ids of tasks as the client knows them.
    pub(crate) fn tasks(
        &self,
        server: &ServerEntry,
        bytes: &Bytes,
        method: &str,
        params: Option<Json<'_>>,
    ) -> Bytes {
        let ids = mcp::task::in_params(method, params);
        if ids.is_empty() {
            return bytes.clone();
        }
        let server = (server.namespace.clone(), server.name.clone());
        splice(bytes, &mut sealed(&self.sealer, &server, &self.principal, bytes, ids))
    }

    /// The edits that show the URIs in the params of a notification, or in a result, as the client
    /// knows them. `value` is a part of `bytes`.
    pub(super) fn expose_uris(
        &self,
        server: &ServerEntry,
        bytes: &[u8],
        value: Json<'_>,
        method: &str,
    ) -> Vec<Edit<'static>> {
        exposed(bytes, mcp::uri::uris(value, method), |own| match self.expose(server, own) {
            Cow::Borrowed(_) => None,
            Cow::Owned(shown) => Some(shown),
        })
    }

    /// The URI of a server as the client knows it, by the table of now.
    pub(crate) fn expose<'u>(&self, server: &ServerEntry, uri: &'u str) -> Cow<'u, str> {
        match self.table.renew(&self.principal) {
            Some(principal) => principal.tenant.expose_uri(uri, server, &self.scope),
            None => Cow::Borrowed(uri),
        }
    }
}

/// The edits that put URIs as the client knows them where they stand in a message; `None` for those
/// that it knows as the server does.
pub(crate) fn exposed(
    bytes: &[u8],
    uris: Vec<Json<'_>>,
    expose: impl Fn(&str) -> Option<String>,
) -> Vec<Edit<'static>> {
    let edit = |raw: Json<'_>| {
        let shown = expose(&text(raw)?)?;
        let place = Edit::replace(bytes, raw.get().as_bytes(), b"")?.range();
        Some(Edit::owned(place, mcp::modern::quoted(&shown).into_bytes()))
    };
    uris.into_iter().filter_map(edit).collect()
}

/// The edits that seal ids of tasks where they stand in a message.
pub(crate) fn sealed(
    sealer: &Sealer,
    server: &ServerId,
    principal: &Principal,
    bytes: &[u8],
    ids: Vec<Json<'_>>,
) -> Vec<Edit<'static>> {
    let seal = |raw: Json<'_>| {
        let place = Edit::replace(bytes, raw.get().as_bytes(), b"")?.range();
        let sealed = sealer.seal_task(server, &text(raw)?, principal)?;
        Some(Edit::owned(place, mcp::modern::quoted(&sealed).into_bytes()))
    };
    ids.into_iter().filter_map(seal).collect()
}
