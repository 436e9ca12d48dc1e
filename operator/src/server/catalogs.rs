//! The lists of servers as they were verified, kept beside the entries: a gateway starts with them,
//! and a definition that changes is noticed.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::sync::{Arc, PoisonError, RwLock};

use flate2::Compression;
use flate2::write::GzEncoder;
use gateway_core::{Catalog, DefinitionHash, Kind, Namespace, ResourceRef};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Api, Client, ResourceExt};

use crate::entries::version;
use crate::lease::Leadership;
use crate::objects::{Error, absent_is_fine, call, exactly, put};

/// Of a Secret that holds a list.
pub(crate) const CATALOG_TYPE: &str = "fairway.dev/catalog";
/// Largest Secret, less what stands around the list. A larger list is not kept; gateways then wait
/// for the server.
const MAX_STORED: usize = 1_000_000;

/// Of the name of such a Secret.
const PREFIX: &str = "catalog.";

/// The hash of each tool's definition, by its name.
pub(crate) type Definitions = BTreeMap<String, DefinitionHash>;

/// A list as it was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verified {
    /// UID of the server's resource.
    pub(crate) uid: String,
    /// Of all tools' definitions.
    pub(crate) hash: DefinitionHash,
    /// Of everything that is kept; none if an earlier version kept it.
    pub(crate) whole: Option<DefinitionHash>,
    /// The definitions.
    pub(crate) tools: Arc<Definitions>,
    /// Those that were accepted: the first ones, until others are.
    pub(crate) accepted: Arc<Definitions>,
}

impl Verified {
    /// Of a list that is seen for the first time.
    pub(crate) fn first(uid: &str, catalog: &Catalog) -> Self {
        let tools = Arc::new(definitions(catalog));
        Self {
            uid: uid.to_owned(),
            hash: catalog.hash(),
            whole: Some(catalog.whole_hash()),
            accepted: tools.clone(),
            tools,
        }
    }
}

/// Hash of each tool.
pub(crate) fn definitions(catalog: &Catalog) -> Definitions {
    catalog.tools().iter().map(|tool| (tool.name.to_string(), tool.hash)).collect()
}

/// Whether the hashes of its tools fit into a Secret, twice: as they are and as they were accepted.
pub(crate) fn fits(catalog: &Catalog) -> bool {
    // 32 digits, and what JSON puts around them; a name may be escaped to six times its length.
    let size = |name: &str| 6 * name.len() + 40;
    catalog.tools().iter().map(|tool| 2 * size(&tool.name)).sum::<usize>() <= MAX_STORED
}

#[derive(Debug, Clone)]
struct Stored {
    version: u64,
    secret: Option<String>,
    verified: Option<Verified>,
}

/// All lists that were verified. The lists themselves are not kept here: they may be large, and are
/// read again in the rare case that they are needed.
#[derive(Debug)]
pub(crate) struct Catalogs {
    api: Api<Secret>,
    leadership: Arc<Leadership>,
    seen: RwLock<HashMap<String, Stored>>,
}

