//! What tells definitions apart. Performs no I/O.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use aws_lc_rs::digest::{Context, SHA256};
use mcp::json::Json;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::hex;

/// Tells definitions apart: the first half of a SHA-256. Somebody who makes a tool do something else
/// must not be able to keep it, so it is no mere checksum.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct DefinitionHash([u8; 16]);

impl DefinitionHash {
    pub(super) fn of(context: Context) -> Self {
        let mut hash = [0; 16];
        for (to, from) in hash.iter_mut().zip(context.finish().as_ref()) {
            *to = *from;
        }
        Self(hash)
    }

    pub(super) fn add_to(self, context: &mut Context) {
        context.update(&self.0);
    }

    /// Of a definition. Members are sorted: the order they come in may be another each time.
    pub(super) fn of_definition(definition: &[u8]) -> Result<Self, serde_json::Error> {
        let mut context = Context::new(&SHA256);
        digest(serde_json::from_slice(definition)?, MAX_DEPTH, &mut context)?;
        Ok(Self::of(context))
    }
}

/// Below this depth definitions are compared as they are written: each level is read once more.
const MAX_DEPTH: usize = 32;

/// Values stay raw: a number may have more digits than any type of ours.
fn digest(value: Json<'_>, depth: usize, to: &mut Context) -> Result<(), serde_json::Error> {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'[') if depth > 0 => {
            let items: Vec<Json<'_>> = serde_json::from_str(text)?;
            to.update(b"[");
            for item in items {
                digest(item, depth - 1, to)?;
                to.update(b",");
            }
            to.update(b"]");
        }
        Some(b'{') if depth > 0 => {
            let Members(mut members) = serde_json::from_str(text)?;
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            to.update(b"{");
            for (name, value) in members {
                to.update(Value::from(name).to_string().as_bytes());
                to.update(b":");
                digest(value, depth - 1, to)?;
                to.update(b",");
            }
            to.update(b"}");
        }
        // One string may be written in many ways.
        Some(b'"') => {
            let string: String = serde_json::from_str(text)?;
            to.update(Value::from(string).to_string().as_bytes());
        }
        _ => to.update(text.as_bytes()),
    }
    Ok(())
}

/// The members of an object in the order they stand.
struct Members<'a>(Vec<(String, Json<'a>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        from.deserialize_map(Visitor)
    }
}

impl fmt::Display for DefinitionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.0))
    }
}

impl fmt::Debug for DefinitionHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<DefinitionHash> for String {
    fn from(hash: DefinitionHash) -> Self {
        hash.to_string()
    }
}

impl TryFrom<String> for DefinitionHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        hex::decode(&text).map(Self).ok_or("a hash is 32 hexadecimal digits")
    }
}

/// A short fingerprint to tell whether something changed; no security rests on it.
pub(crate) fn fingerprint(value: impl Hash) -> u64 {
    // `DefaultHasher::new` has fixed keys: the same definition has the same print in every process,
    // so that a client which reconnects elsewhere is not told of a change that is none.
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
