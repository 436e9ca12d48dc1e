//! Resources that the CRD let through and our types cannot hold: nothing is known of them but their
//! names, and that is told in their status.

use std::fmt::Debug;

use gateway_core::Kind;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::conditions::{ACCEPTED, READY, Verdict, conditions};
use crate::context::{Context, id, reference, resync, version_in_force};
use crate::control::Action;
use crate::objects::{Error, write_status};

/// Says so in the status. The last good entry stays.
pub(crate) async fn tell<K>(
    ctx: &Context,
    kind: Kind,
    invalid: &InvalidObject,
) -> Result<Action, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let meta = &invalid.metadata;
    let stored = ctx.entries.of(&reference(kind, meta));
    let in_force = version_in_force(stored.as_ref(), meta).is_some();
    let text = format!("the resource cannot be read: {}", invalid.error);
    let verdict = Verdict::refused("Unreadable", &text, in_force);
    // Written each time, as what stands there is not known; the same text is no change. Thus the
    // time must be the same, too.
    let since = meta.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let verdicts = vec![(ACCEPTED, verdict.clone()), (READY, verdict)];
    let conditions = conditions(verdicts, &[], meta.generation, since);
    let status = json!({"conditions": conditions, "observedGeneration": meta.generation});
    let (namespace, name) = id(meta);
    let api = Api::<DeserializeGuard<K>>::namespaced(ctx.client.clone(), &namespace);
    ctx.term()?;
    write_status(&api, &name, status, &Value::Null).await?;
    Ok(resync())
}
