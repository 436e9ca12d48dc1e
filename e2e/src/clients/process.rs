//! A child process that dies with its handle and whose output is printed when the test that holds it panics.

use std::{
    collections::VecDeque,
    fmt,
    process::{ExitStatus, Stdio},
    sync::Arc,
    thread,
};

use anyhow::{Context as _, Result, anyhow};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, ChildStdin, Command},
    sync::{mpsc, watch},
    task::JoinSet,
};

/// What is kept of a process's output: enough to see the end of any test.
const LOG_LINES: usize = 400;

/// Lines of output that may wait for the test to read them.
const LINE_QUEUE: usize = 1024;

/// A running child.
pub struct Process {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    log: Arc<Log>,
    readers: JoinSet<()>,
}

impl Process {
    /// Starts a child whose output only goes to its log.
    pub fn spawn(name: &str, command: Command) -> Result<Self> {
        Self::start(name, command, None)
    }

    /// Starts a child whose standard output the caller reads line by line.
    pub fn spawn_with_lines(
        name: &str,
        command: Command,
    ) -> Result<(Self, mpsc::Receiver<String>)> {
        let (sender, receiver) = mpsc::channel(LINE_QUEUE);
        let process = Self::start(name, command, Some(sender))?;

        Ok((process, receiver))
    }

    fn start(
        name: &str,
        mut command: Command,
        lines: Option<mpsc::Sender<String>>,
    ) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.kill_on_drop(true).spawn().with_context(|| format!("{name} did not start"))?;
        let log = Arc::new(Log::default());
        let mut readers = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            readers.spawn(read(stdout, Arc::clone(&log), lines));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.spawn(read(stderr, Arc::clone(&log), None));
        }

        Ok(Self { name: name.to_owned(), stdin: child.stdin.take(), child, log, readers })
    }

    /// The child's standard input, which closes when it is dropped.
    pub fn take_input(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// Waits until the child has written a line that contains `text`.
    pub async fn wait_for_line(&self, text: &str) -> Result<String> {
        let mut lines = self.log.lines.subscribe();
        let found = lines.wait_for(|lines| lines.iter().any(|line| line.contains(text)));
        let waited = super::within(&format!("{text:?} from {}", self.name), found).await;

        let lines = waited.map_err(|error| self.blame(error))??;
        lines.iter().find(|line| line.contains(text)).cloned().context("the line is gone")
    }

    /// Waits until the child ends and all its output is read.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        let waited = super::within(&format!("the end of {}", self.name), self.child.wait()).await;
        let status = waited.map_err(|error| self.blame(error))??;
        while self.readers.join_next().await.is_some() {}

        Ok(status)
    }

    /// Ends the child with SIGKILL and waits until it is gone.
    pub async fn kill(&mut self) -> Result<()> {
        Ok(super::within(&format!("the death of {}", self.name), self.child.kill()).await??)
    }

    /// The operating system's number of the child, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// The end of what the child wrote, for an error message.
    pub fn log(&self) -> String {
        self.log.lines.borrow().iter().fold(String::new(), |text, line| text + line + "\n")
    }

    /// An error of this process, with the end of what it wrote.
    pub fn blame(&self, error: impl fmt::Display) -> anyhow::Error {
        anyhow!("{error:#}\n--- {} wrote ---\n{}", self.name, self.log())
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Process").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- {} wrote ---\n{}", self.name, self.log());
        }
    }
}

#[derive(Default)]
struct Log {
    lines: watch::Sender<VecDeque<String>>,
}

async fn read(output: impl AsyncRead + Unpin, log: Arc<Log>, lines: Option<mpsc::Sender<String>>) {
    let mut output = BufReader::new(output).lines();
    while let Ok(Some(line)) = output.next_line().await {
        log.lines.send_modify(|lines| {
            if lines.len() == LOG_LINES {
                lines.pop_front();
            }
            lines.push_back(line.clone());
        });
        // The test may have stopped reading; the log still wants the rest.
        if let Some(lines) = &lines {
            let _ = lines.send(line).await;
        }
    }
}
