//! The official conformance suite, and the server of this workspace that has the suite's fixtures.

use std::{
    collections::BTreeSet,
    fmt, fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::Command;

use super::{install, process::Process, program, stage::free_port};

/// The slowest run takes 11 s on an idle machine.
const SUITE_DEADLINE: Duration = Duration::from_secs(300);

/// The revisions whose requirements the suite has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revision {
    /// 2025-11-25: sessions.
    Legacy,
    /// 2026-07-28: no sessions.
    Modern,
}

impl Revision {
    /// As the suite and the protocol name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Legacy => "2025-11-25",
            Self::Modern => "2026-07-28",
        }
    }
}

/// Which revisions the conformance server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// All.
    Dual,
    /// Up to 2025-11-25.
    Legacy,
    /// 2026-07-28.
    Modern,
}

/// `conformance-server`.
#[derive(Debug)]
pub struct Server {
    _process: Process,
    port: u16,
}

impl Server {
    /// Starts one.
    pub async fn start(era: Era) -> Result<Self> {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), era).await
    }

    /// Starts one at another address of this host, where any name may lead to it.
    pub async fn start_at(address: IpAddr, era: Era) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(program("conformance-server")?);
        command.args(["--listen", &format!("{address}:{port}"), "--era"]).env_clear();
        if !address.is_loopback() {
            command.env("ALLOWED_HOSTS", "*");
        }
        command.arg(match era {
            Era::Dual => "dual",
            Era::Legacy => "legacy",
            Era::Modern => "modern",
        });
        let process = Process::spawn("the conformance server", command)?;
        process.wait_for_line("listening").await?;

        Ok(Self { _process: process, port })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `http://localhost:PORT/mcp`.
    pub fn url(&self) -> String {
        format!("http://localhost:{}/mcp", self.port)
    }
}

/// Has the suite judge the server at `url` by all that the revision requires.
pub async fn judge_server(url: &str, revision: Revision) -> Result<Report> {
    let arguments = ["server", "--url", url, "--requirements", revision.name()];
    run(&arguments.map(str::to_owned)).await
}

/// Has the suite judge a client in one scenario: it starts a server and runs the command with that server's URL.
pub async fn judge_client(command: &str, scenario: &str, revision: Revision) -> Result<Report> {
    let arguments = ["client", "--command", command, "--scenario", scenario];
    // The suite's own 30 s are short for a Python that shares two cores with other tests.
    let version = ["--spec-version", revision.name(), "--force", "--timeout", "120000"];
    run(&[&arguments[..], &version[..]]
        .concat()
        .iter()
        .map(|&part| part.into())
        .collect::<Vec<_>>())
    .await
}

async fn run(arguments: &[String]) -> Result<Report> {
    let (node, script) = (install::node().await?, install::conformance().await?);
    let results = TempDir::new()?;
    let mut command = Command::new(node);
    command.arg(script).args(arguments).arg("--output-dir").arg(results.path());
    let line = format!("{:?}", command.as_std());
    let output = tokio::time::timeout(SUITE_DEADLINE, command.kill_on_drop(true).output())
        .await
        .with_context(|| format!("{line} ran longer than {SUITE_DEADLINE:?}"))?
        .with_context(|| format!("{line} did not start"))?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );

    let checks = collect(results.path()).with_context(|| format!("{line} wrote\n{text}"))?;
    ensure!(!checks.is_empty(), "{line} checked nothing:\n{text}");
    Ok(Report { checks, agrees: output.status.success(), text })
}

/// What the suite found.
#[derive(Debug)]
pub struct Report {
    checks: Vec<Check>,
    agrees: bool,
    text: String,
}

/// One thing that the suite looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Where.
    pub scenario: String,
    /// What.
    pub id: String,
    /// With which result.
    pub status: Status,
    /// Why not, if it does not hold.
    pub message: String,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// It holds.
    Success,
    /// It does not.
    Failure,
    /// It does not, and should.
    Warning,
    /// It could not be looked at.
    Skipped,
    /// Nothing was asked.
    Info,
}

