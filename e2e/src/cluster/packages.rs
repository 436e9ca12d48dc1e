//! Programs that come with the operating system. Installs what is missing where that is possible, else names it.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, ensure};
use tokio::process::Command;

use super::{command, progress::Progress};

/// What a node needs of its host: each program and Debian's package of it.
pub(crate) const NODE: [(&str, &str); 6] = [
    ("ip", "iproute2"),
    ("mount", "mount"),
    ("nft", "nftables"),
    ("nsenter", "util-linux"),
    ("runc", "runc"),
    ("setsid", "util-linux"),
];

/// Makes sure that these programs are there.
pub(crate) async fn install(wanted: &[(&str, &str)], progress: &Progress) -> Result<()> {
    let missing = missing(wanted);
    if missing.is_empty() {
        return Ok(());
    }

    let names = missing.join(" ");
    let apt = find("apt-get").is_some();
    ensure!(
        apt && rustix::process::geteuid().is_root(),
        "this host lacks the packages {names}: install them (Debian: `apt-get install {names}`)"
    );
    progress.say(&format!("installing {names}"));
    let mut update = apt_get();
    update.args(["update", "-qq"]);
    command::run(update, DOWNLOAD).await?;
    let mut install = apt_get();
    install.args(["install", "-qq", "--yes", "--no-install-recommends"]).args(&missing);
    command::run(install, DOWNLOAD).await?;

    let still = self::missing(wanted);
    ensure!(still.is_empty(), "the packages {} brought no program of that name", still.join(" "));
    Ok(())
}

/// Where the host keeps a program. Administrators' programs are off the PATH of others.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    search_path().into_iter().map(|place| place.join(program)).find(|path| path.is_file())
}

/// The PATH, with the places where Debian keeps what administrators use.
pub(crate) fn search_path() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(administrators).filter(|place| place.is_absolute()).collect()
}

/// Where Debian keeps the programs of the newest PostgreSQL that is installed, off the PATH.
pub(crate) fn postgres() -> Option<PathBuf> {
    let versions = Path::new("/usr/lib/postgresql").read_dir().ok()?;
    let programs = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    programs.filter(|programs| programs.join("initdb").is_file()).max()
}

fn missing<'a>(wanted: &[(&str, &'a str)]) -> Vec<&'a str> {
    wanted
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|(_, package)| *package)
        .collect()
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Tens of megabytes over a slow line.
pub(crate) const DOWNLOAD: Duration = Duration::from_secs(600);
