//! What a key is looked at with.

use std::sync::Arc;

use crds::McpApiKey;
use gateway_core::{Kind, Record, Secrets};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};

use crate::context::{Context, reference, version_in_force};
use crate::objects::{Error, call};

/// What is there besides the key itself.
pub(super) struct Observed {
    pub(super) now: Timestamp,
    /// Of its entry, if it has one.
    pub(super) in_force: Option<u64>,
    /// The entry that is in force.
    pub(super) record: Option<Arc<Record>>,
    /// The Secret in which a key that the operator makes is handed out.
    pub(super) output: Option<Secret>,
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
    let mut given = Secrets::default();
    let mut output = None;
    if let Some(source) = &key.spec.value_from {
        let name = &source.secret_key_ref.name;
        if let Some(secret) = call("read the Secret of a key", api.get_opt(name)).await? {
            given.insert(secret);
        }
    } else {
        let name = output_name(key);
        output = call("read the Secret of a key", api.get_opt(&name)).await?;
    }
    Ok(Observed {
        now: Timestamp::now(),
        in_force,
        record: stored.filter(|_| in_force.is_some()).and_then(|stored| stored.record),
        output,
        given,
        candidate: make_key()?,
    })
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
