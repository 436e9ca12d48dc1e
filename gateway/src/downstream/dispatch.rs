//! What a request of the legacy era asks for, and the answer or the call that comes of it.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use gateway_core::{Principal, Scope};
use mcp::error::{INVALID_PARAMS, METHOD_NOT_FOUND, OVERLOADED, error_response};
use mcp::message::Id;
use mcp::splice::Edit;
use mcp::tool::{CallParams, text};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Downstream;
use crate::call::{Call, Order};
use crate::session::SessionId;
use crate::upstream::ClientKey;
use crate::upstream::fault::Told;

/// A request of a client, read.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    /// The whole message.
    pub(super) message: &'a Bytes,
    pub(super) id: Id<'a>,
    pub(super) method: &'a str,
    pub(super) params: Option<&'a RawValue>,
}

/// From whom and through which URL.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker<'a> {
    pub(super) principal: &'a Principal,
    pub(super) scope: &'a Scope,
    pub(super) session: Option<SessionId>,
}

/// What comes of a request.
#[derive(Debug)]
pub(super) enum Reply {
    /// An answer at once.
    Now(Bytes),
    /// A server has to answer.
    Call(Box<Call>),
}

/// Answers a request, or starts the call that will.
pub(super) fn dispatch(asked: &Asked<'_>, asker: Asker<'_>, app: &Downstream) -> Reply {
    match asked.method {
        "ping" => Reply::Now(result(asked.id, "{}")),
        "tools/list" => Reply::Now(list(asked, asker)),
        "tools/call" => call(asked, asker, app).unwrap_or_else(Reply::Now),
        method => {
            let message = format!("method not found: {}", shortened(method));
            Reply::Now(refuse(asked.id, METHOD_NOT_FOUND, &message))
        }
    }
}

/// An answer with a raw result.
pub(super) fn result(id: Id<'_>, result: &str) -> Bytes {
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id.as_json()).into()
}

fn refuse(id: Id<'_>, code: i32, message: &str) -> Bytes {
    error_response(Some(id.as_json()), code, message)
}

/// What a client sent is quoted in errors up to here.
fn shortened(text: &str) -> &str {
    const QUOTED: usize = 128;
    text.char_indices().nth(QUOTED).map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}

fn call(asked: &Asked<'_>, asker: Asker<'_>, app: &Downstream) -> Result<Reply, Bytes> {
    let Asker { principal, scope, session } = asker;
    let invalid = |message: &str| refuse(asked.id, INVALID_PARAMS, message);
    let params = asked.params.ok_or_else(|| invalid("tools/call needs params with a `name`"))?;
    let params = CallParams::parse(params)
        .map_err(|error| invalid(&format!("tools/call: {}", shortened(&error.to_string()))))?;
    let name = text(params.name).ok_or_else(|| invalid("`name` must be a string"))?;
    let tool = principal
        .tenant
        .find(&name, scope, principal)
        .ok_or_else(|| invalid(&format!("unknown tool: {}", shortened(&name))))?;
    let server = (tool.server.namespace.clone(), tool.server.name.clone());
    let published = app.table.load();
    let gone = || invalid(&format!("unknown tool: {}", shortened(&name)));
    let upstream = published.upstreams.get(&server).ok_or_else(gone)?;
    let slot = upstream.slot(|| ClientKey::new(principal, session)).map_err(|fault| {
        let told = Told(server.1.as_str(), &fault).to_string();
        refuse(asked.id, mcp::error::UPSTREAM, &told)
    })?;
    let id = part(asked.message, asked.id.as_json());
    let registration = match session {
        None => None,
        Some(session) => Some(app.calls.register(session, id.clone()).ok_or_else(|| {
            refuse(asked.id, mcp::error::INVALID_REQUEST, "a request with this id is under way")
        })?),
    };
    let place = |text: &str| Edit::replace(asked.message, text.as_bytes(), b"").map(|e| e.range());
    let token = params.progress_token.map(RawValue::get);
    let order = Order {
        id_at: place(asked.id.as_json()).ok_or_else(gone)?,
        rename: (*name != *tool.name)
            .then(|| Some((place(params.name.get())?, quoted(&tool.name))))
            .flatten(),
        token: token.and_then(|token| Some((part(asked.message, token), place(token)?))),
        replayable: tool.replayable,
        message: asked.message.clone(),
        id,
    };
    Ok(Reply::Call(Box::new(Call::start(
        order,
        upstream.clone(),
        slot,
        principal.clone(),
        app.table.clone(),
        registration,
    ))))
}

