//! Closed-loop load: every client sends its next call when its last one is answered.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::{
    runtime,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use crate::bench::{caller::Caller, histogram::Histogram, process, procfs};

#[derive(Debug, Args)]
pub(super) struct Options {
    pub(super) address: SocketAddr,
    #[arg(long)]
    pub(super) clients: usize,
    #[arg(long)]
    pub(super) seconds: f64,
    #[arg(long)]
    pub(super) warmup: f64,
    /// The process whose CPU time and memory count, with its descendants.
    #[arg(long)]
    pub(super) watch: Option<u32>,
}

/// What one measurement found.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(super) struct Report {
    pub(super) calls_per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// `None` when no process was watched.
    pub(super) cpu_us: Option<f64>,
    pub(super) resident_kib: Option<u64>,
}

/// Generates the load in a process of its own.
pub(super) fn measure(options: &Options) -> Result<Report> {
    let mut arguments = vec![
        "load".to_owned(),
        options.address.to_string(),
        format!("--clients={}", options.clients),
        format!("--seconds={}", options.seconds),
        format!("--warmup={}", options.warmup),
    ];
    arguments.extend(options.watch.map(|id| format!("--watch={id}")));
    process::report(arguments)
}

/// Generates the load and prints the report. One wrong answer fails the measurement.
pub(super) fn generate(options: &Options) -> Result<()> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(window(options))?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

async fn window(options: &Options) -> Result<Report> {
    let mut callers = Vec::with_capacity(options.clients);
    for number in 0..options.clients {
        callers.push(Caller::connect(options.address, number).await?);
    }

    let begin = Instant::now() + Duration::from_secs_f64(options.warmup);
    let end = begin + Duration::from_secs_f64(options.seconds);
    let latencies = Arc::new(Mutex::new(Histogram::default()));
    let mut clients = JoinSet::new();
    for caller in callers {
        clients.spawn(client(caller, begin, end, Arc::clone(&latencies)));
    }

    sleep_until(begin).await;
    let before = options.watch.map(procfs::usage).transpose()?;
    sleep_until(end).await;
    let after = options.watch.map(procfs::usage).transpose()?;
    let failures = timeout(LAST_ANSWER, finish(clients)).await.context("a call hangs")??;

    let latencies = latencies.lock().unwrap_or_else(PoisonError::into_inner);
    let calls = latencies.count();
    ensure!(failures.is_empty(), "{} of {calls} calls failed; {}", failures.len(), failures[0]);
    ensure!(calls > 0, "no call was answered within the window");
    let per_call = |cpu: Duration| cpu.as_secs_f64() * 1e6 / calls as f64;
    Ok(Report {
        calls_per_second: calls as f64 / options.seconds,
        p50_us: latencies.quantile(0.5).as_secs_f64() * 1e6,
        p99_us: latencies.quantile(0.99).as_secs_f64() * 1e6,
        cpu_us: before.zip(after).map(|(before, after)| per_call(after.cpu - before.cpu)),
        resident_kib: after.map(|after| after.resident_kib),
    })
}

/// Calls until `end` and records the calls that lie in the window. Returns what failed.
async fn client(
    mut caller: Caller,
    begin: Instant,
    end: Instant,
    latencies: Arc<Mutex<Histogram>>,
) -> Vec<String> {
    let mut failures = Vec::new();
    let mut start = Instant::now();
    while start < end && failures.len() < ENOUGH_FAILURES {
        let outcome = caller.call().await;
        let answered = Instant::now();
        match outcome {
            Err(error) => failures.push(format!("{error:#}")),
            Ok(()) if begin <= start && answered <= end => {
                latencies.lock().unwrap_or_else(PoisonError::into_inner).record(answered - start);
            }
            Ok(()) => {}
        }
        start = answered;
    }
    failures
}

async fn finish(mut clients: JoinSet<Vec<String>>) -> Result<Vec<String>> {
    let mut failures = Vec::new();
    while let Some(client) = clients.join_next().await {
        failures.extend(client?);
    }
    Ok(failures)
}

/// A broken target fails every call; there is no use in hearing it a million times.
const ENOUGH_FAILURES: usize = 10;

/// The slowest answer the end of a measurement waits for.
const LAST_ANSWER: Duration = Duration::from_secs(10);
