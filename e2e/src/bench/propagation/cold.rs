//! A gateway's first answer: a process of its own on this host, which reads the same entries as the pods do.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    process::Command,
    time::{Instant, sleep, timeout},
};

use super::{
    probe::{Answer, Probe},
    scene::{RUNNING, Scene},
};
use crate::{
    bench::process,
    cluster::release::{ENTRIES, HOME},
};

pub(super) async fn starts(scene: &Scene<'_>, count: usize) -> Result<Vec<Duration>> {
    let binary = crate::clients::target_directory()?.join("image/fairway-gateway");
    let scratch = tempfile::tempdir()?;
    let state = scratch.path().join("state.json");
    let path = "--output=go-template={{index .data \"state.json\" | base64decode}}";
    let arguments = ["--namespace", HOME, "get", "secret", "fairway-keys", path];
    fs::write(&state, scene.release.cluster().kubectl(&arguments).await?)?;
    restrict(&state)?;
    let mut times = Vec::new();
    for _ in 0..count {
        let (listen, admin) = (process::free_address()?, process::free_address()?);
        let log = fs::File::create(scratch.path().join("gateway.log"))?;
        let began = Instant::now();
        let mut gateway = Command::new(&binary)
            .args(["--source", "cluster", "--entries-namespace", ENTRIES])
            .args(["--listen", &listen.to_string(), "--admin-listen", &admin.to_string()])
            .arg("--state")
            .arg(&state)
            .env("KUBECONFIG", scene.release.cluster().kubeconfig())
            .stdout(log)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the gateway")?;
        let first = async {
            loop {
                if let Ok(mut probe) = Probe::to(listen).await
                    && let Ok(Answer::Called) =
                        probe.call(&format!("{RUNNING}_echo"), &scene.key).await
                {
                    return began.elapsed();
                }
                sleep(Duration::from_millis(2)).await;
            }
        };
        let first = timeout(Duration::from_secs(60), first).await;
        gateway.kill().await?;
        ensure!(first.is_ok(), "the gateway gives no answer");
        times.extend(first);
    }
    Ok(times)
}

fn restrict(path: &std::path::Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
}
