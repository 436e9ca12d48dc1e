//! Processes that outlive us. Each is known by its id and its start time, so that a reused id is never mistaken for it.
//!
//! Never signals a process by name. What is signalled is held by a pidfd first and looked at after, so that nothing
//! can take its place in between.

use std::{
    ffi::OsString,
    fmt,
    fs::{self, File, OpenOptions},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    str::FromStr,
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::command;

/// A killed process that waits for a disk is gone in less.
const DEATH: Duration = Duration::from_secs(20);

/// A process, for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Daemon {
    pid: i32,
    /// Clock ticks from boot to its start.
    started: u64,
}

/// What to start, and where its output goes.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// The network namespace it runs in, by its name, if not in ours.
    pub(crate) network: Option<String>,
    pub(crate) log: PathBuf,
}

impl Start {
    /// Starts it in a session of its own, away from our terminal and its signals, and records it.
    pub(crate) fn recorded_in(self, record: &Path) -> Result<Daemon> {
        let log = append(&self.log)?;
        // Each becomes the next, so the child's id is the program's.
        let mut command = Command::new("setsid");
        if let Some(network) = self.network {
            command.arg("nsenter").arg(format!("--net=/run/netns/{network}"));
        }
        let child = command
            .arg(&self.program)
            .args(&self.arguments)
            .envs(self.environment)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("{} did not start", self.program.display()))?;
        let pid = child.id().context("a child that was not waited for has an id")?;
        let pid = i32::try_from(pid).context("the kernel's ids are positive")?;
        let daemon =
            Daemon::of(pid).with_context(|| format!("{} is gone", self.program.display()))?;

        daemon.record(record)?;
        Ok(daemon)
    }
}

impl Daemon {
    /// The process that has this id now.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, started: Stat::read(pid)?.started })
    }

    /// Remembers it there.
    pub(crate) fn record(self, record: &Path) -> Result<()> {
        if let Some(directory) = record.parent() {
            fs::create_dir_all(directory)?;
        }
        Ok(fs::write(record, serde_json::to_string(&self)?)?)
    }

    /// The process that was recorded there, if it still runs.
    pub(crate) fn recorded(record: &Path) -> Option<Self> {
        let daemon: Self = serde_json::from_str(&fs::read_to_string(record).ok()?).ok()?;
        daemon.alive().then_some(daemon)
    }

    /// This process.
    pub(crate) fn ourselves() -> Result<Self> {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        Self::of(pid).context("this process is not in /proc")
    }

    /// All processes that now run one of these programs of this directory.
    pub(crate) fn running(directory: &Path, programs: &[&str]) -> Result<Vec<Self>> {
        let ours = |executable: &Path| {
            // The kernel says so when the file was replaced since.
            let name = executable.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let name = name.strip_suffix(" (deleted)").unwrap_or(name);
            executable.parent() == Some(directory) && programs.contains(&name)
        };
        Ok(Self::all()?
            .into_iter()
            .filter(|one| one.executable().is_some_and(|e| ours(&e)))
            .collect())
    }

    /// Every process there is.
    pub(crate) fn all() -> Result<Vec<Self>> {
        let names =
            fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter_map(|name| Self::of(name.parse().ok()?)).collect())
    }

    pub(crate) fn pid(self) -> i32 {
        self.pid
    }

    pub(crate) fn executable(self) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/exe", self.pid)).ok()
    }

    /// What it keeps in memory, in KiB.
    pub(crate) fn resident_kib(self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// How many files it has open.
    pub(crate) fn open_files(self) -> Option<usize> {
        Some(fs::read_dir(format!("/proc/{}/fd", self.pid)).ok()?.count())
    }

    /// Whether it still runs. One that ended and nobody has waited for does not, but it does as long as one of its
    /// threads lives: that still holds its files and its ports.
    pub(crate) fn alive(self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.started == self.started && stat.runs())
    }

    /// Whether it is stopped, as after SIGSTOP.
    pub(crate) fn stopped(self) -> bool {
        Stat::read(self.pid).is_some_and(|stat| stat.started == self.started && stat.state == 'T')
    }

    /// Signals it, or does nothing when it is gone.
    pub(crate) fn signal(self, signal: Signal) -> Result<()> {
        if let Some(process) = self.hold() {
            match rustix::process::pidfd_send_signal(process, signal) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot signal {}", self.pid));
                }
            }
        }
        Ok(())
    }

    /// Ends it at once and waits until it is gone.
    pub(crate) async fn kill(self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.gone(DEATH).await
    }

    async fn gone(self, patience: Duration) -> Result<()> {
        let gone = || async { Ok(!self.alive()) };
        command::until(&format!("the end of process {}", self.pid), patience, gone).await
    }

    fn hold(self) -> Option<OwnedFd> {
        let held =
            rustix::process::pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        self.alive().then_some(held)
    }
}

