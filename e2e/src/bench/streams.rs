//! What an idle SSE stream costs: the resident memory of a proxy as thousands are held open.

use std::{io::ErrorKind, net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime,
    time::{sleep, timeout},
};

use crate::bench::{API_KEY, process, procfs};

#[derive(Debug, Args)]
pub(super) struct Options {
    pub(super) address: SocketAddr,
    #[arg(long)]
    pub(super) watch: u32,
    #[arg(long)]
    pub(super) settle: f64,
}

/// Resident memory by open streams.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Report {
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Step {
    pub(super) streams: usize,
    pub(super) resident_kib: u64,
}

impl Report {
    /// KiB a stream between the last two steps, where what the process costs alone has no part.
    pub(super) fn slope(&self) -> Option<f64> {
        let [.., low, high] = self.steps.as_slice() else { return None };
        let grown = high.resident_kib as f64 - low.resident_kib as f64;
        Some(grown / (high.streams - low.streams) as f64)
    }
}

/// Holds the streams in a process of its own.
pub(super) fn measure(options: &Options) -> Result<Report> {
    process::report([
        "streams".to_owned(),
        options.address.to_string(),
        format!("--watch={}", options.watch),
        format!("--settle={}", options.settle),
    ])
}

/// Opens streams step by step and prints the report.
pub(super) fn hold(options: &Options) -> Result<()> {
    let limit = process::raise_file_limit()?;
    let most = STEPS[STEPS.len() - 1];
    ensure!(limit > most as u64 + SPARE_FILES, "{limit} open files are too few for {most} streams");

    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(climb(options))?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

async fn climb(options: &Options) -> Result<Report> {
    let mut open = Vec::new();
    let mut steps = Vec::new();
    for streams in STEPS {
        while open.len() < streams {
            let stream = timeout(OPEN_WITHIN, connect(options.address)).await.context("no event");
            open.push(stream.flatten().with_context(|| format!("stream {}", open.len() + 1))?);
        }
        sleep(Duration::from_secs_f64(options.settle)).await;
        for (index, stream) in open.iter().enumerate() {
            check_open(stream).with_context(|| format!("stream {} of {streams}", index + 1))?;
        }
        let resident_kib = procfs::usage(options.watch)?.resident_kib;
        steps.push(Step { streams, resident_kib });
    }
    Ok(Report { steps })
}

/// Opens one stream and reads up to its `endpoint` event.
async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET /sse HTTP/1.1\r\nHost: {address}\r\nAccept: text/event-stream\r\nAuthorization: Bearer {API_KEY}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;

    let mut head = Vec::new();
    while !head.windows(ENDPOINT.len()).any(|window| window == ENDPOINT) {
        let read = stream.read_buf(&mut head).await?;
        let text = || String::from_utf8_lossy(&head);
        ensure!(read > 0, "closed after: {}", text());
        ensure!(head.starts_with(b"HTTP/1.1 200 "), "not opened: {}", text());
    }
    Ok(stream)
}

/// Takes the comments that have come meanwhile; finds out whether the stream was closed.
fn check_open(stream: &TcpStream) -> Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.try_read(&mut buffer) {
            Ok(0) => bail!("the stream was closed"),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The budget is the slope between the last two.
const STEPS: [usize; 3] = [0, 1_000, 10_000];

const ENDPOINT: &[u8] = b"event: endpoint";

/// Standard streams, the runtime's, and those that reading `/proc` takes.
const SPARE_FILES: u64 = 64;

const OPEN_WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slope_leaves_out_what_the_process_costs_alone() {
        let step = |streams, resident_kib| Step { streams, resident_kib };
        let report =
            Report { steps: vec![step(0, 9_000), step(1_000, 40_000), step(10_000, 220_000)] };

        assert_eq!(report.slope(), Some(20.0));
        assert_eq!(Report { steps: vec![step(0, 9_000)] }.slope(), None);
    }
}
