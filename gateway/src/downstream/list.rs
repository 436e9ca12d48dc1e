//! Lists as clients get them, page by page.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{BufMut, Bytes, BytesMut};
use mcp::Era;
use mcp::error::INVALID_PARAMS;
use mcp::list::{self, cursor};

use super::dispatch::{Asked, Asker, refuse};
use crate::call::US;

/// Lists are one page up to here (DESIGN §4).
const PAGE: usize = 1024 * 1024;

/// How long a list is good for who is told when it changes, in milliseconds; for others it is not
/// (DESIGN §4).
const TTL: u64 = 60_000;

/// What can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    Tools,
    Prompts,
    Resources,
    Templates,
}

impl List {
    pub(super) fn of(method: &str) -> Option<Self> {
        Some(match method {
            "tools/list" => Self::Tools,
            "prompts/list" => Self::Prompts,
            "resources/list" => Self::Resources,
            "resources/templates/list" => Self::Templates,
            _ => return None,
        })
    }

    const fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }

    /// Which list's changes are its changes.
    const fn announced_as(self) -> list::List {
        match self {
            Self::Tools => list::List::Tools,
            Self::Prompts => list::List::Prompts,
            Self::Resources | Self::Templates => list::List::Resources,
        }
    }

    /// Of what the principal may see.
    fn hash(self, asker: &Asker<'_>) -> u64 {
        let Asker { principal, scope, .. } = asker;
        let tenant = &principal.tenant;
        match self {
            Self::Tools => tenant.view_hash(scope, principal),
            Self::Prompts => tenant.prompts_hash(scope, principal),
            Self::Resources | Self::Templates => tenant.resources_hash(scope, principal),
        }
    }

    /// The answer to a client that asks for the list, or for a page of it.
    pub(super) fn answer(self, asked: &Asked<'_>, asker: &Asker<'_>) -> Bytes {
        let Asker { principal, scope, .. } = asker;
        let tenant = &principal.tenant;
        match self {
            Self::Tools => self.page(asked, asker, tenant.list(scope, principal)),
            Self::Prompts => self.page(asked, asker, tenant.list_prompts(scope, principal)),
            Self::Resources => self.page(asked, asker, tenant.list_resources(scope, principal)),
            Self::Templates => self.page(asked, asker, tenant.list_templates(scope, principal)),
        }
    }

    fn page<'a>(
        self,
        asked: &Asked<'_>,
        asker: &Asker<'_>,
        definitions: impl Iterator<Item = &'a Bytes>,
    ) -> Bytes {
        // A cursor of another list is none of this one.
        let hash = self.hash(asker) ^ self as u64;
        let offset = match cursor(asked.params) {
            Ok(None) => Some(0),
            Ok(Some(cursor)) => Cursor::open(&cursor, hash),
            // One that is no text is not ours either.
            Err(_) => None,
        };
        let Some(offset) = offset else {
            let message = "the cursor is not ours or the list has changed; list from the start";
            return refuse(asked.id, INVALID_PARAMS, message);
        };
        let mut out = BytesMut::with_capacity(4096);
        out.put_slice(br#"{"jsonrpc":"2.0","id":"#);
        out.put_slice(asked.id.as_json().as_bytes());
        out.put_slice(br#","result":{""#);
        out.put_slice(self.member().as_bytes());
        out.put_slice(br#"":["#);
        let start = out.len();
        let mut next = None;
        for (at, definition) in definitions.enumerate().skip(offset) {
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
        if asker.client.era() == Era::Modern {
            let Asker { principal, scope, .. } = asker;
            let is_told = principal.key.account.hears_of(self.announced_as(), scope);
            out.put_slice(modern_members(if is_told { TTL } else { 0 }).as_bytes());
        }
        out.put_slice(b"}}");
        out.freeze()
    }
}

/// What every list of 2026-07-28 says besides: it is this principal's, and for so long.
fn modern_members(ttl: u64) -> String {
    format!(
        r#","resultType":"complete","ttlMs":{ttl},"cacheScope":"private","_meta":{{"{}":{}}}"#,
        mcp::modern::SERVER_INFO,
        *US
    )
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

/// Only what we sealed for a view opens there, and no bytes of others bring us down.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let number = |bytes: Option<&[u8; 8]>| bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes));
    let view = number(bytes.first_chunk());
    let offset = usize::try_from(number(bytes.last_chunk())).unwrap_or_default();
    for text in [String::from_utf8_lossy(bytes).into_owned(), URL_SAFE_NO_PAD.encode(bytes)] {
        if let Some(opened) = Cursor::open(&text, view) {
            assert_eq!(Cursor::seal(opened, view), text, "one cursor for one place");
        }
    }
    let cursor = Cursor::seal(offset, view);
    assert_eq!(Cursor::open(&cursor, view), Some(offset));
    assert_eq!(Cursor::open(&cursor, !view), None);
    let cut = cursor.get(..bytes.len() % cursor.len()).unwrap_or_default();
    assert_eq!(Cursor::open(cut, view), None);
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
