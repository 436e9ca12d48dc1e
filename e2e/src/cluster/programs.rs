//! Builds the programs of a cluster from the Go modules in `cluster/*`, which pin them, and keeps them.
//!
//! Never looks for one of these programs on the host: a test that passes here passes with the same programs elsewhere.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::digest::{self, SHA256};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::Command,
    time::Instant,
};

use super::{
    command::{self, SHORT},
    layout::Layout,
    progress::Progress,
};

/// A module: its folder in `cluster`, and what its programs need besides.
#[derive(Debug)]
struct Module {
    name: &'static str,
    tags: &'static str,
    /// The module whose version its programs are told, because they cannot know.
    versioned: Option<&'static str>,
    programs: &'static [(&'static str, &'static str)],
}

/// Each program and its package.
const MODULES: [Module; 4] = [
    Module {
        name: "control-plane",
        tags: "",
        versioned: Some("k8s.io/kubernetes"),
        programs: &[
            ("etcd", "go.etcd.io/etcd/server/v3"),
            ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
            ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
            ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
            ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
            ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
        ],
    },
    Module {
        name: "node",
        tags: "no_aufs,no_btrfs,no_devmapper,no_zfs",
        versioned: None,
        programs: &[
            ("containerd", "github.com/containerd/containerd/v2/cmd/containerd"),
            (
                "containerd-shim-runc-v2",
                "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
            ),
            ("ctr", "github.com/containerd/containerd/v2/cmd/ctr"),
            ("host-local", "github.com/containernetworking/plugins/plugins/ipam/host-local"),
            ("loopback", "github.com/containernetworking/plugins/plugins/main/loopback"),
            ("pause", "./pause"),
            ("probe", "./probe"),
            ("ptp", "github.com/containernetworking/plugins/plugins/main/ptp"),
        ],
    },
    Module {
        name: "addons",
        tags: "",
        versioned: None,
        programs: &[
            ("coredns", "github.com/coredns/coredns"),
            ("helm", "helm.sh/helm/v4/cmd/helm"),
        ],
    },
    Module {
        name: "ingress",
        tags: "",
        versioned: None,
        programs: &[("traefik", "github.com/traefik/traefik/v3/cmd/traefik")],
    },
];

/// All that the own cluster is made of.
pub(crate) fn all() -> Vec<&'static str> {
    MODULES.iter().flat_map(|module| module.programs).map(|(name, _)| *name).collect()
}

/// What talks to a cluster of somebody else.
pub(crate) const CLIENTS: [&str; 2] = ["kubectl", "helm"];

/// Makes sure that these programs are there, and says which they are: other pins, another text.
pub(crate) async fn build(layout: &Layout, names: &[&str], progress: &Progress) -> Result<String> {
    let mut pins = String::new();
    for module in &MODULES {
        let wanted: Vec<_> =
            module.programs.iter().filter(|(name, _)| names.contains(name)).collect();
        if wanted.is_empty() {
            continue;
        }
        let pin = module.pin()?;
        let stamp = |name: &str| layout.programs().join(".stamps").join(name);
        let missing: Vec<_> = wanted
            .into_iter()
            .filter(|(name, _)| {
                let built = fs::read_to_string(stamp(name)).is_ok_and(|built| built == pin);
                !built || !layout.program(name).is_file()
            })
            .copied()
            .collect();
        if !missing.is_empty() {
            module.build(layout, &missing, progress).await?;
            fs::create_dir_all(layout.programs().join(".stamps"))?;
            for (name, _) in missing {
                fs::write(stamp(name), &pin)?;
            }
        }
        writeln!(pins, "{} {pin}", module.name)?;
    }
    Ok(pins)
}

/// The version of a dependency that a module pins.
fn version(module: &str, dependency: &str) -> Result<String> {
    let path = folder(module).join("go.mod");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    required(&text, dependency).with_context(|| format!("{} has no {dependency}", path.display()))
}

impl Module {
    /// Changes when anything changes that the programs are built from.
    fn pin(&self) -> Result<String> {
        let mut digest = digest::Context::new(&SHA256);
        digest.update(self.arguments()?.join(" ").as_bytes());
        let mut files = files(&folder(self.name))?;
        files.sort();
        for file in files {
            digest.update(&fs::read(&file).with_context(|| file.display().to_string())?);
        }
        Ok(hex(digest.finish().as_ref()))
    }

    fn arguments(&self) -> Result<Vec<String>> {
        let mut linker = "-s -w".to_owned();
        if let Some(dependency) = self.versioned {
            let version = version(self.name, dependency)?;
            let mut numbers = version.trim_start_matches('v').split('.');
            let (major, minor) = (numbers.next().unwrap_or("0"), numbers.next().unwrap_or("0"));
            for (variable, value) in
                [("gitVersion", version.as_str()), ("gitMajor", major), ("gitMinor", minor)]
            {
                write!(linker, " -X k8s.io/component-base/version.{variable}={value}")?;
            }
        }
        // The commit of this checkout says nothing about these programs, and would have them linked anew.
        Ok(vec![
            "-trimpath".into(),
            "-buildvcs=false".into(),
            format!("-ldflags={linker}"),
            format!("-tags={}", self.tags),
        ])
    }