/// A part of the message that shares its memory.
fn part(message: &Bytes, text: &str) -> Bytes {
    message.slice_ref(text.as_bytes())
}

fn quoted(name: &str) -> Bytes {
    serde_json::Value::from(name).to_string().into()
}

/// Lists are one page up to here (DESIGN §4).
const PAGE: usize = 1024 * 1024;

fn list(asked: &Asked<'_>, asker: Asker<'_>) -> Bytes {
    let Asker { principal, scope, .. } = asker;
    let tenant = &principal.tenant;
    let hash = tenant.view_hash(scope, principal);
    let offset = match cursor_of(asked.params) {
        None => 0,
        Some(cursor) => match Cursor::open(&cursor, hash) {
            Some(offset) => offset,
            None => {
                let message = "the cursor is not ours or the list has changed; list from the start";
                return refuse(asked.id, INVALID_PARAMS, message);
            }
        },
    };
    let mut out = BytesMut::with_capacity(4096);
    out.put_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.put_slice(asked.id.as_json().as_bytes());
    out.put_slice(br#","result":{"tools":["#);
    let start = out.len();
    let mut next = None;
    for (at, definition) in tenant.list(scope, principal).enumerate().skip(offset) {
        if out.len() > start {
            if out.len() + definition.len() > PAGE {
                next = Some(at);
                break;
            }
            out.put_u8(b',');
        }
        out.put_slice(definition);
    }
    out.put_u8(b']');
    if let Some(next) = next {
        out.put_slice(br#","nextCursor":""#);
        out.put_slice(Cursor::seal(next, hash).as_bytes());
        out.put_u8(b'"');
    }
    out.put_slice(b"}}");
    out.freeze()
}

fn cursor_of(params: Option<&RawValue>) -> Option<String> {
    #[derive(Deserialize)]
    struct Params<'a> {
        #[serde(borrow)]
        cursor: Option<&'a RawValue>,
    }
    let cursor = serde_json::from_str::<Params<'_>>(params?.get()).ok()?.cursor?;
    // One that is no text is not ours either.
    Some(text(cursor).unwrap_or_default().into_owned())
}

/// Where a page begins, bound to the view it is a page of.
struct Cursor;

impl Cursor {
    fn seal(offset: usize, view: u64) -> String {
        let mut bytes = (offset as u64).to_be_bytes().to_vec();
        bytes.extend_from_slice(&Self::tag(&bytes, view));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn open(cursor: &str, view: u64) -> Option<usize> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (offset, tag) = bytes.split_first_chunk::<8>()?;
        verify_slices_are_equal(tag, &Self::tag(offset, view)).ok()?;
        usize::try_from(u64::from_be_bytes(*offset)).ok()
    }

    /// Not a secret: a cursor opens nothing that the list itself does not show. The tag only tells
    /// cursors of another view, and made-up ones, from those of this one.
    fn tag(offset: &[u8], view: u64) -> [u8; 16] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &view.to_be_bytes());
        let tag = hmac::sign(&key, offset);
        let mut short = [0; 16];
        for (to, from) in short.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        short
    }
}

/// A client that sends faster than it reads.
pub(super) fn overloaded(id: Id<'_>) -> Bytes {
    refuse(id, OVERLOADED, "too many calls are under way in this session; wait for some to end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_hold_for_their_view_only() {
        let cursor = Cursor::seal(7, 1);

        assert_eq!(Cursor::open(&cursor, 1), Some(7));
        assert_eq!(Cursor::open(&cursor, 2), None);
        assert_eq!(Cursor::open("", 1), None);
        assert_eq!(Cursor::open("AAAAAAAAAAc", 1), None);
    }
}
