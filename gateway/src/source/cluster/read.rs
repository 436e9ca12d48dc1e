//! What one Secret of the entries' namespace holds. Performs no I/O.

use std::io::Read;
use std::sync::Arc;

use flate2::read::GzDecoder;
use gateway_core::{Catalog, Forbidden, Namespace, Record, ServerName};
use k8s_openapi::api::core::v1::Secret;

use crate::table::ServerId;

const ENTRY: &str = "fairway.dev/entry";
const CATALOG: &str = "fairway.dev/catalog";
const CONFIG: &str = "fairway.dev/config";

/// Largest list that is unpacked: no larger one is taken from a server.
const MAX_LIST: u64 = 16 * 1024 * 1024;

/// What a Secret holds.
#[derive(Debug)]
pub(super) enum Held {
    Entry(Box<Record>),
    List(Stored),
    Config(Forbidden),
}

/// A server's list that was stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) server: ServerId,
    /// UID of the server's resource.
    pub(super) uid: String,
    pub(super) catalog: Arc<Catalog>,
}

/// What a Secret holds; `None` if it is none of ours. What is wrong with it is told in words that
/// repeat nothing of it.
pub(super) fn read(name: &str, secret: &Secret) -> Result<Option<Held>, String> {
    let held = match secret.type_.as_deref() {
        Some(ENTRY) => {
            let record = Record::parse(data(secret, "entry")?);
            Held::Entry(Box::new(record.map_err(|error| error.to_string())?))
        }
        Some(CATALOG) => {
            let server = server_of(name).ok_or("its name is not catalog.NAMESPACE.NAME")?;
            let uid = String::from_utf8_lossy(data(secret, "uid")?).into_owned();
            // A list that no Secret has room for is not there.
            let Ok(packed @ [_, ..]) = data(secret, "catalog") else { return Ok(None) };
            Held::List(Stored { server, uid, catalog: Arc::new(unpack(packed)?) })
        }
        Some(CONFIG) => {
            let forbidden = serde_json::from_slice(data(secret, "forbidden")?);
            Held::Config(forbidden.map_err(|error| format!("forbidden: {error}"))?)
        }
        _ => return Ok(None),
    };
    Ok(Some(held))
}

fn data<'a>(secret: &'a Secret, key: &str) -> Result<&'a [u8], String> {
    let value = secret.data.as_ref().and_then(|data| data.get(key));
    value.map(|value| value.0.as_slice()).ok_or_else(|| format!("it has no data key {key}"))
}

/// Neither part has a dot (RFC 1123 labels).
fn server_of(name: &str) -> Option<ServerId> {
    let (namespace, name) = name.strip_prefix("catalog.")?.split_once('.')?;
    (!name.contains('.')).then(|| (Namespace::new(namespace), ServerName::new(name)))
}

fn unpack(packed: &[u8]) -> Result<Catalog, String> {
    let mut json = Vec::new();
    let unpacked = GzDecoder::new(packed).take(MAX_LIST + 1).read_to_end(&mut json);
    if unpacked.is_err() || json.len() as u64 > MAX_LIST {
        return Err("its list is not gzip, or too large".to_owned());
    }
    Catalog::from_json(&json).map_err(|_| "its list cannot be read".to_owned())
}
