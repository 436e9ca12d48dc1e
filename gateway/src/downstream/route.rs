//! Which server a request is for, and what it calls what the client names.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use gateway_core::{Principal, Scope, ServerEntry};
use mcp::error::{
    INVALID_PARAMS, INVALID_REQUEST, RESOURCE_NOT_FOUND, UPSTREAM, missing_capability,
};
use mcp::header::{ParamHeaders, expected_name};
use mcp::json::Json;
use mcp::members::members;
use mcp::modern::{Meta, declares_extension, quoted};
use mcp::splice::Edit;
use mcp::tool::{CallParams, text};
use mcp::{Era, task};

use super::Downstream;
use super::dispatch::{Asked, Asker, refuse, shortened};
use crate::call::{Call, Caller, Order, Place};
use crate::client::Client;
use crate::peer::Pod;
use crate::upstream::fault::Told;
use crate::upstream::{Admission, ClientKey, Upstream};
use crate::worker::Local;

/// A request whose server is known.
#[derive(Debug)]
pub(super) struct Routed<'a> {
    server: &'a ServerEntry,
    /// What it names, as the server calls it.
    named: Option<Box<str>>,
    renames: Vec<(Place, Bytes)>,
    headers: Option<Arc<ParamHeaders>>,
    token: Option<(Bytes, Place)>,
    replayable: bool,
}

impl<'a> Routed<'a> {
    const fn to(server: &'a ServerEntry) -> Self {
        Self {
            server,
            named: None,
            renames: Vec::new(),
            headers: None,
            token: None,
            replayable: false,
        }
    }

    pub(super) const fn server(&self) -> &'a ServerEntry {
        self.server
    }

    /// Whether it does no harm to do it twice.
    pub(super) const fn is_replayable(&self) -> bool {
        self.replayable
    }

    /// What the request names, as the server calls it.
    pub(super) fn named(&self) -> Option<&str> {
        self.named.as_deref()
    }

    /// Names something that the client knows as `shown`, which stands at `raw`.
    fn naming(mut self, asked: &Asked<'_>, raw: Json<'_>, shown: &str, own: &str) -> Self {
        if shown != own
            && let Some(at) = place(asked, raw.get())
        {
            self.renames.push((at, quoted(own).into()));
        }
        self.named = Some(own.into());
        self
    }

    fn with_token(mut self, asked: &Asked<'_>, token: Option<Json<'_>>) -> Self {
        self.token = token.map(Json::get).and_then(|token| {
            Some((asked.message.slice_ref(token.as_bytes()), place(asked, token)?))
        });
        self
    }
}

/// Where a part of the message stands in it.
fn place(asked: &Asked<'_>, part: &str) -> Option<Place> {
    Edit::replace(asked.message, part.as_bytes(), b"").map(|edit| edit.range())
}

pub(super) fn tool<'a>(asked: &Asked<'_>, asker: &Asker<'a>) -> Result<Routed<'a>, Bytes> {
    let invalid = |message: &str| refuse(asked.id, INVALID_PARAMS, message);
    let params = asked.params.ok_or_else(|| invalid("tools/call needs params with a `name`"))?;
    let params = CallParams::parse(params)
        .map_err(|error| invalid(&format!("tools/call: {}", shortened(&error.to_string()))))?;
    let name = text(params.name).ok_or_else(|| invalid("`name` must be a string"))?;
    let tool = asker
        .principal
        .tenant
        .find(&name, asker.scope, asker.principal)
        .ok_or_else(|| invalid(&format!("unknown tool: {}", shortened(&name))))?;
    let mut routed = Routed::to(&tool.server)
        .naming(asked, params.name, &name, &tool.name)
        .with_token(asked, params.progress_token);
    routed.replayable = tool.replayable;
    routed.headers.clone_from(&tool.headers);
    Ok(routed)
}

pub(super) fn prompt<'a>(asked: &Asked<'_>, asker: &Asker<'a>) -> Result<Routed<'a>, Bytes> {
    let ([name], token) = read(asked, &["name"])?;
    let (raw, name) = required(asked, name, "name")?;
    let prompt = asker.principal.tenant.find_prompt(&name, asker.scope, asker.principal);
    let prompt = prompt.ok_or_else(|| {
        refuse(asked.id, INVALID_PARAMS, &format!("unknown prompt: {}", shortened(&name)))
    })?;
    let mut routed =
        Routed::to(&prompt.server).naming(asked, raw, &name, &prompt.name).with_token(asked, token);
    // Reading changes nothing (server/prompts).
    routed.replayable = true;
    Ok(routed)
}