impl Report {
    /// The checks that do not hold, be it that they could not be made.
    pub fn faults(&self) -> impl Iterator<Item = &Check> {
        let holds = |check: &&Check| matches!(check.status, Status::Success | Status::Info);
        self.checks.iter().filter(move |check| !holds(check))
    }

    /// How many checks hold.
    pub fn successes(&self) -> usize {
        self.checks.iter().filter(|check| check.status == Status::Success).count()
    }

    /// How many scenarios were played.
    pub fn scenarios(&self) -> usize {
        self.checks.iter().map(|check| &check.scenario).collect::<BTreeSet<_>>().len()
    }

    /// Whether the suite's own verdict is that all is well.
    pub fn agrees(&self) -> bool {
        self.agrees
    }

    /// What the suite wrote, with all it knows of the failures.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Check {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} {}: {}: {}", self.status, self.scenario, self.id, self.message)
    }
}

/// What the suite writes of a check.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    id: String,
    status: Status,
    #[serde(default)]
    description: String,
    error_message: Option<String>,
}

/// Reads one directory a scenario.
fn collect(results: &Path) -> Result<Vec<Check>> {
    let mut places =
        fs::read_dir(results)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
    places.sort();

    let mut checks = Vec::new();
    for place in places {
        checks.extend(read(&place)?);
    }
    Ok(checks)
}

fn read(place: &Path) -> Result<Vec<Check>> {
    let name = place.file_name().unwrap_or_default().to_string_lossy();
    let scenario = scenario(&name).to_owned();
    let Ok(written) = fs::read(place.join("checks.json")) else {
        let message = "it ended before it had checked anything".to_owned();
        return Ok(vec![Check {
            id: scenario.clone(),
            scenario,
            status: Status::Failure,
            message,
        }]);
    };
    let written: Vec<Written> = serde_json::from_slice(&written)?;

    Ok(written
        .into_iter()
        .map(|check| Check {
            scenario: scenario.clone(),
            id: check.id,
            status: check.status,
            message: check.error_message.unwrap_or(check.description),
        })
        .collect())
}

/// The scenario of a directory, whose name is `[server-]SCENARIO-2026-01-01T00-00-00-000Z`.
fn scenario(directory: &str) -> &str {
    const TIME: usize = "-2026-01-01T00-00-00-000Z".len();

    let end = directory.len().saturating_sub(TIME);
    let name = directory.get(..end).unwrap_or(directory);
    name.strip_prefix("server-").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_tell_their_scenarios() {
        for (directory, name) in [
            ("server-ping-2026-11-29T21-34-22-656Z", "ping"),
            ("server-server-stateless-2026-11-29T21-34-22-656Z", "server-stateless"),
            ("sse-retry-2026-11-29T21-34-22-656Z", "sse-retry"),
        ] {
            assert_eq!(scenario(directory), name);
        }
    }

    #[test]
    fn what_does_not_hold_is_found() {
        let results = TempDir::new().unwrap();
        let place =
            |name: &str| results.path().join(format!("server-{name}-2026-11-29T21-34-22-656Z"));
        fs::create_dir(place("crashed")).unwrap();
        fs::create_dir(place("judged")).unwrap();
        let checks = r#"[{"id": "a", "status": "SUCCESS", "description": "good"},
            {"id": "b", "status": "WARNING", "description": "bad", "errorMessage": "because"}]"#;
        fs::write(place("judged").join("checks.json"), checks).unwrap();

        let checks = collect(results.path()).unwrap();
        let report = Report { checks, agrees: false, text: String::new() };

        let faults: Vec<String> = report.faults().map(ToString::to_string).collect();
        assert_eq!(
            faults,
            [
                "Failure crashed: crashed: it ended before it had checked anything",
                "Warning judged: b: because",
            ]
        );
        assert_eq!((report.scenarios(), report.successes()), (2, 1));
    }
}
