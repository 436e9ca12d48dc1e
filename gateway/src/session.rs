//! Sessions are sealed into their ids, not stored: any gateway with the sealing key opens them.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Mutex;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use gateway_core::{Principal, Scope};
use jiff::Timestamp;
use mcp::ProtocolVersion;

use crate::peer::Tag;
use crate::table::ServerId;
use crate::task::TaskKey;

/// How long a session lasts.
pub(crate) const LIFETIME_SECONDS: i64 = 30 * 24 * 60 * 60;

/// Longest capabilities of a client that a session holds, in bytes of JSON: the largest of the
/// clients we know takes 200.
pub(crate) const MAX_CAPABILITIES: usize = 4096;

/// Longest id that is looked at: names of 63, 253 and 63 characters, capabilities and the rest, in
/// base64.
const MAX_TOKEN: usize = 768 + MAX_CAPABILITIES * 4 / 3;

/// Which transport a session was begun on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Streamable,
    Sse,
}

/// Tells sessions apart; unguessable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct SessionId([u8; NONCE_LEN]);

impl SessionId {
    pub(crate) const fn as_bytes(&self) -> &[u8; NONCE_LEN] {
        &self.0
    }

    pub(crate) const fn from_bytes(bytes: [u8; NONCE_LEN]) -> Self {
        Self(bytes)
    }

    /// Spreads ids over shards.
    pub(crate) const fn shard(self, of: usize) -> usize {
        self.0[0] as usize % of
    }
}

/// What a client and we agreed on.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) transport: Transport,
    pub(crate) version: ProtocolVersion,
    /// JSON text of at most [`MAX_CAPABILITIES`]; empty for none.
    pub(crate) capabilities: Bytes,
    /// The gateway that begins it.
    pub(crate) home: Tag,
}

/// What an id holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) transport: Transport,
    pub(crate) version: ProtocolVersion,
    /// Tenant, key and server, each after its length. The name of the key, not the key itself: a
    /// rotated key keeps its sessions.
    names: Bytes,
    /// What the client can do, as it said it; empty if it did not.
    pub(crate) capabilities: Bytes,
    /// The gateway that began it, which keeps what cannot be sealed as long as it runs.
    pub(crate) home: Tag,
}

impl Session {
    /// Whether the session was begun by this principal at this URL.
    pub(crate) fn belongs_to(&self, principal: &Principal, scope: &Scope) -> bool {
        let parts = parts(principal, scope);
        let mut rest = &*self.names;
        let same = parts.iter().all(|part| match rest.split_first() {
            Some((length, after)) if usize::from(*length) == part.len() => {
                let same = after.starts_with(part.as_bytes());
                rest = after.get(part.len()..).unwrap_or_default();
                same
            }
            _ => false,
        });
        same && rest.is_empty()
    }
}

fn parts<'a>(principal: &'a Principal, scope: &'a Scope) -> [&'a str; 3] {
    let server = match scope {
        Scope::All => "",
        Scope::Server(name) => name.as_str(),
    };
    [principal.key.namespace.as_str(), &principal.key.name, server]
}

fn names(principal: &Principal, scope: &Scope) -> Bytes {
    let parts = parts(principal, scope);
    let mut names = Vec::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
    for part in parts {
        // Names are at most 253 characters long: `Entry::from_resource` refuses longer ones.
        names.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
        names.extend_from_slice(part.as_bytes());
    }
    names.into()
}

/// Names a key in the ids it sealed: the start of its hash.
type KeyId = [u8; 4];

/// Seals and opens session ids, and ids of tasks. The first key seals, all open.
pub(crate) struct Sealer(ArcSwap<Keys>);

struct Keys {
    sealing: Vec<(KeyId, LessSafeKey)>,
    /// For ids of tasks, made from the same secrets.
    tasks: Vec<TaskKey>,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Sealer {
    /// `None` without a key.
    pub(crate) fn new(secrets: &[[u8; 32]]) -> Option<Self> {
        let sealing: Vec<_> = secrets
            .iter()
            .filter_map(|key| {
                let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key);
                let unbound = UnboundKey::new(&AES_256_GCM, key).ok()?;
                Some((*hash.as_ref().first_chunk()?, LessSafeKey::new(unbound)))
            })
            .collect();
        let tasks: Vec<_> = secrets.iter().filter_map(TaskKey::new).collect();
        (!sealing.is_empty() && tasks.len() == sealing.len())
            .then(|| Self(ArcSwap::from_pointee(Keys { sealing, tasks })))
    }

