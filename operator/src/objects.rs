//! Reads and writes objects of a cluster: server-side apply under one name, and only what is not
//! so already.

use std::fmt::Debug;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use crate::compare::says;

/// Who owns the fields that the operator sets.
pub(crate) const FIELD_MANAGER: &str = "fairway-operator";
/// How the apiserver (1.36) begins to say, with code 500, that an object cannot be applied: two
/// environment variables of one name, for instance.
const UNMERGEABLE: &str = "failed to create typed patch object";
/// For one call of the apiserver.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a reconcile has to be tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// The apiserver refused.
    #[error("cannot {0}")]
    Kube(&'static str, #[source] Box<kube::Error>),
    /// It did not answer.
    #[error("cannot {0}: no answer within {PATIENCE:?}")]
    Slow(&'static str),
    /// Another replica writes now.
    #[error("this operator does not lead")]
    NotLeader,
    /// An object of this name is somebody else's.
    #[error("{0} exists and does not belong to this resource; delete or rename it")]
    Foreign(String),
    /// The system has no randomness to give.
    #[error("no randomness")]
    Randomness,
    /// A bug: our own objects have a JSON form.
    #[error("an object has no JSON form")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// For metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Kube(_, error) => match &**error {
                kube::Error::Api(status) if status.is_conflict() || status.is_already_exists() => {
                    "conflict"
                }
                kube::Error::Api(status) if status.is_forbidden() => "forbidden",
                kube::Error::Api(_) => "refused",
                _ => "unreachable",
            },
            Self::Slow(_) => "slow",
            Self::NotLeader => "not_leader",
            Self::Foreign(_) => "foreign",
            Self::Randomness => "randomness",
            Self::Json(_) => "json",
        }
    }

    /// What somebody has to mend, in words for a condition: the apiserver does not take the object
    /// as it is, whenever it is tried.
    pub(crate) fn refusal(&self) -> Option<String> {
        match self {
            Self::Kube(what, error) => match &**error {
                kube::Error::Api(status)
                    if matches!(status.code, 400 | 403 | 413 | 422)
                        || status.message.starts_with(UNMERGEABLE) =>
                {
                    Some(format!("cannot {what}: {}", status.message))
                }
                _ => None,
            },
            Self::Foreign(_) => Some(self.to_string()),
            Self::Slow(_) | Self::NotLeader | Self::Randomness | Self::Json(_) => None,
        }
    }

    /// Whether another write came first.
    pub(crate) fn is_conflict(&self) -> bool {
        self.reason() == "conflict"
    }
}

/// What is behind an error, for a log.
pub(crate) fn source(error: &Error) -> String {
    std::error::Error::source(error).map(ToString::to_string).unwrap_or_default()
}

/// One call, named for the error, with a bound on its time.
pub(crate) async fn call<T>(
    what: &'static str,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match timeout(PATIENCE, call).await {
        Ok(answer) => answer.map_err(|error| Error::Kube(what, Box::new(error))),
        Err(_) => Err(Error::Slow(what)),
    }
}

/// A Secret of a namespace, if it is there. A name that is none is not asked for: it could lead to
/// another namespace. That there is no such Secret is told by validation.
pub(crate) async fn find_secret(
    what: &'static str,
    api: &Api<Secret>,
    name: &str,
) -> Result<Option<Secret>, Error> {
    let is_name = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
    if is_name { call(what, api.get_opt(name)).await } else { Ok(None) }
}

/// Brings an object of `owner` (a UID) into line, unless it says so already. `live` is the object
/// as it was last seen.
///
/// # Errors
/// Among others [`Error::Foreign`]: what somebody else made is not taken over. A conflict when it
/// is not what was last seen any more.
pub(crate) async fn apply<K>(
    what: &'static str,
    api: &Api<K>,
    desired: &K,
    live: Option<&K>,
    owner: &str,
) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let name = desired.name_any();
    // Not all are seen: one that somebody else made may lack the label that we watch by.
    let found = match live {
        Some(_) => None,
        None => call(what, api.get_opt(&name)).await?,
    };
    let live = live.or(found.as_ref());
    if let Some(live) = live {
        if !live.owner_references().iter().any(|reference| reference.uid == owner) {
            return Err(Error::Foreign(format!("{} {name}", K::kind(&()))));
        }
        if says(&serde_json::to_value(live)?, &serde_json::to_value(desired)?) {
            return Ok(());
        }
    }
    let mut desired = desired.clone();
    desired.meta_mut().resource_version = live.and_then(ResourceExt::resource_version);
    let (kind, namespace) = (K::kind(&()), desired.namespace().unwrap_or_default());
    let params = PatchParams::apply(FIELD_MANAGER).force();
    call(what, api.patch(&name, &params, &Patch::Apply(desired))).await?;
    tracing::info!(%kind, namespace, name, "an object is written");
    Ok(())
}

/// Writes an object of the operator's own. One that did not exist is created, so that of two who
/// find nothing one gets a conflict; one that did has to be as it was last seen, which its
/// `resourceVersion` says.
pub(crate) async fn put<K>(
    what: &'static str,
    api: &Api<K>,
    name: &str,
    object: &K,
    existed: bool,
) -> Result<K, Error>
where
    K: Resource + Clone + Debug + DeserializeOwned + Serialize,
{
    if existed {
        let params = PatchParams::apply(FIELD_MANAGER).force();
        return call(what, api.patch(name, &params, &Patch::Apply(object))).await;
    }
    let params =
        PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    call(what, api.create(&params, object)).await
}

/// Deletes exactly what was seen.
pub(crate) fn exactly(uid: Option<String>, version: u64) -> DeleteParams {
    let resource_version = Some(version.to_string());
    DeleteParams {
        preconditions: Some(Preconditions { uid, resource_version }),
        ..DeleteParams::default()
    }
}

/// A deletion that somebody else was faster with is done.
pub(crate) fn absent_is_fine<T>(deleted: Result<T, Error>) -> Result<(), Error> {
    match deleted {
        Err(Error::Kube(_, error)) if matches!(&*error, kube::Error::Api(status) if status.is_not_found()) => {
            Ok(())
        }
        other => other.map(drop),
    }
}

/// Writes a status, unless it is the one that stands there.
pub(crate) async fn write_status<K>(
    api: &Api<K>,
    name: &str,
    status: Value,
    before: &Value,
) -> Result<bool, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    if *before == status {
        return Ok(false);
    }
    let body = serde_json::json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    call("write the status", api.patch_status(name, &params, &Patch::Apply(body))).await?;
    Ok(true)
}

#[cfg(test)]
mod tests;
