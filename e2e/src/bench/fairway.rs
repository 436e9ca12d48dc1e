//! The gateway under test: built from this workspace, fed from a directory of manifests.

use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::bench::{
    API_KEY, caller,
    process::{self, Process},
};

/// The gateway's binary: the one given, or a fresh release build beside this one.
pub(super) fn binary(given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--package", "gateway"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "the gateway does not build; leave it out of --targets to go on");

    let binary = env::current_exe()?.with_file_name("fairway-gateway");
    ensure!(binary.is_file(), "there is no {}; is the target directory shared?", binary.display());
    Ok(binary)
}

/// Starts the gateway before the server at `upstream` and waits until its table names it.
pub(super) fn start(
    binary: &Path,
    upstream: SocketAddr,
    scratch: &Path,
) -> Result<(Process, SocketAddr)> {
    let directory = scratch.join("manifests");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("bench.yaml"), manifests(upstream))?;

    let address = process::free_address()?;
    let arguments = [
        "--source".to_owned(),
        format!("dir:{}", directory.display()),
        "--listen".to_owned(),
        address.to_string(),
        "--admin-listen".to_owned(),
        process::free_address()?.to_string(),
        "--state".to_owned(),
        scratch.join("state").display().to_string(),
    ];
    let gateway = Process::program(binary, arguments, &scratch.join("fairway.log"))?;
    caller::wait_until_body(address, "/health", names_the_server, TABLE_WITHIN).map_err(
        |error| error.context(format!("the gateway has no table{}", gateway.last_words())),
    )?;
    Ok((gateway, address))
}

/// Keys and policy on, nothing else: one server, one user with a key, one policy that allows all.
fn manifests(upstream: SocketAddr) -> String {
    format!(
        "\
apiVersion: fairway.dev/v1alpha1
kind: McpServer
metadata:
  name: bench
  namespace: default
spec:
  url: http://{upstream}/mcp
  tools:
    prefix: \"\"
---
apiVersion: v1
kind: Secret
metadata:
  name: bench
  namespace: default
stringData:
  key: {API_KEY}
---
apiVersion: fairway.dev/v1alpha1
kind: McpApiKey
metadata:
  name: bench
  namespace: default
spec:
  user: bench
  valueFrom:
    secretKeyRef:
      name: bench
      key: key
---
apiVersion: fairway.dev/v1alpha1
kind: McpPolicy
metadata:
  name: bench
  namespace: default
spec:
  subjects:
    - user: bench
  rules:
    - effect: Allow
      servers: [\"*\"]
      tools: [\"*\"]
"
    )
}

/// Whether `/health` lists the server, by whatever shape its entries have.
fn names_the_server(body: &[u8]) -> bool {
    let Ok(health) = serde_json::from_slice::<serde_json::Value>(body) else { return false };
    match &health["backends"] {
        serde_json::Value::Array(backends) => {
            backends.iter().any(|backend| backend == "bench" || backend["name"] == "bench")
        }
        serde_json::Value::Object(backends) => backends.contains_key("bench"),
        _ => false,
    }
}

/// A cold start takes less than a second; a machine that also compiles may take ten times that.
const TABLE_WITHIN: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_names_servers_as_words_objects_or_keys() {
        for (health, named) in [
            (r#"{"status":"ok","backends":["bench"]}"#, true),
            (r#"{"backends":[{"name":"other"},{"name":"bench"}]}"#, true),
            (r#"{"backends":{"bench":{}}}"#, true),
            (r#"{"backends":["other"]}"#, false),
            (r#"{"status":"bench"}"#, false),
            ("bench", false),
        ] {
            assert_eq!(names_the_server(health.as_bytes()), named, "{health}");
        }
    }
}