pub(super) fn resource<'a>(asked: &Asked<'_>, asker: &Asker<'a>) -> Result<Routed<'a>, Bytes> {
    let ([uri], token) = read(asked, &["uri"])?;
    let (raw, uri) = required(asked, uri, "uri")?;
    let found = asker.principal.tenant.resolve_uri(&uri, asker.scope, asker.principal);
    let (server, own) = found.ok_or_else(|| {
        // 2026-07-28, basic/index, error codes.
        let code = match asker.client.era() {
            Era::Legacy => RESOURCE_NOT_FOUND,
            Era::Modern => INVALID_PARAMS,
        };
        let data = format!(r#"{{"uri":{}}}"#, raw.get());
        let message = format!("resource not found: {}", shortened(&uri));
        mcp::error::error_with_data(Some(asked.id.as_json()), code, &message, &data)
    })?;
    let mut routed = Routed::to(server).naming(asked, raw, &uri, &own).with_token(asked, token);
    routed.replayable = true;
    Ok(routed)
}

pub(super) fn completion<'a>(asked: &Asked<'_>, asker: &Asker<'a>) -> Result<Routed<'a>, Bytes> {
    let ([reference], token) = read(asked, &["ref"])?;
    let invalid = |message: &str| refuse(asked.id, INVALID_PARAMS, message);
    let reference = reference.ok_or_else(|| invalid("completion/complete needs a `ref`"))?;
    let [kind, name, uri] = members(reference, &["type", "name", "uri"])
        .map_err(|error| invalid(&format!("`ref`: {}", shortened(&error.to_string()))))?;
    let tenant = &asker.principal.tenant;
    let mut routed = match kind.and_then(text).as_deref() {
        Some("ref/prompt") => {
            let (raw, name) = required(asked, name, "ref.name")?;
            let prompt = tenant.find_prompt(&name, asker.scope, asker.principal);
            let prompt =
                prompt.ok_or_else(|| invalid(&format!("unknown prompt: {}", shortened(&name))))?;
            Routed::to(&prompt.server).naming(asked, raw, &name, &prompt.name)
        }
        Some("ref/resource") => {
            let (raw, uri) = required(asked, uri, "ref.uri")?;
            let found = tenant.resolve_template(&uri, asker.scope, asker.principal);
            let (server, own) = found
                .ok_or_else(|| invalid(&format!("resource not found: {}", shortened(&uri))))?;
            Routed::to(server).naming(asked, raw, &uri, &own)
        }
        _ => return Err(invalid("`ref.type` must be ref/prompt or ref/resource")),
    };
    // No header repeats what is completed.
    routed.named = None;
    routed.replayable = true;
    Ok(routed.with_token(asked, token))
}

/// A request about a task, which its id leads to.
pub(super) fn task<'a>(
    asked: &Asked<'_>,
    asker: &Asker<'a>,
    app: &Downstream,
) -> Result<Routed<'a>, Bytes> {
    if asker.client.era() == Era::Modern {
        knows_tasks(asked, asker.client.capabilities())?;
    }
    let ([id], token) = read(asked, &["taskId"])?;
    let (raw, id) = required(asked, id, "taskId")?;
    let Asker { principal, scope, .. } = asker;
    let opened = open_task(&id, (principal, scope), app);
    let (server, own) = opened.ok_or_else(|| {
        // One answer for what is made up, another's and gone.
        refuse(asked.id, INVALID_PARAMS, "no such task of this key")
    })?;
    let mut routed = Routed::to(server).naming(asked, raw, &id, &own);
    routed.replayable = asked.method == "tasks/get";
    Ok(routed.with_token(asked, token))
}

/// Refuses a client that does not say that it knows tasks.
pub(super) fn knows_tasks(asked: &Asked<'_>, capabilities: &str) -> Result<(), Bytes> {
    if declares_extension(mcp::object::raw(capabilities), task::EXTENSION) {
        return Ok(());
    }
    let message = format!("{} needs the extension {}", asked.method, task::EXTENSION);
    Err(missing_capability(Some(asked.id.as_json()), &task::capability(), &message))
}

/// The server of a task and the id it gave it, if the principal may use that server.
pub(super) fn open_task<'a>(
    id: &str,
    (principal, scope): (&'a Principal, &'a Scope),
    app: &Downstream,
) -> Option<(&'a Arc<ServerEntry>, String)> {
    let ((namespace, name), own) = app.commons.sealer.open_task(id, principal)?;
    let mut servers = principal.tenant.servers_for(scope, principal);
    let server =
        servers.find(|server| (&server.entry.namespace, &server.entry.name) == (&namespace, &name));
    Some((&server?.entry, own))
}