/// `ID-START`, as a label can hold it.
impl fmt::Display for Daemon {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.pid, self.started)
    }
}

impl FromStr for Daemon {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (pid, started) = text.split_once('-').context("no start time")?;
        Ok(Self { pid: pid.parse()?, started: started.parse()? })
    }
}

/// Of `/proc/ID/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    /// Of the thread it began with, which can end before the others.
    state: char,
    threads: u32,
    started: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name, in parentheses, may contain anything, also parentheses.
    fn parse(line: &str) -> Option<Self> {
        let (_, fields) = line.rsplit_once(") ")?;
        let mut fields = fields.split(' ');
        let state = fields.next()?.chars().next()?;
        // The state is field 3, the threads are field 20, the start time is field 22 (proc_pid_stat(5)).
        let threads = fields.nth(16)?.parse().ok()?;
        Some(Self { state, threads, started: fields.nth(1)?.parse().ok()? })
    }

    fn runs(&self) -> bool {
        !matches!(self.state, 'Z' | 'X') || self.threads > 1
    }
}

fn append(log: &Path) -> Result<File> {
    if let Some(directory) = log.parent() {
        fs::create_dir_all(directory)?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| log.display().to_string())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn sleeper(directory: &TempDir) -> Daemon {
        let start = Start {
            program: "/bin/sleep".into(),
            arguments: vec!["600".into()],
            environment: Vec::new(),
            network: None,
            log: directory.path().join("log"),
        };
        start.recorded_in(&directory.path().join("record")).unwrap()
    }

    #[test]
    fn stat_survives_any_name() {
        let line = "42 (a) R (b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2";

        assert_eq!(Stat::parse(line), Some(Stat { state: 'S', threads: 1, started: 98_765 }));
        assert_eq!(Stat::parse("42 (sh) S 1"), None);
    }

    #[test]
    fn process_survives_being_written_down() {
        let ourselves = Daemon::ourselves().unwrap();

        assert!(ourselves.alive());
        assert_eq!(ourselves.to_string().parse::<Daemon>().unwrap(), ourselves);
        assert!("true".parse::<Daemon>().is_err());
    }

    #[tokio::test]
    async fn recorded_process_is_found_stopped_and_ended() {
        let directory = TempDir::new().unwrap();
        let daemon = sleeper(&directory);
        let record = directory.path().join("record");

        assert_eq!(Daemon::recorded(&record), Some(daemon));
        daemon.signal(Signal::STOP).unwrap();
        command::until("the stop", DEATH, || async { Ok(daemon.stopped()) }).await.unwrap();
        daemon.kill().await.unwrap();

        assert!(!daemon.alive());
        assert_eq!(Daemon::recorded(&record), None);
    }

    #[tokio::test]
    async fn process_lives_as_long_as_one_of_its_threads() {
        let directory = TempDir::new().unwrap();
        let script = "import ctypes, threading, time\n\
                      threading.Thread(target=time.sleep, args=(600,)).start()\n\
                      ctypes.CDLL(None).pthread_exit(None)";
        let start = Start {
            program: "python3".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: Vec::new(),
            network: None,
            log: directory.path().join("log"),
        };
        let daemon = start.recorded_in(&directory.path().join("record")).unwrap();
        let first_thread_ended = || async { Ok(Stat::read(daemon.pid).unwrap().state == 'Z') };
        command::until("the end of a thread", DEATH, first_thread_ended).await.unwrap();

        assert!(daemon.alive());
        daemon.kill().await.unwrap();

        assert!(!daemon.alive());
    }

    #[tokio::test]
    async fn reused_id_is_not_ours() {
        let directory = TempDir::new().unwrap();
        let daemon = sleeper(&directory);
        let earlier = Daemon { started: daemon.started - 1, ..daemon };

        assert!(!earlier.alive());
        earlier.kill().await.unwrap();

        assert!(daemon.alive(), "a process that only has the same id was ended");
        daemon.kill().await.unwrap();
    }

    #[tokio::test]
    async fn running_finds_by_directory_and_name() {
        let directory = TempDir::new().unwrap();
        let daemon = sleeper(&directory);
        // `setsid` becomes the program a moment after it was started.
        let runs = || async { Ok(daemon.executable().is_some_and(|e| e.ends_with("sleep"))) };
        command::until("sleep", DEATH, runs).await.unwrap();
        let executable = daemon.executable().unwrap();
        let place = executable.parent().unwrap();

        let found = Daemon::running(place, &["sleep"]).unwrap();
        let others = Daemon::running(place, &["setsid"]).unwrap();
        let elsewhere = Daemon::running(directory.path(), &["sleep"]).unwrap();
        daemon.kill().await.unwrap();

        assert!(found.contains(&daemon));
        assert!(!others.contains(&daemon) && elsewhere.is_empty());
    }
}
