//! What a key is looked at with.

use std::sync::Arc;

use crds::McpApiKey;
use gateway_core::{Entry, Kind, Record, Secrets};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};

use crate::context::{Context, reference, version_in_force};
use crate::objects::{Error, find_secret};

/// What is there besides the key itself.
pub(super) struct Observed {
    pub(super) now: Timestamp,
    /// Of its entry, if it has one.
    pub(super) in_force: Option<u64>,
    /// The entry that is in force.
    pub(super) record: Option<Arc<Record>>,
    /// The Secret in which a key that the operator makes is handed out.
    pub(super) output: Option<Secret>,
    /// Another Secret of this resource that holds the newest key, if `output` does not: its name was
    /// changed.
    pub(super) former: Option<Secret>,
    /// The Secret that holds the key, if the user brought one.
    pub(super) given: Secrets,
    /// To be taken if a key has to be made.
    pub(super) candidate: String,
}

/// Never shows a key.
impl std::fmt::Debug for Observed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observed").field("in_force", &self.in_force).finish_non_exhaustive()
    }
}

pub(super) async fn observe(ctx: &Context, key: &McpApiKey) -> Result<Observed, Error> {
    let stored = ctx.entries.of(&reference(Kind::Key, &key.metadata));
    let in_force = version_in_force(stored.as_ref(), &key.metadata);
    let api = Api::<Secret>::namespaced(ctx.client.clone(), &key.namespace().unwrap_or_default());
    let record = stored.filter(|_| in_force.is_some()).and_then(|stored| stored.record);
    let mut given = Secrets::default();
    let (mut output, mut former) = (None, None);
    if let Some(source) = &key.spec.value_from {
        let name = &source.secret_key_ref.name;
        if let Some(secret) = find_secret("read the Secret of a key", &api, name).await? {
            given.insert(secret);
        }
    } else {
        let name = output_name(key);
        output = find_secret("read the Secret of a key", &api, &name).await?;
        former = find_former(ctx, key, record.as_deref(), output.as_ref()).await?;
    }
    Ok(Observed {
        now: Timestamp::now(),
        in_force,
        record,
        output,
        former,
        given,
        candidate: make_key()?,
    })
}

/// Looks for the newest key in other Secrets of this resource, if it is not where it should be.
async fn find_former(
    ctx: &Context,
    key: &McpApiKey,
    record: Option<&Record>,
    output: Option<&Secret>,
) -> Result<Option<Secret>, Error> {
    let Some(Entry::Key(entry)) = record.map(|record| &record.entry) else { return Ok(None) };
    let Some(newest) = entry.values.first().filter(|newest| newest.minted.is_some()) else {
        return Ok(None);
    };
    let holds_it = |secret: &Secret| {
        let value = secret.data.as_ref().and_then(|data| data.get("key"));
        value.is_some_and(|value| ctx.keyring.load().pepper.digest(&value.0) == newest.digest)
    };
    if output.is_some_and(holds_it) {
        return Ok(None);
    }
    let (namespace, uid) = (key.namespace().unwrap_or_default(), key.uid().unwrap_or_default());
    let api = Api::<Secret>::namespaced(ctx.client.clone(), &namespace);
    for name in ctx.world.secrets_of(&namespace, &uid) {
        let secret = find_secret("read the Secret of a key", &api, &name).await?;
        if let Some(secret) = secret.filter(holds_it) {
            return Ok(Some(secret));
        }
    }
    Ok(None)
}

/// Name of the Secret in which a key is handed out.
pub(crate) fn output_name(key: &McpApiKey) -> String {
    let default = || format!("mcp-key-{}", key.name_any());
    key.spec.secret_name.clone().unwrap_or_else(default)
}

/// 256 random bits, recognisable as one of ours.
fn make_key() -> Result<String, Error> {
    let mut random = [0; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Error::Randomness)?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("fw_{digits}"))
}
