//! Ids of tasks as clients know them: sealed, so that one leads back to its server, from any gateway,
//! and only for the principal that made the task. Who knows an id has no right by that
//! (2025-11-25, basic/utilities/tasks, security).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gateway_core::{Namespace, Principal, ServerName};

use crate::table::ServerId;

/// Longest id of a server that is sealed, in bytes; and longest sealed id that is looked at.
const MAX_ID: usize = 1024;
const MAX_SEALED: usize = 4 * (MAX_ID + 512) / 3;

/// A key that seals ids of tasks.
pub(crate) struct TaskKey {
    seal: LessSafeKey,
    /// Nonces come from what is sealed: a task has one id, whoever tells it.
    nonce: hmac::Key,
}

impl TaskKey {
    pub(crate) fn new(secret: &[u8; 32]) -> Option<Self> {
        let derive = |what: &[u8]| {
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), what);
            <[u8; 32]>::try_from(tag.as_ref()).ok()
        };
        let seal = UnboundKey::new(&AES_256_GCM, &derive(b"task ids: seal")?).ok()?;
        let nonce = hmac::Key::new(hmac::HMAC_SHA256, &derive(b"task ids: nonce")?);
        Some(Self { seal: LessSafeKey::new(seal), nonce })
    }

    /// The id of a server's task as the principal gets it.
    pub(crate) fn seal(
        &self,
        (namespace, name): &ServerId,
        id: &str,
        principal: &Principal,
    ) -> Option<String> {
        if id.len() > MAX_ID {
            return None;
        }
        let mut sealed = [namespace.as_str(), name.as_str(), id].join("\0").into_bytes();
        let owner = owner(principal);
        let mut context = hmac::Context::with_key(&self.nonce);
        context.update(&owner);
        context.update(&sealed);
        let nonce = *context.sign().as_ref().first_chunk::<NONCE_LEN>()?;
        let assumed = Nonce::assume_unique_for_key(nonce);
        self.seal.seal_in_place_append_tag(assumed, Aad::from(&owner), &mut sealed).ok()?;
        Some(URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat()))
    }

    /// The server of a task and the id it gave it. `None` if it is made up, or another's.
    pub(crate) fn open(&self, id: &str, principal: &Principal) -> Option<(ServerId, String)> {
        if id.len() > MAX_SEALED {
            return None;
        }
        let mut bytes = URL_SAFE_NO_PAD.decode(id).ok()?;
        let (nonce, sealed) = bytes.split_at_mut_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let plain = self.seal.open_in_place(nonce, Aad::from(owner(principal)), sealed).ok()?;
        let mut parts = std::str::from_utf8(plain).ok()?.splitn(3, '\0');
        let server = (Namespace::new(parts.next()?), ServerName::new(parts.next()?));
        Some((server, parts.next()?.to_owned()))
    }
}

/// Whose a task is.
fn owner(principal: &Principal) -> Vec<u8> {
    [principal.key.namespace.as_str(), &principal.key.name].join("\0").into_bytes()
}
