//! What makes a request between gateways believed: a MAC over all of it, under a key that only they
//! have, for one receiver, one time and one use.

use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway_core::KeyDigest;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use jiff::Timestamp;

use super::{Fleet, Tag};
use crate::session::SessionId;

/// How far the clocks of two gateways may be apart, and how long a request may be on its way.
const TOLERANCE_MS: i64 = 30_000;

const TO: HeaderName = HeaderName::from_static("fairway-to");
const FROM: HeaderName = HeaderName::from_static("fairway-from");
const AT: HeaderName = HeaderName::from_static("fairway-at");
/// When the sender started, and how many it has sent since.
const NUMBER: HeaderName = HeaderName::from_static("fairway-number");
/// Whose request is relayed: the digest by which the table knows the key, never the key.
const PRINCIPAL: HeaderName = HeaderName::from_static("fairway-principal");
const SESSION: HeaderName = HeaderName::from_static("fairway-session");
const TOLD: HeaderName = HeaderName::from_static("fairway-told");
/// Hash of the body.
const BODY: HeaderName = HeaderName::from_static("fairway-body");
/// Of a request; of an answer, what proves who gives it.
const MAC: HeaderName = HeaderName::from_static("fairway-mac");

/// Headers of a client that are passed on, besides those whose names begin with `mcp-`. No other is:
/// above all no credential.
const CARRIED: [HeaderName; 5] = [
    header::ACCEPT,
    header::CONTENT_TYPE,
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("baggage"),
];

/// The keys of the fleet. The first one seals, all open.
pub(crate) struct PeerKeys(ArcSwap<Vec<hmac::Key>>);

impl std::fmt::Debug for PeerKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PeerKeys(…)")
    }
}

impl PeerKeys {
    /// From the secrets that seal sessions.
    pub(crate) fn new(secrets: &[[u8; 32]]) -> Self {
        let derive = |secret: &[u8; 32]| {
            let root = hmac::Key::new(hmac::HMAC_SHA256, secret);
            let derived = hmac::sign(&root, b"requests between gateways");
            hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
        };
        Self(ArcSwap::from_pointee(secrets.iter().map(derive).collect()))
    }

    /// Takes the keys of others in place of its own.
    pub(crate) fn replace(&self, others: Self) {
        self.0.store(others.0.into_inner());
    }
}

/// The MAC of a request, for which its answer has to vouch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked([u8; 32]);

impl Asked {
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        bytes(headers, &MAC).map(Self)
    }
}

/// Numbers what this gateway sends.
#[derive(Debug)]
pub(super) struct Sender {
    epoch: u64,
    sent: AtomicU64,
}

impl Default for Sender {
    fn default() -> Self {
        let epoch = u64::try_from(Timestamp::now().as_microsecond()).unwrap_or_default();
        Self { epoch, sent: AtomicU64::new(0) }
    }
}

/// What a request says besides itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Letter {
    /// Whose request is relayed.
    pub(crate) principal: Option<KeyDigest>,
    pub(crate) session: Option<SessionId>,
    /// All others are told: none of them is to do what only one may.
    pub(crate) told: bool,
}

/// What was opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opened {
    pub(crate) from: Tag,
    pub(crate) letter: Letter,
    pub(crate) body: BodyHash,
}

/// What the body of a request has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BodyHash([u8; 32]);

impl BodyHash {
    pub(super) fn of(body: &[u8]) -> Self {
        Self(digest(&SHA256, body).as_ref().first_chunk().copied().unwrap_or_default())
    }

    pub(crate) fn is_of(&self, body: &[u8]) -> bool {
        *self == Self::of(body)
    }
}

/// Why a request is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsealed {
    #[error("this port is for the other gateways of the fleet")]
    Bare,
    #[error("sealed for another gateway")]
    Misdirected,
    #[error("sealed at another time; are the clocks of the gateways apart?")]
    Untimely,
    #[error("sealed with another key, or changed on its way")]
    Forged,
    #[error("came a second time")]
    Repeated,
}

