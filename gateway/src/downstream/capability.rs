//! What the gateway says it can do, at each of its URLs.

use std::borrow::Cow;

use bytes::Bytes;
use gateway_core::{Principal, Scope, Tenant};

/// What is said at one URL.
pub(super) struct Offer<'a> {
    /// JSON text.
    pub(super) capabilities: Cow<'a, str>,
    /// JSON text, of a server.
    pub(super) instructions: Option<&'a str>,
    /// JSON text, of a server.
    pub(super) server_info: Option<&'a str>,
}

/// Of all servers together. It touches none and must hold for those that are added later: clients
/// ask once (DESIGN §4). Without `listChanged` Claude Code drops every list_changed.
const ALL: &str = r#"{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true},"completions":{},"logging":{},"tasks":{"cancel":{},"requests":{"tools":{"call":{}}}},"extensions":{"io.modelcontextprotocol/tasks":{}}}"#;

/// What is offered to a principal. `None` at the URL of a server that is not there for it.
pub(super) fn offer<'a>(principal: &'a Principal, scope: &Scope) -> Option<Offer<'a>> {
    let Scope::Server(name) = scope else { return Some(all()) };
    let tenant: &Tenant = &principal.tenant;
    if !tenant.knows(name, principal) {
        return None;
    }
    let Some(catalog) = tenant.server(name).and_then(|server| server.catalog.as_deref()) else {
        return Some(all());
    };
    let text = |bytes: Option<&'a Bytes>| bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
    let Some(own) = text(catalog.capabilities()) else { return Some(all()) };
    Some(Offer {
        capabilities: announcing(own),
        instructions: text(catalog.instructions()),
        server_info: text(catalog.server_info()),
    })
}

const fn all() -> Offer<'static> {
    Offer { capabilities: Cow::Borrowed(ALL), instructions: None, server_info: None }
}

/// A server's own capabilities. Lists change with policies, too, so changes are announced whatever
/// the server does.
fn announcing(own: &str) -> Cow<'_, str> {
    use mcp::object::{Change, change, member};
    let mut text = Cow::Borrowed(own);
    for feature in ["tools", "prompts", "resources"] {
        let edited = member(&text, feature).map(|part| {
            let mut edits = change(text.as_bytes(), part, &[Change::set("listChanged", "true")]);
            mcp::splice::splice(text.as_bytes(), &mut edits)
        });
        if let Some(edited) = edited {
            text = Cow::Owned(String::from_utf8_lossy(&edited).into_owned());
        }
    }
    text
}