    async fn build(
        &self,
        layout: &Layout,
        programs: &[(&str, &str)],
        progress: &Progress,
    ) -> Result<()> {
        let names: Vec<_> = programs.iter().map(|(name, _)| *name).collect();
        progress.say(&format!("building {}", names.join(", ")));
        let draft = layout.programs().join(format!(".{}", self.name));
        let _ = fs::remove_dir_all(&draft);
        fs::create_dir_all(&draft)?;

        let mut go = Command::new("go");
        go.args(["build", "-v"]).args(self.arguments()?);
        // The slash makes it a directory, also for one program.
        go.arg("-o").arg(format!("{}/", draft.display()));
        go.args(programs.iter().map(|(_, package)| package));
        go.env("CGO_ENABLED", "0").current_dir(folder(self.name));
        compile(go, self.name, progress).await?;

        // A program that runs cannot be written over, but another file can take its name.
        for (name, package) in programs {
            fs::rename(draft.join(built_as(package)), layout.program(name))
                .with_context(|| format!("{package} made no program"))?;
        }
        Ok(fs::remove_dir_all(draft)?)
    }
}

/// Runs the compiler, which names each package that it has compiled.
async fn compile(mut go: Command, module: &str, progress: &Progress) -> Result<()> {
    require_go().await?;
    go.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = go.spawn().context("the Go compiler did not start")?;
    let mut said = child.stderr.take().map(watch).context("the compiler's errors are piped")?;
    let end = Instant::now() + COMPILATION;
    let mut compiled = 0_u32;
    let mut errors = Vec::new();
    let mut tick = tokio::time::interval(TICK);
    tick.tick().await;
    loop {
        tokio::select! {
            line = said.next_line() => match line? {
                Some(line) if is_package(&line) => compiled += 1,
                Some(line) => errors.push(line),
                None => break,
            },
            _ = tick.tick() => progress.say(&format!("  {module}: {compiled} packages compiled")),
            () = tokio::time::sleep_until(end) => bail!("{module} was not built in {COMPILATION:?}"),
        }
    }

    let status = child.wait().await?;
    let last = errors.len().saturating_sub(40);
    ensure!(status.success(), "go build of {module} failed\n{}", errors[last..].join("\n"));
    Ok(())
}

async fn require_go() -> Result<()> {
    let mut go = Command::new("go");
    go.arg("version").current_dir("/");
    let wanted =
        "the cluster's programs are built with Go 1.26 or newer, and `go` must be on the PATH";
    command::run(go, SHORT).await.context(wanted).map(drop)
}

fn watch<R: AsyncRead + Unpin>(output: R) -> tokio::io::Lines<BufReader<R>> {
    BufReader::new(output).lines()
}

/// Packages are alone on their line; downloads, headings and errors are not.
fn is_package(line: &str) -> bool {
    !line.is_empty() && !line.contains([' ', ':', '\t', '#'])
}

/// The file `go build` makes of a package: its last element that is not a major version.
fn built_as(package: &str) -> &str {
    let is_version = |element: &&str| {
        element
            .strip_prefix('v')
            .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    package.rsplit('/').find(|element| !is_version(element)).unwrap_or(package)
}

/// The version that a go.mod asks of a module.
fn required(go_mod: &str, dependency: &str) -> Option<String> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(dependency)).then(|| words.next())?.map(str::to_owned)
    })
}

fn folder(module: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster").join(module)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else {
            found.push(path);
        }
    }
    Ok(found)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The largest module takes 4 min 44 s on two cores that have nothing else to do.
const COMPILATION: Duration = Duration::from_secs(45 * 60);

const TICK: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_is_built_under_the_last_name_of_its_package() {
        for (package, file) in [
            ("go.etcd.io/etcd/server/v3", "server"),
            ("k8s.io/kubernetes/cmd/kubelet", "kubelet"),
            (
                "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
                "containerd-shim-runc-v2",
            ),
            ("./pause", "pause"),
        ] {
            assert_eq!(built_as(package), file, "{package}");
        }
    }

    #[test]
    fn version_is_read_from_either_form_of_require() {
        let text = "module m\nrequire a.b/c v1.2.3\nrequire (\n\td.e/f v4.5.6 // indirect\n)\n";

        assert_eq!(required(text, "a.b/c").as_deref(), Some("v1.2.3"));
        assert_eq!(required(text, "d.e/f").as_deref(), Some("v4.5.6"));
        assert_eq!(required(text, "d.e"), None);
    }

    #[test]
    fn packages_are_told_from_messages() {
        for (line, package) in [
            ("k8s.io/api/core/v1", true),
            ("fmt", true),
            ("go: downloading a.b/c v1.0.0", false),
            ("# k8s.io/api/core/v1", false),
            ("x.go:3:4: undefined", false),
        ] {
            assert_eq!(is_package(line), package, "{line}");
        }
    }

    #[test]
    fn every_program_is_a_tool_of_its_module() {
        for module in &MODULES {
            let text = fs::read_to_string(folder(module.name).join("go.mod")).unwrap();
            for (name, package) in module.programs {
                let local = package.starts_with("./") && folder(module.name).join(package).is_dir();
                assert!(
                    local || text.contains(&format!("{package}\n")),
                    "{name} in {}",
                    module.name
                );
            }
        }
    }
}