impl Fleet {
    /// The headers of a request to another gateway; [`Tag::NONE`] is whoever answers.
    pub(super) fn seal(
        &self,
        to: Tag,
        (method, target): (&Method, &str),
        letter: &Letter,
        client: &HeaderMap,
        body: &[u8],
    ) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(16);
        for (name, value) in client.iter().filter(|(name, _)| is_carried(name)) {
            headers.append(name, value.clone());
        }
        let mut put = |name, text: String| {
            // Digits and letters.
            if let Ok(mut value) = HeaderValue::try_from(text) {
                value.set_sensitive(true);
                headers.insert(name, value);
            }
        };
        let Sender { epoch, sent } = &self.sender;
        put(TO, text(&to.to_bytes()));
        put(FROM, text(&self.own.to_bytes()));
        put(AT, Timestamp::now().as_millisecond().to_string());
        put(NUMBER, format!("{epoch}-{}", sent.fetch_add(1, Ordering::Relaxed) + 1));
        if let Some(principal) = letter.principal {
            put(PRINCIPAL, principal.into());
        }
        if let Some(session) = letter.session {
            put(SESSION, text(session.as_bytes()));
        }
        if letter.told {
            put(TOLD, "1".to_owned());
        }
        put(BODY, text(&BodyHash::of(body).0));
        if let Some(key) = self.keys.0.load().first() {
            let mac = feed(hmac::Context::with_key(key), method, target, &headers).sign();
            if let Ok(value) = HeaderValue::try_from(text(mac.as_ref())) {
                headers.insert(MAC, value);
            }
        }
        headers
    }

    /// As if it had been sealed at another time.
    #[cfg(test)]
    pub(super) fn reseal(&self, headers: &mut HeaderMap, at: Timestamp) {
        headers.insert(AT, HeaderValue::from(at.as_millisecond()));
        let keys = self.keys.0.load();
        let mac = feed(hmac::Context::with_key(&keys[0]), &Method::POST, "/mcp", headers).sign();
        headers.insert(MAC, HeaderValue::try_from(text(mac.as_ref())).unwrap());
    }

    /// What vouches for a request from another gateway, once.
    pub(super) fn open(
        &self,
        method: &Method,
        target: &str,
        headers: &HeaderMap,
        anyone: bool,
    ) -> Result<Opened, Unsealed> {
        let mac: [u8; 32] = bytes(headers, &MAC).ok_or(Unsealed::Bare)?;
        let authentic = self.keys.0.load().iter().any(|key| {
            let own = feed(hmac::Context::with_key(key), method, target, headers).sign();
            aws_lc_rs::constant_time::verify_slices_are_equal(own.as_ref(), &mac).is_ok()
        });
        if !authentic {
            return Err(Unsealed::Forged);
        }
        let to = bytes(headers, &TO).map(Tag::from_bytes).ok_or(Unsealed::Bare)?;
        if to != self.own && !(anyone && to == Tag::NONE) {
            return Err(Unsealed::Misdirected);
        }
        let at: i64 = one(headers, &AT).and_then(|at| at.parse().ok()).ok_or(Unsealed::Bare)?;
        if Timestamp::now().as_millisecond().abs_diff(at) > TOLERANCE_MS.unsigned_abs() {
            return Err(Unsealed::Untimely);
        }
        let from = bytes(headers, &FROM).map(Tag::from_bytes).ok_or(Unsealed::Bare)?;
        let number = one(headers, &NUMBER).and_then(|number| {
            let (epoch, number) = number.split_once('-')?;
            Some((epoch.parse().ok()?, number.parse().ok()?))
        });
        let (epoch, number) = number.ok_or(Unsealed::Bare)?;
        if !self.windows.admit(from, epoch, number) {
            return Err(Unsealed::Repeated);
        }
        let principal = match one(headers, &PRINCIPAL) {
            Some(text) => Some(KeyDigest::try_from(text.to_owned()).map_err(|_| Unsealed::Bare)?),
            None => None,
        };
        let session = bytes(headers, &SESSION).map(SessionId::from_bytes);
        let told = headers.contains_key(TOLD);
        let body = bytes(headers, &BODY).map(BodyHash).ok_or(Unsealed::Bare)?;
        Ok(Opened { from, letter: Letter { principal, session, told }, body })
    }

    /// Proves to who asked that it is this gateway which answers.
    pub(super) fn vouch(&self, asked: Asked, answered: &mut HeaderMap) {
        let keys = self.keys.0.load();
        let proof = keys.first().map(|key| text(answer(key, asked, self.own).as_ref()));
        if let Some(proof) = proof.and_then(|proof| HeaderValue::try_from(proof).ok()) {
            answered.insert(MAC, proof);
        }
    }

    /// Whether it is this gateway which answered.
    pub(super) fn is_answer(&self, asked: Asked, from: Tag, answered: &HeaderMap) -> bool {
        let Some(proof) = bytes::<32>(answered, &MAC) else { return false };
        self.keys.0.load().iter().any(|key| {
            let expected = answer(key, asked, from);
            aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_ref(), &proof).is_ok()
        })
    }
}

fn answer(key: &hmac::Key, Asked(asked): Asked, from: Tag) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(b"answer");
    context.update(&asked);
    context.update(&from.to_bytes());
    context.sign()
}

fn is_carried(name: &HeaderName) -> bool {
    CARRIED.contains(name) || name.as_str().starts_with("mcp-")
}

/// All that another gateway acts upon, each part after its length.
fn feed(
    mut context: hmac::Context,
    method: &Method,
    target: &str,
    headers: &HeaderMap,
) -> hmac::Context {
    let mut part = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    };
    part(method.as_str().as_bytes());
    part(target.as_bytes());
    let own = |name: &HeaderName| name.as_str().starts_with("fairway-") && *name != MAC;
    let mut sealed: Vec<(&HeaderName, &HeaderValue)> =
        headers.iter().filter(|(name, _)| own(name) || is_carried(name)).collect();
    // Values of one name keep their order.
    sealed.sort_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
    for (name, value) in sealed {
        part(name.as_str().as_bytes());
        part(value.as_bytes());
    }
    context
}

/// The one value of a header: of two, either could be meant.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.to_str().ok()).flatten()
}

fn text(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn bytes<const N: usize>(headers: &HeaderMap, name: &HeaderName) -> Option<[u8; N]> {
    URL_SAFE_NO_PAD.decode(one(headers, name)?).ok()?.try_into().ok()
}
