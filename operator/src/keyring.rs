//! The secrets of the whole gateway: pepper, sealing keys and the tokens of its admin port, in one
//! Secret that the gateways mount. Made when it is missing at the start, never written again from
//! here, and read again from time to time: whoever changes it need restart nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gateway_core::Pepper;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::objects::{Error, FIELD_MANAGER, call};

/// The key of the Secret's data: the file that a gateway reads.
const FILE: &str = "state.json";

/// Between two looks at the Secret: gateways see a change of their mounted file within a minute or
/// two, so nobody counts on less.
const LOOK: Duration = Duration::from_secs(10);

/// Shorter tokens could be guessed.
const MIN_TOKEN: usize = 16;

/// What the file holds, each secret as base64 of 32 bytes.
#[derive(Serialize, Deserialize)]
struct Contents {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pepper: Option<String>,
    /// While a pepper is changed: the new one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    peppers: Vec<String>,
    sealing: Vec<String>,
    admin: String,
    metrics: String,
}

/// What the operator needs of it.
pub(crate) struct Keyring {
    pub(crate) pepper: Pepper,
    /// Opens the gateways' report.
    pub(crate) admin: String,
    /// Opens the metrics, of gateways and of the operator.
    pub(crate) metrics: String,
}

#[cfg(test)]
impl Keyring {
    /// For tests that need one.
    pub(crate) fn any() -> std::sync::Arc<ArcSwap<Self>> {
        std::sync::Arc::new(ArcSwap::from_pointee(Self {
            pepper: Pepper::new(b"pepper"),
            admin: "admin-token".to_owned(),
            metrics: "metrics-token".to_owned(),
        }))
    }
}

impl PartialEq for Keyring {
    fn eq(&self, other: &Self) -> bool {
        // Peppers show nothing but what they make of a key.
        self.pepper.digest(b"") == other.pepper.digest(b"")
            && (&self.admin, &self.metrics) == (&other.admin, &other.metrics)
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyring(…)")
    }
}

/// Why there is no keyring.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// The Secret cannot be read or made.
    #[error("cannot read or make the Secret {0}")]
    Api(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// Not what was put there.
    #[error("the Secret {0} is damaged; restore it, or delete it to end all keys and sessions")]
    Damaged(String),
    /// It was there before.
    #[error(
        "the Secret {0} is gone; restore it: the next start makes another, which ends all keys and sessions"
    )]
    Gone(String),
}

/// Reads the Secrets of the release, or makes them.
///
/// # Errors
/// See [`KeyringError`].
pub(crate) async fn open(
    client: &Client,
    namespace: &str,
    release: &str,
) -> Result<Keyring, KeyringError> {
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    let name = format!("{release}-keys");
    let damaged = || KeyringError::Damaged(name.clone());
    let failed = |error: Error| KeyringError::Api(name.clone(), Box::new(error));
    let secret = match call("read the keys", api.get_opt(&name)).await.map_err(failed)? {
        Some(secret) => secret,
        None => {
            create(&api, &name, FILE, &fresh().map_err(|_| damaged())?).await.map_err(failed)?
        }
    };
    let keyring = read(&secret).ok_or_else(damaged)?;
    // For Prometheus, which must not have more than it needs.
    let token = format!("{release}-metrics-token");
    if call("read the token", api.get_opt(&token)).await.map_err(failed)?.is_none() {
        create(&api, &token, "token", keyring.metrics.as_bytes()).await.map_err(failed)?;
    }
    Ok(keyring)
}

/// Takes over what changes in the Secret, and tells of it, as long as it is polled. A Secret that is
/// gone or damaged changes nothing.
pub(crate) async fn follow(
    client: &Client,
    namespace: &str,
    release: &str,
    keyring: &ArcSwap<Keyring>,
    changed: impl Fn(),
) {
    let mut failing = false;
    loop {
        sleep(LOOK).await;
        match look(client, namespace, release).await {
            Ok(now) => {
                failing = false;
                if now != **keyring.load() {
                    keyring.store(now.into());
                    tracing::info!("the changed keyring is in force");
                    changed();
                }
            }
            Err(error) if !std::mem::replace(&mut failing, true) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                let source = source.unwrap_or_default();
                tracing::error!(%error, source, "the last good keyring stays in force");
            }
            Err(_) => {}
        }
    }
}

async fn look(client: &Client, namespace: &str, release: &str) -> Result<Keyring, KeyringError> {
    let name = format!("{release}-keys");
    let api = Api::<Secret>::namespaced(client.clone(), namespace);
    match call("read the keys", api.get_opt(&name)).await {
        Ok(Some(secret)) => read(&secret).ok_or(KeyringError::Damaged(name)),
        Ok(None) => Err(KeyringError::Gone(name)),
        Err(error) => Err(KeyringError::Api(name, Box::new(error))),
    }
}

/// As gateways check it. `None` if it is damaged.
fn read(secret: &Secret) -> Option<Keyring> {
    let file = secret.data.as_ref()?.get(FILE)?;
    let Contents { pepper, peppers, admin, metrics, .. } = serde_json::from_slice(&file.0).ok()?;
    let pepper = STANDARD.decode(peppers.first().or(pepper.as_ref())?).ok()?;
    let good = pepper.len() == 32 && admin.len().min(metrics.len()) >= MIN_TOKEN;
    good.then(|| Keyring { pepper: Pepper::new(&pepper), admin, metrics })
}

/// Of two operators that start at once both use what one made.
async fn create(api: &Api<Secret>, name: &str, key: &str, value: &[u8]) -> Result<Secret, Error> {
    let secret = Secret {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([(key.to_owned(), ByteString(value.to_owned()))])),
        ..Secret::default()
    };
    let params =
        PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match call("make a Secret", api.create(&params, &secret)).await {
        Err(error) if error.is_conflict() => call("read a Secret", api.get(name)).await,
        made => made,
    }
}

fn fresh() -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
    let contents = Contents {
        pepper: Some(random()?),
        peppers: Vec::new(),
        sealing: vec![random()?],
        admin: random()?,
        metrics: random()?,
    };
    // A struct of strings has a JSON form.
    serde_json::to_vec_pretty(&contents).map_err(|_| aws_lc_rs::error::Unspecified)
}

fn random() -> Result<String, aws_lc_rs::error::Unspecified> {
    let mut secret = [0; 32];
    aws_lc_rs::rand::fill(&mut secret)?;
    Ok(STANDARD.encode(secret))
}

#[cfg(test)]
mod tests;
