//! The programs of this workspace that become images, built by cargo and put beside the libraries that they load.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use serde_json::json;
use tokio::process::Command;

use super::{
    super::{
        command::{self, SHORT},
        layout::Layout,
        progress::Progress,
    },
    Image, USER, assemble,
    oci::{Layer, LayerBuilder},
};

/// A program of this workspace that has an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Program {
    /// What clients talk to.
    #[value(name = "fairway-gateway")]
    Gateway,
    /// What watches the resources.
    #[value(name = "fairway-operator")]
    Operator,
    /// A few tools to try things with.
    #[value(name = "server-everything")]
    Everything,
    /// The files of one folder.
    #[value(name = "server-filesystem")]
    Filesystem,
    /// A database.
    #[value(name = "server-sql")]
    Sql,
}

/// How programs are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Optimised, and built in half the time.
    Image,
    /// As they are released: for measurements.
    Release,
}

impl Program {
    /// Every program.
    pub const ALL: [Self; 5] =
        [Self::Gateway, Self::Operator, Self::Everything, Self::Filesystem, Self::Sql];

    /// Those whose package is in this workspace.
    pub fn here() -> Vec<Self> {
        let here = |program: &Self| workspace().join(program.folder()).join("Cargo.toml").is_file();
        Self::ALL.into_iter().filter(here).collect()
    }

    /// The binary, and the last part of the image's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "fairway-gateway",
            Self::Operator => "fairway-operator",
            Self::Everything => "server-everything",
            Self::Filesystem => "server-filesystem",
            Self::Sql => "server-sql",
        }
    }

    /// What the chart's values call it.
    pub fn component(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Operator => "operator",
            Self::Everything => "demo.everything",
            Self::Filesystem => "demo.filesystem",
            Self::Sql => "demo.sql",
        }
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Operator => "operator",
            Self::Everything => "servers/everything",
            Self::Filesystem => "servers/filesystem",
            Self::Sql => "servers/sql",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Operator => "operator",
            Self::Everything | Self::Filesystem | Self::Sql => self.name(),
        }
    }
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Release => "release",
        }
    }
}

/// Builds the programs and assembles their images, in the order in which they are given.
pub(crate) async fn build(
    layout: &Layout,
    programs: &[Program],
    profile: Profile,
    progress: &Progress,
) -> Result<Vec<Image>> {
    let binaries = compile(programs, profile, progress).await?;
    let mut libraries = BTreeSet::new();
    for binary in &binaries {
        libraries.extend(loaded(binary).await?);
    }
    // The same for all, so that a node keeps it once.
    let base = base(&libraries)?;
    let mut images = Vec::new();
    for (program, binary) in programs.iter().zip(&binaries) {
        images.push(image(layout, &base, *program, binary)?);
    }
    Ok(images)
}

fn image(layout: &Layout, base: &Layer, program: Program, binary: &Path) -> Result<Image> {
    let name = program.name();
    let path = format!("/usr/bin/{name}");
    let content = fs::read(binary).with_context(|| binary.display().to_string())?;
    let top = LayerBuilder::new().file(&path, 0o755, &content)?.build()?;
    let settings = json!({
        "User": USER,
        "Env": ["PATH=/usr/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"],
        "Entrypoint": [path],
        "WorkingDir": "/",
    });
    let repository = format!("docker.io/fairway/{name}");

    assemble(layout, &[base, &top], &settings, &format!("{repository}:e2e"), |content| {
        format!("{repository}:{content}")
    })
}

/// Cargo keeps what it has built: when nothing changed this takes a second.
async fn compile(
    programs: &[Program],
    profile: Profile,
    progress: &Progress,
) -> Result<Vec<PathBuf>> {
    let names: Vec<_> = programs.iter().map(|program| program.name()).collect();
    progress.say(&format!("building {} ({})", names.join(", "), profile.name()));
    let target = crate::clients::target_directory()?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--locked", "--profile", profile.name()]);
    command.arg("--target-dir").arg(&target);
    // A library gets the features of all packages that are chosen: with the same choice each time a program stays the
    // same, whichever others are built with it.
    for program in Program::here() {
        command.args(["--package", program.package()]);
    }
    for program in programs {
        command.args(["--bin", program.name()]);
    }
    command.current_dir(workspace());
    command::run(command, COMPILATION).await?;

    let directory = target.join(profile.name());
    Ok(programs.iter().map(|program| directory.join(program.name())).collect())
}

/// The loader and the libraries that it would load, at the paths where it looks for them.
async fn loaded(binary: &Path) -> Result<Vec<String>> {
    let mut ldd = Command::new("ldd");
    ldd.arg(binary).env("LC_ALL", "C");
    let printed = command::run(ldd, SHORT).await?;
    libraries(&printed).with_context(|| format!("ldd of {}", binary.display()))
}

/// `NAME => PATH (ADDRESS)` or, for the loader, `PATH (ADDRESS)`. The kernel's own has no path.
fn libraries(printed: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for line in printed.lines().map(str::trim) {
        let path = match line.split_once(" => ") {
            Some((name, "not found")) => bail!("{name} is not on this host"),
            Some((_, path)) => path,
            None => line,
        };
        let path = path.split(" (").next().unwrap_or_default();
        if path.starts_with('/') {
            found.push(path.to_owned());
        }
    }
    Ok(found)
}

/// What every program needs around it.
fn base(libraries: &BTreeSet<String>) -> Result<Layer> {
    let mut layer = LayerBuilder::new()
        .directory("/tmp", 0o1777)?
        .file("/etc/passwd", 0o644, b"root:x:0:0:root:/:/\nnonroot:x:65532:65532:nonroot:/:/\n")?
        .file("/etc/group", 0o644, b"root:x:0:\nnonroot:x:65532:\n")?
        .file("/etc/nsswitch.conf", 0o644, b"hosts: files dns\n")?
        .file("/etc/ssl/certs/ca-certificates.crt", 0o644, &authorities()?)?;
    for library in libraries {
        let content = fs::read(library).with_context(|| library.clone())?;
        layer = layer.file(library, 0o755, &content)?;
    }
    layer.build()
}

/// Whom the host trusts.
fn authorities() -> Result<Vec<u8>> {
    let places = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];
    places
        .into_iter()
        .find_map(|place| fs::read(place).ok())
        .context("this host has no CA certificates (Debian: `apt-get install ca-certificates`)")
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A cold build of everything on two busy cores.
const COMPILATION: Duration = Duration::from_secs(45 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_ldd_prints() {
        let printed = "\
	linux-vdso.so.1 (0x00007ffd)
	libgcc_s.so.1 => /lib/x86_64-linux-gnu/libgcc_s.so.1 (0x00007f1)
	libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f2)
	/lib64/ld-linux-x86-64.so.2 (0x00007f3)
";

        assert_eq!(
            libraries(printed).unwrap(),
            [
                "/lib/x86_64-linux-gnu/libgcc_s.so.1",
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib64/ld-linux-x86-64.so.2"
            ]
        );
        assert!(libraries("\tstatically linked\n").unwrap().is_empty());
        assert!(libraries("\tlibx.so => not found\n").is_err());
    }
}
