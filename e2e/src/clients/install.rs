//! Installs the clients, pinned, under `target/clients`, once for all test binaries.
//!
//! A stamp beside each client holds the pins it was installed from; other pins replace it. A tool that is missing
//! here is a failure that names it: a test with real clients never passes because there was no client.

use std::{
    env::consts,
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::process::Command;

/// Claude Code is 370 MB unpacked: ten minutes are a line of 5 Mbit/s.
const INSTALL_DEADLINE: Duration = Duration::from_secs(600);

const NPMRC: &str = include_str!("../../clients/.npmrc");

/// A `package.json` and the lock that pins all of it.
struct Packages {
    package: &'static str,
    lock: &'static str,
}

const CLAUDE: Packages = Packages {
    package: include_str!("../../clients/package.json"),
    lock: include_str!("../../clients/package-lock.json"),
};

const NODE: Packages = Packages {
    package: include_str!("../../clients/node/package.json"),
    lock: include_str!("../../clients/node/package-lock.json"),
};

/// An optional dependency of it, `napi-windows-process-start-time`, is in no registry, and `npm ci` insists on having
/// it locked: the `overrides` put one in its place that is not for Linux either.
const JAVASCRIPT: Packages = Packages {
    package: include_str!("../../clients/javascript/package.json"),
    lock: include_str!("../../clients/javascript/package-lock.json"),
};

const CONFORMANCE: Packages = Packages {
    package: include_str!("../../clients/conformance/package.json"),
    lock: include_str!("../../clients/conformance/package-lock.json"),
};

/// A line of the Python SDK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdk {
    /// `mcp` 1.30, which knows the revisions with `initialize`.
    V1,
    /// `mcp` 2.3, which asks for 2026-07-28 first.
    V2,
}

impl Sdk {
    fn name(self) -> &'static str {
        match self {
            Self::V1 => "python-mcp-1",
            Self::V2 => "python-mcp-2",
        }
    }

    fn requirements(self) -> &'static str {
        match self {
            Self::V1 => include_str!("../../clients/requirements-1.txt"),
            Self::V2 => include_str!("../../clients/requirements-2.txt"),
        }
    }
}

/// The Claude Code binary.
pub async fn claude() -> Result<PathBuf> {
    let binary = format!("node_modules/@anthropic-ai/claude-code-linux-{}/claude", architecture()?);
    let place = npm("claude-code", &CLAUDE, &binary).await?;

    Ok(place.join(binary))
}

/// Node.js: a newer one than systems have.
pub async fn node() -> Result<PathBuf> {
    let binary = format!("node_modules/node-linux-{}/bin/node", architecture()?);
    let place = npm("node", &NODE, &binary).await?;

    Ok(place.join(binary))
}

/// The directory in whose `node_modules` the clients and servers in JavaScript are.
pub async fn javascript() -> Result<PathBuf> {
    npm("javascript", &JAVASCRIPT, "node_modules/mcp-remote/package.json").await
}

/// The script of the conformance suite, which [`node`] runs.
pub async fn conformance() -> Result<PathBuf> {
    let script = "node_modules/@modelcontextprotocol/conformance/dist/index.js";
    let place = npm("conformance", &CONFORMANCE, script).await?;

    Ok(place.join(script))
}

/// What npm packages call this machine.
fn architecture() -> Result<&'static str> {
    match consts::ARCH {
        "x86_64" => Ok("x64"),
        "aarch64" => Ok("arm64"),
        other => bail!("these clients are not made for {other}: test on x86_64 or aarch64"),
    }
}

/// A directory with these packages, of which `product` is one file.
async fn npm(name: &str, packages: &Packages, product: &str) -> Result<PathBuf> {
    let place = Place::lock(name).await?;
    let product = place.directory.join(product);
    let pins = format!("{}\n{}", architecture()?, packages.lock);
    if place.holds(&pins, &product) {
        return Ok(place.directory.clone());
    }

    place.clear()?;
    for (name, content) in [
        ("package.json", packages.package),
        ("package-lock.json", packages.lock),
        (".npmrc", NPMRC),
    ] {
        fs::write(place.directory.join(name), content)?;
    }
    let mut npm = Command::new("npm");
    npm.arg("ci").current_dir(&place.directory);
    run(npm, "npm, which comes with Node.js (Debian: `apt-get install npm`)").await?;
    ensure!(product.is_file(), "npm installed no {}", product.display());

    place.stamp(&pins)?;
    Ok(place.directory.clone())
}

/// A Python interpreter that has this line of the SDK.
pub async fn python(sdk: Sdk) -> Result<PathBuf> {
    let place = Place::lock(sdk.name()).await?;
    let interpreter = place.directory.join("venv/bin/python");
    if place.holds(sdk.requirements(), &interpreter) {
        return Ok(interpreter);
    }

    place.clear()?;
    let requirements = place.directory.join("requirements.txt");
    fs::write(&requirements, sdk.requirements())?;
    let wanted =
        "Python 3.10 or newer with its venv module (Debian: `apt-get install python3-venv`)";
    let mut version = Command::new("python3");
    version.args(["-c", "import sys; assert sys.version_info >= (3, 10), sys.version"]);
    run(version, wanted).await?;
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(place.directory.join("venv"));
    run(venv, wanted).await?;
    let mut pip = Command::new(&interpreter);
    pip.args(["-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]);
    pip.arg("--requirement").arg(&requirements);
    run(pip, wanted).await?;

    place.stamp(sdk.requirements())?;
    Ok(interpreter)
}

/// Where one client is installed, while no other test looks at it.
struct Place {
    directory: PathBuf,
    _lock: File,
}

impl Place {
    async fn lock(name: &str) -> Result<Self> {
        let clients = super::target_directory()?.join("clients");
        fs::create_dir_all(&clients)?;
        let file = File::create(clients.join(format!("{name}.lock")))?;
        let lock = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await??;

        Ok(Self { directory: clients.join(name), _lock: lock })
    }

    /// Whether what these pins ask for is here. An interpreter whose system Python went away is not.
    fn holds(&self, pins: &str, product: &Path) -> bool {
        product.is_file() && fs::read_to_string(self.stamp_file()).is_ok_and(|stamp| stamp == pins)
    }

    fn clear(&self) -> Result<()> {
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        fs::create_dir_all(&self.directory)?;
        Ok(())
    }

    fn stamp(&self, pins: &str) -> Result<()> {
        Ok(fs::write(self.stamp_file(), pins)?)
    }

    fn stamp_file(&self) -> PathBuf {
        self.directory.join("stamp")
    }
}

/// Runs a step of an installation to its end; `wanted` names what to install when it fails.
async fn run(mut command: Command, wanted: &str) -> Result<()> {
    let line = format!("{:?}", command.as_std());
    let output = tokio::time::timeout(INSTALL_DEADLINE, command.kill_on_drop(true).output())
        .await
        .with_context(|| format!("{line} ran longer than {INSTALL_DEADLINE:?}"))?
        .with_context(|| {
            format!("{line} did not start: the tests with real clients need {wanted}")
        })?;

    ensure!(
        output.status.success(),
        "{line} failed: the tests with real clients need {wanted} and a package registry\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    Ok(())
}
