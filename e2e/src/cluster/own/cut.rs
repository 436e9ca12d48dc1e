//! A pod that hears nothing of some others any more, nor they of it: a packet filter in its own network.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};

use super::{
    super::{command, daemon::Daemon, layout::APISERVER_SERVICE, packages},
    host,
};

/// From whom a pod is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// Who listens at this port, and who comes to it here.
    AtPort(u16),
    /// The apiserver.
    Apiserver,
}

/// A pod that is cut from others until this is dropped.
#[derive(Debug)]
#[must_use = "it is connected again when this is dropped"]
pub struct Cut {
    process: Daemon,
}

impl Cut {
    pub(super) async fn of(process: Daemon, others: Others) -> Result<Self> {
        // What is sent to it is seen before, and what comes back after the node has put addresses of pods in place of
        // those of Services.
        let drop = match others {
            Others::AtPort(port) => {
                format!("tcp dport {port} drop\n    tcp sport {port} drop")
            }
            Others::Apiserver => {
                format!("ip daddr {APISERVER_SERVICE} drop\n    ip saddr {APISERVER_SERVICE} drop")
            }
        };
        let script = format!(
            "\
table ip {TABLE} {{
  chain received {{
    type filter hook input priority filter; policy accept;
    {drop}
  }}
  chain sent {{
    type filter hook output priority filter; policy accept;
    {drop}
  }}
}}
"
        );
        let nft = packages::find("nft").context("nft is not installed")?;
        let mut inside = host::host_program("nsenter")?;
        inside.arg(network(process)).arg(nft).args(["--file", "-"]);
        command::feed(inside, &script, command::SHORT).await?;
        Ok(Self { process })
    }

    /// Connects it again.
    pub fn mend(self) {
        drop(self);
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        // One that was killed in the meantime took its network along.
        if let Some(nft) = packages::find("nft").filter(|_| self.process.alive()) {
            let mut inside = Command::new("nsenter");
            inside.arg(network(self.process)).arg(nft).args(["delete", "table", "ip", TABLE]);
            let _ = inside.stdout(Stdio::null()).status();
        }
    }
}

fn network(process: Daemon) -> String {
    format!("--net=/proc/{}/ns/net", process.pid())
}

const TABLE: &str = "fairway-e2e-cut";
