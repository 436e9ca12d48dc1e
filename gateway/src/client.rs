//! Who is on the other side of a request, as far as servers need to know.

use bytes::Bytes;
use mcp::json::Json;
use mcp::logging::Level;
use mcp::{Era, modern};

use crate::peer::Tag;
use crate::session::{Session, SessionId};

/// The client of one request.
#[derive(Debug, Clone)]
pub(crate) enum Client {
    /// Of a session, or of none: a request without a session is answered by itself.
    Legacy(Option<Member>),
    /// Says with each request what it can do.
    Modern(Guest),
}

/// A client in a session.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) session: SessionId,
    /// JSON text of what it can do; empty if it never said.
    pub(crate) capabilities: Bytes,
    /// The gateway that began the session.
    pub(crate) home: Tag,
}

impl Member {
    /// Of an open session.
    pub(crate) fn of(session: &Session) -> Self {
        let capabilities = session.capabilities.clone();
        Self { session: session.id, capabilities, home: session.home }
    }
}

/// A client of one request.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    /// JSON text of what it can do.
    pub(crate) capabilities: Bytes,
    /// The least severe log message it wants; none without.
    pub(crate) level: Option<Level>,
}

/// JSON text for who can do nothing.
const NOTHING: &str = "{}";

impl Client {
    /// Of an open session.
    pub(crate) fn of(session: &Session) -> Self {
        Self::Legacy(Some(Member::of(session)))
    }

    pub(crate) const fn era(&self) -> Era {
        match self {
            Self::Legacy(_) => Era::Legacy,
            Self::Modern(_) => Era::Modern,
        }
    }

    pub(crate) const fn session(&self) -> Option<SessionId> {
        match self {
            Self::Legacy(Some(member)) => Some(member.session),
            _ => None,
        }
    }

    /// JSON text of what the client can do.
    pub(crate) fn capabilities(&self) -> &str {
        let bytes = match self {
            Self::Legacy(Some(Member { capabilities, .. }))
            | Self::Modern(Guest { capabilities, .. }) => capabilities,
            Self::Legacy(None) => return NOTHING,
        };
        std::str::from_utf8(bytes).ok().filter(|text| !text.is_empty()).unwrap_or(NOTHING)
    }

    /// Whether a server may ask this of the client: what the protocol wants declared it declares.
    pub(crate) fn may_be_asked(&self, method: &str, params: Option<Json<'_>>) -> bool {
        may_be_asked(self.capabilities(), method, params)
    }

    /// The same, to be kept.
    pub(crate) fn capabilities_bytes(&self) -> Bytes {
        match self {
            Self::Legacy(Some(Member { capabilities, .. }))
            | Self::Modern(Guest { capabilities, .. })
                if !capabilities.is_empty() =>
            {
                // A slice of a request would keep all of it.
                Bytes::copy_from_slice(capabilities)
            }
            _ => Bytes::from_static(NOTHING.as_bytes()),
        }
    }
}

/// Whether a server may ask this of a client with these capabilities, as JSON text. What the
/// protocol does not know needs not be declared.
pub(crate) fn may_be_asked(capabilities: &str, method: &str, params: Option<Json<'_>>) -> bool {
    let capabilities = serde_json::from_str(capabilities).ok();
    modern::required_capability(method, params).is_none()
        || modern::declares(capabilities, method, params)
}