/// The tasks of a server that keeps its clients apart: elsewhere they would be everybody's.
pub(super) fn tasks<'a>(
    asked: &Asked<'_>,
    asker: &Asker<'a>,
    app: &Downstream,
) -> Option<Routed<'a>> {
    let routed = other(asked, asker)?;
    let published = app.commons.table.load();
    let apart = published.upstream(routed.server)?.keeps_each_apart();
    (apart && asker.client.session().is_some()).then_some(routed)
}

/// The gateway at which the client's legs to a server are, if that is another one.
pub(super) fn elsewhere(
    upstream: &Upstream,
    asker: &Asker<'_>,
    app: &Downstream,
) -> Option<Arc<Pod>> {
    if !asker.relayable || app.fleet.is_alone() || !upstream.lodges(asker.client.era()) {
        return None;
    }
    match &asker.client {
        Client::Legacy(Some(member)) => app.fleet.home(member.home, member.session),
        client => app.fleet.place_of(&ClientKey::new(asker.principal, client).to_bytes()),
    }
}

/// A method that we do not know: at the URL of one server it is that server's to know.
pub(super) fn other<'a>(asked: &Asked<'_>, asker: &Asker<'a>) -> Option<Routed<'a>> {
    let Scope::Server(name) = asker.scope else { return None };
    let server = asker.principal.tenant.whole(name, asker.principal)?;
    let token = Meta::parse(asked.params).ok()?.progress_token;
    let mut routed = Routed::to(&server.entry).with_token(asked, token);
    routed.named = expected_name(asked.method, asked.params).and_then(text).map(Into::into);
    Some(routed)
}

/// Members of the parameters, and the progress token.
fn read<'a, const N: usize>(
    asked: &Asked<'a>,
    names: &[&'static str; N],
) -> Result<([Option<Json<'a>>; N], Option<Json<'a>>), Bytes> {
    let invalid = |error: serde_json::Error| {
        let message = format!("{}: {}", asked.method, shortened(&error.to_string()));
        refuse(asked.id, INVALID_PARAMS, &message)
    };
    let found = asked.params.map_or(Ok([None; N]), |params| members(params, names));
    let meta = Meta::parse(asked.params).map_err(invalid)?;
    Ok((found.map_err(invalid)?, meta.progress_token))
}

fn required<'a>(
    asked: &Asked<'_>,
    raw: Option<Json<'a>>,
    name: &str,
) -> Result<(Json<'a>, Cow<'a, str>), Bytes> {
    raw.and_then(|raw| Some((raw, text(raw)?))).ok_or_else(|| {
        let message = format!("{} needs a `{name}`, a string", asked.method);
        refuse(asked.id, INVALID_PARAMS, &message)
    })
}

/// The answer when a server went between the decision and the call.
pub(super) fn gone(asked: &Asked<'_>) -> Bytes {
    refuse(asked.id, INVALID_PARAMS, "its server has just gone; list again")
}

/// Begins the call of a request.
pub(super) fn start(
    asked: &Asked<'_>,
    asker: Asker<'_>,
    routed: Routed<'_>,
    upstream: &Local<Upstream>,
    app: &Downstream,
) -> Result<Call, Bytes> {
    let Asker { principal, scope, client, streams, trace, relayable: _ } = asker;
    let Routed { server, named, renames, headers, token, replayable } = routed;
    let visitor = app.visitor(&client, principal, scope);
    let admitted = upstream.seat(&visitor).and_then(|seat| Ok((seat, Admission::to(upstream)?)));
    let (seat, admission) = admitted.map_err(|fault| {
        let told = Told(server.name.as_str(), &fault).to_string();
        refuse(asked.id, UPSTREAM, &told)
    })?;
    let id = asked.message.slice_ref(asked.id.as_json().as_bytes());
    let registration = match client.session() {
        None => None,
        Some(session) => Some(app.calls.register(session, id.clone()).ok_or_else(|| {
            refuse(asked.id, INVALID_REQUEST, "a request with this id is under way")
        })?),
    };
    let order = Order {
        id_at: place(asked, asked.id.as_json()).ok_or_else(|| gone(asked))?,
        method: known(asked.method),
        renames,
        named,
        headers,
        token,
        replayable,
        trace,
        message: asked.message.clone(),
        id,
    };
    let (principal, scope) = (principal.clone(), scope.clone());
    let caller = Caller { client, principal, scope, streams, registration };
    let place = (upstream.clone(), seat, admission);
    Ok(Call::start(order, caller, place, app.commons.clone()))
}

/// Methods that are called often are not copied.
fn known(method: &str) -> Cow<'static, str> {
    for known in ["tools/call", "resources/read", "prompts/get", "completion/complete"] {
        if method == known {
            return Cow::Borrowed(known);
        }
    }
    Cow::Owned(method.to_owned())
}