impl Catalogs {
    pub(crate) fn new(client: Client, namespace: &str, leadership: Arc<Leadership>) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, leadership, seen: RwLock::default() }
    }

    /// The list of a server, if it is of the one with this UID.
    pub(crate) fn of(&self, namespace: &str, server: &str, uid: &str) -> Option<Verified> {
        let stored = self.stored(&catalog_name(namespace, server))?;
        stored.verified.filter(|verified| verified.uid == uid)
    }

    fn stored(&self, name: &str) -> Option<Stored> {
        self.seen.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The servers of which there are lists, and their UIDs.
    pub(crate) fn all(&self) -> Vec<(ResourceRef, String)> {
        let seen = self.seen.read().unwrap_or_else(PoisonError::into_inner);
        let server = |(name, stored): (&String, &Stored)| {
            let (namespace, server) = name.strip_prefix(PREFIX)?.split_once('.')?;
            let namespace = Namespace::new(namespace);
            let resource = ResourceRef { namespace, kind: Kind::Server, name: server.into() };
            Some((resource, stored.verified.as_ref()?.uid.clone()))
        };
        seen.iter().filter_map(server).collect()
    }

    /// Takes in what the apiserver tells of a list.
    pub(crate) fn saw(&self, secret: &Secret) {
        let stored = parse(secret);
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        let name = secret.name_any();
        if seen.get(&name).is_none_or(|known| known.version < stored.version) {
            seen.insert(name, stored);
        }
    }

    /// Takes in that a list is gone.
    pub(crate) fn lost(&self, name: &str, version: u64) {
        let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
        // It may have been written anew already.
        if seen.get(name).is_some_and(|known| known.version <= version) {
            seen.remove(name);
        }
    }

    /// Keeps a list; `catalog` is none when only what is accepted is another.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn apply(
        &self,
        namespace: &str,
        server: &str,
        verified: &Verified,
        catalog: Option<&Catalog>,
    ) -> Result<(), Error> {
        let name = catalog_name(namespace, server);
        let before = self.stored(&name);
        let packed = match catalog {
            Some(catalog) => pack(&catalog.to_json()),
            None => self.packed(&name).await?,
        };
        let json = |definitions: &Definitions| serde_json::to_vec(definitions);
        let mut data = BTreeMap::from([
            ("uid", verified.uid.clone().into_bytes()),
            ("hash", verified.hash.to_string().into_bytes()),
            ("tools", json(&verified.tools)?),
            ("accepted", json(&verified.accepted)?),
        ]);
        if let Some(whole) = verified.whole {
            data.insert("whole", whole.to_string().into_bytes());
        }
        if packed.len() + data.values().map(Vec::len).sum::<usize>() <= MAX_STORED {
            data.insert("catalog", packed);
        }
        let data = data.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value)));
        let secret = Secret {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                resource_version: before.as_ref().map(|before| before.version.to_string()),
                labels: Some(BTreeMap::from([(
                    "app.kubernetes.io/managed-by".to_owned(),
                    "fairway".to_owned(),
                )])),
                ..ObjectMeta::default()
            },
            type_: Some(CATALOG_TYPE.to_owned()),
            data: Some(data.collect()),
            ..Secret::default()
        };
        self.leadership.term().ok_or(Error::NotLeader)?;
        let existed = before.is_some();
        let written = put("keep a list of tools", &self.api, &name, &secret, existed).await;
        self.saw(&self.refreshed(&name, written).await?);
        tracing::info!(namespace, server, hash = %verified.hash, "a list of tools is kept");
        Ok(())
    }

    /// After a conflict a list is read anew: see the entries.
    async fn refreshed<T>(&self, name: &str, done: Result<T, Error>) -> Result<T, Error> {
        if done.as_ref().is_err_and(Error::is_conflict) {
            let live = call("read a list of tools", self.api.get_opt(name)).await?;
            let mut seen = self.seen.write().unwrap_or_else(PoisonError::into_inner);
            match live {
                Some(live) => drop(seen.insert(name.to_owned(), parse(&live))),
                None => drop(seen.remove(name)),
            }
        }
        done
    }

    /// The list itself, compressed, as it is stored; empty if it is not.
    async fn packed(&self, name: &str) -> Result<Vec<u8>, Error> {
        let secret = call("read a list of tools", self.api.get_opt(name)).await?;
        let data = secret.and_then(|secret| secret.data).unwrap_or_default();
        Ok(data.get("catalog").map(|packed| packed.0.clone()).unwrap_or_default())
    }

    /// Deletes the list of a server, if it is of the one with this UID.
    ///
    /// # Errors
    /// See [`Error`].
    pub(crate) async fn delete(
        &self,
        namespace: &str,
        server: &str,
        uid: &str,
    ) -> Result<(), Error> {
        let name = catalog_name(namespace, server);
        let Some(stored) = self.stored(&name) else { return Ok(()) };
        if stored.verified.as_ref().is_some_and(|verified| verified.uid != uid) {
            return Ok(());
        }
        self.leadership.term().ok_or(Error::NotLeader)?;
        let params = exactly(stored.secret, stored.version);
        let gone = call("delete a list of tools", self.api.delete(&name, &params)).await;
        self.refreshed(&name, absent_is_fine(gone)).await?;
        self.lost(&name, stored.version);
        Ok(())
    }
}

fn pack(json: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to a Vec cannot fail.
    let _ = encoder.write_all(json);
    encoder.finish().unwrap_or_default()
}

fn parse(secret: &Secret) -> Stored {
    let data = secret.data.clone().unwrap_or_default();
    let bytes = |key: &str| data.get(key).map(|value| value.0.as_slice());
    let text = |key: &str| std::str::from_utf8(bytes(key)?).ok().map(str::to_owned);
    let map = |key: &str| serde_json::from_slice(bytes(key)?).ok().map(Arc::new);
    let verified = || {
        Some(Verified {
            uid: text("uid")?,
            hash: text("hash")?.try_into().ok()?,
            whole: text("whole").and_then(|whole| whole.try_into().ok()),
            tools: map("tools")?,
            accepted: map("accepted")?,
        })
    };
    Stored { version: version(&secret.metadata), secret: secret.uid(), verified: verified() }
}

/// Name of the Secret that keeps a server's list. Both are labels of at most 63 characters.
fn catalog_name(namespace: &str, server: &str) -> String {
    format!("{PREFIX}{namespace}.{server}")
}
