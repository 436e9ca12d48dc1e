//! `kubectl` and `helm` for one cluster. Every call has a deadline, also of its own towards the apiserver.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use tokio::process::Command;

use super::{
    command::{self, SHORT},
    layout::Layout,
};

/// A cluster as its administrator reaches it.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    programs: PathBuf,
    kubeconfig: PathBuf,
    context: Option<String>,
}

impl Access {
    pub(crate) fn new(layout: &Layout, kubeconfig: PathBuf, context: Option<String>) -> Self {
        Self { programs: layout.programs(), kubeconfig, context }
    }

    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    pub(crate) fn context(&self) -> Option<&str> {
        self.context.as_deref()
    }

    /// What `kubectl` prints.
    pub(crate) async fn kubectl<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        command::run(self.kubectl_command(arguments, REQUEST), SHORT).await
    }

    /// The same for what waits in the apiserver or streams from it (`wait`, `rollout status`, `exec`).
    pub(crate) async fn kubectl_for<S: AsRef<OsStr>>(
        &self,
        arguments: &[S],
        deadline: Duration,
    ) -> Result<String> {
        command::run(self.kubectl_command(arguments, deadline), deadline + GRACE).await
    }

    /// Applies manifests, server-side: nothing is read first and nothing is guessed.
    pub(crate) async fn apply(&self, manifests: &str) -> Result<String> {
        let arguments = ["apply", "--server-side", "--force-conflicts", "--filename", "-"];
        command::feed(self.kubectl_command(&arguments, REQUEST), manifests, SHORT).await
    }

    /// What `helm` prints.
    pub(crate) async fn helm<S: AsRef<OsStr>>(
        &self,
        arguments: &[S],
        deadline: Duration,
    ) -> Result<String> {
        let mut command = Command::new(self.programs.join("helm"));
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        if let Some(context) = &self.context {
            command.args(["--kube-context", context]);
        }
        command.args(arguments);
        command::run(command, deadline).await
    }

    /// For those who stream from it or run it without waiting.
    pub(crate) fn kubectl_command<S: AsRef<OsStr>>(
        &self,
        arguments: &[S],
        request: Duration,
    ) -> Command {
        let mut command = Command::new(self.programs.join("kubectl"));
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        if let Some(context) = &self.context {
            command.args(["--context", context]);
        }
        command.arg(format!("--request-timeout={}s", request.as_secs()));
        command.args(arguments);
        command
    }
}

/// An apiserver that has anything to say says it in less.
const REQUEST: Duration = Duration::from_secs(15);

/// For `kubectl` to say itself that it waited for too long.
const GRACE: Duration = Duration::from_secs(10);
