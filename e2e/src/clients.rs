//! Real, pinned MCP clients for the tests, and what they are set against.
//!
//! They are installed once, under `target/clients` ([`install`]). [`claude`] runs Claude Code, whose model is a
//! scripted stub ([`model`]); [`sessions`] holds many sessions of the Python or TypeScript SDK in one process, also
//! through mcp-remote ([`bridge`]); [`inspector`] runs the Inspector's CLI; [`conformance`] the official suite. [`tap`]
//! is a reverse proxy that records and breaks what passes, [`hop`] one that only adds a header, and [`stage`] starts the
//! demo, the gateway and the servers.
//!
//! Every wait has a deadline, every process dies with its handle, and a test that panics prints what they wrote.

pub mod bridge;
pub mod claude;
pub mod conformance;
mod endpoint;
pub mod hop;
pub mod inspector;
pub mod install;
pub mod model;
pub mod process;
pub mod sessions;
pub mod stage;
pub mod tap;

use std::{
    env,
    future::Future,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

pub use endpoint::{Endpoint, Transport};

/// How long a test waits for anything: the slowest step, a client's start while every core is busy, takes 5 s.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How often a condition that cannot notify is looked at.
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// The path of a binary of this workspace, built with the tests that are running.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = profile_directory()?.join(name);

    ensure!(
        path.is_file(),
        "{} is missing: run `cargo test --workspace`, which builds it",
        path.display()
    );
    Ok(path)
}

/// Waits for `future`, at most [`DEADLINE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(DEADLINE, future)
        .await
        .with_context(|| format!("waited {DEADLINE:?} for {what}"))
}

/// `target`, of which every profile has a directory.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let profile = profile_directory()?;
    profile.parent().map(Path::to_owned).context("the profile has no directory")
}

/// `target/<profile>`: test binaries are in its `deps`, programs in itself.
fn profile_directory() -> Result<PathBuf> {
    let executable = env::current_exe().context("the path of this test is unknown")?;
    let directory = executable.parent().context("this test has no directory")?;
    let profile = if directory.ends_with("deps") { directory.parent() } else { Some(directory) };

    profile.map(Path::to_owned).context("this test does not run from a target directory")
}
