//! Child processes that never outlive the benchmark.
//!
//! Only processes started here are ended, each by its own id: politely when its handle is dropped,
//! and by the kernel should the benchmark itself be killed.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rustix::process::{Pid, Resource, Rlimit, Signal};
use serde::de::DeserializeOwned;

/// A child process, ended when dropped.
pub(super) struct Process {
    child: Child,
    log: Option<PathBuf>,
}

/// A foreign program for [`exec`] to become.
#[derive(Debug, Args)]
pub(super) struct Program {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
    command: Vec<OsString>,
}

impl Process {
    /// Starts a piece of this binary that prints the address it listens on.
    pub(super) fn listener<S: Into<OsString>>(
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<(Self, SocketAddr)> {
        let mut child = itself(arguments)?.stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take();
        let process = Self { child, log: None };

        let mut line = String::new();
        BufReader::new(stdout.context("the child's output is piped")?).read_line(&mut line)?;
        let address = line.trim().parse().context("the child did not say where it listens")?;
        Ok((process, address))
    }

    /// Starts another program, its output going to `log`.
    pub(super) fn program<S: Into<OsString>>(
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
        log: &Path,
    ) -> Result<Self> {
        let wrapped = ["exec".into(), "--".into(), program.into()];
        let output = File::create(log)?;
        let child = itself(wrapped.into_iter().chain(arguments.into_iter().map(Into::into)))?
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child, log: Some(log.to_owned()) })
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The end of what the process wrote to its log, for an error message; empty without a log.
    pub(super) fn last_words(&self) -> String {
        let Some(text) = self.log.as_ref().and_then(|log| fs::read_to_string(log).ok()) else {
            return String::new();
        };
        let lines = text.lines().collect::<Vec<_>>();
        let tail = &lines[lines.len().saturating_sub(LAST_LINES)..];
        format!("; its log ends with:\n{}", tail.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Politely first: nginx's workers are ended by its master, which SIGKILL would leave behind.
        if let Ok(None) = self.child.try_wait() {
            let _ = rustix::process::kill_process(Pid::from_child(&self.child), Signal::TERM);
        }
        for _ in 0..POLITE_POLLS {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(POLL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a piece of this binary to its end and returns the report it printed.
pub(super) fn report<T: DeserializeOwned, S: Into<OsString>>(
    arguments: impl IntoIterator<Item = S>,
) -> Result<T> {
    let mut child = itself(arguments)?.stdout(Stdio::piped()).spawn()?;
    let stdout = child.stdout.take();
    let mut process = Process { child, log: None };

    let mut text = String::new();
    stdout.context("the child's output is piped")?.read_to_string(&mut text)?;
    let status = process.child.wait()?;
    ensure!(status.success(), "the load generator failed: {status}");
    serde_json::from_str(&text).context("the child printed no report")
}

/// Becomes another program that ends with the benchmark and may open as many files as allowed.
pub(super) fn exec(program: &Program) -> Result<()> {
    raise_file_limit()?;
    let Some((name, arguments)) = program.command.split_first() else {
        bail!("no program to run");
    };
    Err(Command::new(name).args(arguments).exec())
        .with_context(|| format!("cannot run {}", name.display()))
}

/// Asks the kernel to end this process when the thread that started it ends.
pub(super) fn die_with_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?)
}

/// Raises the soft limit on open files to the hard one and returns it.
pub(super) fn raise_file_limit() -> Result<u64> {
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    let limit = Rlimit { current: maximum, maximum };
    rustix::process::setrlimit(Resource::Nofile, limit).context("cannot raise the file limit")?;
    Ok(maximum.unwrap_or(u64::MAX))
}

/// A loopback port that was free a moment ago, for programs that cannot choose their own.
pub(super) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn itself<S: Into<OsString>>(arguments: impl IntoIterator<Item = S>) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("cannot find this binary")?);
    command.args(arguments.into_iter().map(Into::into)).stdin(Stdio::null());
    Ok(command)
}

const LAST_LINES: usize = 15;

/// Together 3 s: a proxy without open calls is gone long before.
const POLITE_POLLS: u32 = 150;
const POLL: Duration = Duration::from_millis(20);