    /// Takes the keys of another in place of its own.
    pub(crate) fn replace(&self, other: Self) {
        self.0.store(other.0.into_inner());
    }

    /// The id of a server's task as the principal gets it.
    pub(crate) fn seal_task(
        &self,
        server: &ServerId,
        id: &str,
        principal: &Principal,
    ) -> Option<String> {
        self.0.load().tasks.first()?.seal(server, id, principal)
    }

    /// The server of a task and the id it gave it. `None` if it is made up, or another's.
    pub(crate) fn open_task(&self, id: &str, principal: &Principal) -> Option<(ServerId, String)> {
        self.0.load().tasks.iter().find_map(|key| key.open(id, principal))
    }

    /// Begins a session of a principal and returns it with its id. `None` if there is no
    /// randomness to be had.
    pub(crate) fn begin(
        &self,
        principal: &Principal,
        scope: &Scope,
        terms: Terms,
        now: Timestamp,
    ) -> Option<(Session, String)> {
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).ok()?;
        let Terms { transport, version, capabilities, home } = terms;
        let names = names(principal, scope);
        let id = SessionId(nonce);
        let session = Session { id, transport, version, names, capabilities, home };
        let token = self.seal(&session, now.as_second() + LIFETIME_SECONDS)?;
        Some((session, token))
    }

    fn seal(&self, session: &Session, expires: i64) -> Option<String> {
        let keys = self.0.load();
        let (key_id, key) = keys.sealing.first()?;
        let mut sealed = encode(session, expires);
        let nonce = Nonce::assume_unique_for_key(session.id.0);
        key.seal_in_place_append_tag(nonce, Aad::empty(), &mut sealed).ok()?;
        let mut token = Vec::with_capacity(key_id.len() + NONCE_LEN + sealed.len());
        token.extend_from_slice(key_id);
        token.extend_from_slice(&session.id.0);
        token.extend_from_slice(&sealed);
        Some(URL_SAFE_NO_PAD.encode(token))
    }

    /// The session of an id. `None` if it is forged or has expired.
    pub(crate) fn open(&self, token: &str, now: Timestamp) -> Option<Session> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        // Not zeroed first, as `decode` would have it: that is what takes the time.
        let mut bytes = Vec::with_capacity(MAX_TOKEN.min(token.len()));
        URL_SAFE_NO_PAD.decode_vec(token, &mut bytes).ok()?;
        let (key_id, rest) = bytes.split_first_chunk_mut::<4>()?;
        let (nonce, sealed) = rest.split_at_mut_checked(NONCE_LEN)?;
        let nonce = <[u8; NONCE_LEN]>::try_from(&*nonce).ok()?;
        let keys = self.0.load();
        let (_, key) = keys.sealing.iter().find(|(id, _)| id == key_id)?;
        let plain =
            key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::empty(), sealed).ok()?;
        let (session, expires) = decode(plain, SessionId(nonce))?;
        (expires > now.as_second()).then_some(session)
    }
}

const TRANSPORTS: [Transport; 2] = [Transport::Streamable, Transport::Sse];

/// What ids look like inside: the first byte of each, so that another form can be told from it.
const FORMAT: u8 = 3;
/// The form before: no home.
const HOMELESS_FORMAT: u8 = 2;
/// The form before that: names to the end, and no capabilities.
const BARE_FORMAT: u8 = 1;

/// Form, transport, version, expiry, home, length of the names, names, capabilities.
fn encode(session: &Session, expires: i64) -> Vec<u8> {
    let place = |at: Option<usize>| at.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX);
    let transport = TRANSPORTS.iter().position(|transport| *transport == session.transport);
    let version = ProtocolVersion::ALL.iter().position(|version| *version == session.version);
    let (names, capabilities) = (&session.names, &session.capabilities);
    let mut plain = Vec::with_capacity(21 + names.len() + capabilities.len() + 16);
    plain.push(FORMAT);
    plain.push(place(transport));
    plain.push(place(version));
    plain.extend_from_slice(&expires.to_be_bytes());
    plain.extend_from_slice(&session.home.to_bytes());
    // Three names of at most 255 bytes and their lengths.
    plain.extend_from_slice(&u16::try_from(names.len()).unwrap_or(u16::MAX).to_be_bytes());
    plain.extend_from_slice(names);
    plain.extend_from_slice(capabilities);
    plain
}

