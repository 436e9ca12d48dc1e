//! Reads and writes objects of a cluster: server-side apply under one name, and only what is not
//! so already.

use std::fmt::Debug;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

/// Who owns the fields that the operator sets.
pub(crate) const FIELD_MANAGER: &str = "fairway-operator";
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

    /// Whether another write came first.
    pub(crate) fn is_conflict(&self) -> bool {
        self.reason() == "conflict"
    }
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

/// Brings an object of `owner` (a UID) into line, unless it says so already.
///
/// # Errors
/// Among others [`Error::Foreign`]: what somebody else made is not taken over.
pub(crate) async fn apply<K>(
    what: &'static str,
    api: &Api<K>,
    desired: &K,
    live: Option<&K>,
    owner: &str,
) -> Result<K, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let name = desired.name_any();
    if let Some(live) = live {
        let owned = live.owner_references().iter().any(|reference| reference.uid == owner);
        if !owned {
            return Err(Error::Foreign(format!("{} {name}", K::kind(&()))));
        }
        if says(&serde_json::to_value(live)?, &serde_json::to_value(desired)?) {
            return Ok(live.clone());
        }
    }
    let params = PatchParams::apply(FIELD_MANAGER).force();
    call(what, api.patch(&name, &params, &Patch::Apply(desired))).await
}

/// Writes a status, unless it is the one that stands there.
pub(crate) async fn write_status<K>(
    api: &Api<K>,
    name: &str,
    status: Value,
    before: Option<&Value>,
) -> Result<bool, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    if before == Some(&status) {
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

/// Whether `live` has everything that `desired` has. What the apiserver adds, such as defaults, is
/// not ours to compare.
pub(crate) fn says(live: &Value, desired: &Value) -> bool {
    match (live, desired) {
        (Value::Object(live), Value::Object(desired)) => desired.iter().all(|(name, desired)| {
            desired.is_null() || live.get(name).is_some_and(|live| says(live, desired))
        }),
        (Value::Array(live), Value::Array(desired)) => {
            live.len() == desired.len()
                && live.iter().zip(desired).all(|(live, desired)| says(live, desired))
        }
        (live, desired) => live == desired,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_are_no_difference_and_drift_is() {
        let desired =
            json!({"spec": {"ports": [{"port": 80}], "type": null}, "labels": {"a": "b"}});

        for (live, same) in [
            (
                json!({"spec": {"ports": [{"port": 80, "protocol": "TCP"}]}, "labels": {"a": "b"}}),
                true,
            ),
            (json!({"spec": {"ports": [{"port": 81}]}, "labels": {"a": "b"}}), false),
            (json!({"spec": {"ports": []}, "labels": {"a": "b"}}), false),
            (json!({"spec": {"ports": [{"port": 80}, {"port": 1}]}, "labels": {"a": "b"}}), false),
            (json!({"spec": {"ports": [{"port": 80}]}, "labels": {"a": "b", "c": "d"}}), true),
            (json!({"labels": {"a": "b"}}), false),
        ] {
            assert_eq!(says(&live, &desired), same, "{live}");
        }
    }
}