fn decode(plain: &[u8], id: SessionId) -> Option<(Session, i64)> {
    let (fixed, mut rest) = plain.split_first_chunk::<11>()?;
    let [format, transport, version, expires @ ..] = fixed;
    let mut home = Tag::NONE;
    if *format == FORMAT {
        let (tag, after) = rest.split_first_chunk::<8>()?;
        (home, rest) = (Tag::from_bytes(*tag), after);
    }
    let (names, capabilities) = match *format {
        FORMAT | HOMELESS_FORMAT => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            let mut names = Bytes::copy_from_slice(rest);
            let length = usize::from(u16::from_be_bytes(*length));
            let capabilities = (length <= names.len()).then(|| names.split_off(length))?;
            (names, capabilities)
        }
        // Sessions that were begun before ids held more go on.
        BARE_FORMAT => (Bytes::copy_from_slice(rest), Bytes::new()),
        _ => return None,
    };
    let session = Session {
        id,
        transport: *TRANSPORTS.get(usize::from(*transport))?,
        version: *ProtocolVersion::ALL.get(usize::from(*version))?,
        names,
        capabilities,
        home,
    };
    Some((session, i64::from_be_bytes(*expires)))
}

/// What is opened is what was sealed, and no bytes of others bring us down.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn fuzz(bytes: &[u8]) {
    let Some(sealer) = Sealer::new(&[[7; 32]]) else { unreachable!("a key is there") };
    let now = Timestamp::UNIX_EPOCH;
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert_eq!(sealer.open(text, now), None, "nobody has the key");
    }
    assert_eq!(sealer.open(&URL_SAFE_NO_PAD.encode(bytes), now), None, "nobody has the key");
    let id = SessionId([9; NONCE_LEN]);
    // More than an id can hold.
    let bytes = bytes.get(..bytes.len().min(MAX_TOKEN)).unwrap_or_default();
    let Some((session, expires)) = decode(bytes, id) else { return };
    let plain = encode(&session, expires);
    if bytes.first() == Some(&FORMAT) {
        assert_eq!(plain, bytes);
    }
    assert_eq!(decode(&plain, id), Some((session.clone(), expires)));
    let token = sealer.seal(&session, expires);
    let opened = token.as_deref().and_then(|token| sealer.open(token, now));
    let fits = token.is_some_and(|token| token.len() <= MAX_TOKEN);
    assert_eq!(opened.is_some(), fits && expires > 0);
    assert!(opened.is_none_or(|opened| opened == session));
}

/// Sessions that were deleted, as far as memory goes.
#[derive(Debug, Default)]
pub(crate) struct Tombstones {
    shards: [Mutex<Graves>; SHARDS],
}

#[derive(Debug, Default)]
struct Graves {
    deleted: HashMap<SessionId, ()>,
    order: VecDeque<SessionId>,
}

impl Tombstones {
    /// Remembers a deleted session; the oldest is forgotten when there are too many.
    pub(crate) fn bury(&self, id: SessionId) {
        let mut graves = self.shard(id).lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if graves.deleted.insert(id, ()).is_none() {
            graves.order.push_back(id);
        }
        if graves.order.len() > MAX_GRAVES
            && let Some(oldest) = graves.order.pop_front()
        {
            graves.deleted.remove(&oldest);
        }
    }

    pub(crate) fn holds(&self, id: SessionId) -> bool {
        let graves = self.shard(id).lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        graves.deleted.contains_key(&id)
    }

    /// All that are remembered, a shard at a time.
    pub(crate) fn all(&self) -> impl Iterator<Item = SessionId> {
        self.shards.iter().flat_map(|shard| {
            let graves = shard.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            Vec::from_iter(graves.order.iter().copied())
        })
    }

    fn shard(&self, id: SessionId) -> &Mutex<Graves> {
        &self.shards[id.shard(SHARDS)]
    }
}

/// Sessions rarely meet in one shard.
const SHARDS: usize = 32;
/// 32 × 1,024 deleted sessions take about 2 MiB; clients that delete are few.
const MAX_GRAVES: usize = 1024;
