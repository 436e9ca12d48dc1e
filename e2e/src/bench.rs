//! The system benchmark: one load generator and one MCP server, alone or with a proxy in between.
//!
//! This process measures nothing itself. It starts every piece as a process of its own (most are
//! this binary again, under a hidden subcommand), runs the rounds, and writes the tables.

mod affinity;
mod caller;
mod fairway;
mod floor;
mod histogram;
mod load;
mod machine;
mod mock;
mod nginx;
mod process;
mod procfs;
mod propagation;
mod results;
mod streams;
mod table;

use std::{
    fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::bench::{affinity::OneCore, machine::Occupation, process::Process, results::Results};

/// Compares Fairway with nginx and a bare proxy, all in front of the same MCP server.
#[derive(Debug, Parser)]
#[command(name = "bench-system", args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(flatten)]
    plan: Plan,
    #[command(subcommand)]
    piece: Option<Piece>,
}

#[derive(Debug, Args)]
struct Plan {
    /// What to measure, in this order.
    #[arg(long, value_delimiter = ',', default_value = "direct,nginx,floor,fairway")]
    targets: Vec<Target>,
    /// Interleaved rounds; the tables show medians over them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds measured for each cell.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds of load before each measurement.
    #[arg(long, default_value_t = 1.0)]
    warmup: f64,
    /// Leave one-client cells to the scheduler instead of confining them to one core.
    #[arg(long)]
    spread: bool,
    /// Also measure the memory of idle SSE streams.
    #[arg(long)]
    streams: bool,
    /// Seconds streams idle before memory is read. The default outlasts the gateway's 15 s comment,
    /// so that every stream has been written to.
    #[arg(long, default_value_t = 17.0)]
    settle: f64,
    /// Use this gateway binary instead of building one.
    #[arg(long)]
    fairway: Option<PathBuf>,
    /// Also write the tables to this file.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// What stands between the load generator and the MCP server.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, ValueEnum)]
enum Target {
    Direct,
    Nginx,
    Floor,
    Fairway,
}

/// The pieces this binary plays in processes of their own.
#[derive(Debug, Subcommand)]
enum Piece {
    /// Measures how fast changes in a cluster reach clients.
    Propagation(propagation::Options),
    #[command(hide = true)]
    Mock,
    #[command(hide = true)]
    Floor(floor::Options),
    #[command(hide = true)]
    Load(load::Options),
    #[command(hide = true)]
    Streams(streams::Options),
    #[command(hide = true)]
    Exec(process::Program),
}

/// A target that answers calls.
struct Running {
    target: Target,
    address: SocketAddr,
    /// `None` for the direct target: there is no proxy to watch.
    process: Option<Process>,
}

/// What the figures were measured on.
pub(crate) fn machine() -> Result<String> {
    machine::describe()
}

/// Runs the benchmark, or the one piece of it that the command line names.
///
/// # Errors
///
/// Fails when a piece does not start or when any call got a wrong answer.
pub fn run(cli: Cli) -> Result<()> {
    let Some(piece) = cli.piece else { return measure(&cli.plan) };

    // The others are pieces of another one of this, and end with it.
    if !matches!(piece, Piece::Propagation(_)) {
        process::die_with_parent()?;
    }
    match piece {
        Piece::Propagation(options) => propagation::run(&options),
        Piece::Mock => mock::serve(),
        Piece::Floor(options) => floor::serve(&options),
        Piece::Load(options) => load::generate(&options),
        Piece::Streams(options) => streams::hold(&options),
        Piece::Exec(program) => process::exec(&program),
    }
}

fn measure(plan: &Plan) -> Result<()> {
    ensure!(plan.seconds > 0.0 && plan.warmup >= 0.0 && plan.settle >= 0.0, "times are positive");
    let gateway = match plan.targets.contains(&Target::Fairway) {
        true => Some(fairway::binary(plan.fairway.as_deref())?),
        false => None,
    };
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    let before = Occupation::read()?;

    let (mock, server) = mock::start()?;
    let bench = Bench { plan, gateway, scratch: scratch.path(), mock: &mock, server };
    let mut results = bench.rounds()?;
    if plan.streams {
        bench.streams(&mut results)?;
    }

    let others = Occupation::read()?.others_since(before);
    let report = table::render(&results, &machine::describe()?, others, plan);
    println!("{report}");
    match &plan.out {
        Some(path) => fs::write(path, report)
            .with_context(|| format!("cannot write the tables to {}", path.display())),
        None => Ok(()),
    }
}

/// What every measurement needs to start its targets.
struct Bench<'a> {
    plan: &'a Plan,
    gateway: Option<PathBuf>,
    scratch: &'a Path,
    mock: &'a Process,
    /// Where the mock listens.
    server: SocketAddr,
}

impl Bench<'_> {
    /// Interleaves the targets, starting each round with another one, so that a slow spell of the
    /// machine falls on all of them.
    fn rounds(&self) -> Result<Results> {
        let mut running = self
            .plan
            .targets
            .iter()
            .map(|&target| self.start(target))
            .collect::<Result<Vec<_>>>()?;
        let mut results = Results::default();
        for round in 1..=self.plan.rounds {
            for clients in [ALONE, BUSY] {
                let _confined = self.confine(clients, &running)?;
                for target in &running {
                    let report = self.load(target, clients)?;
                    let (name, rate, p50) = (target.target, report.calls_per_second, report.p50_us);
                    let of = self.plan.rounds;
                    eprintln!(
                        "round {round}/{of}: {name:<8} clients {clients:>2}, {rate:>6.0} calls/s, p50 {p50:>4.0} µs"
                    );
                    results.add(name, clients, report);
                }
            }
            running.rotate_left(1);
        }
        Ok(results)
    }

    fn confine(&self, clients: usize, running: &[Running]) -> Result<Option<OneCore>> {
        if clients > ALONE || self.plan.spread {
            return Ok(None);
        }
        let proxies = running.iter().filter_map(|target| target.process.as_ref());
        let processes = proxies.chain([self.mock]).map(Process::id).collect();
        OneCore::confine(processes).map(Some)
    }

    fn load(&self, target: &Running, clients: usize) -> Result<load::Report> {
        let options = load::Options {
            address: target.address,
            clients,
            seconds: self.plan.seconds,
            warmup: self.plan.warmup,
            watch: target.process.as_ref().map(Process::id),
        };
        load::measure(&options).with_context(|| format!("{}, {clients} clients", target.target))
    }

    /// Measures each target on a fresh process: memory freed after load would hide growth.
    fn streams(&self, results: &mut Results) -> Result<()> {
        for &target in self.plan.targets.iter().filter(|target| target.has_streams()) {
            eprintln!("streams: {target}");
            let running = self.start(target)?;
            let process = running.process.as_ref().context("a target with streams is a process")?;
            let options = streams::Options {
                address: running.address,
                watch: process.id(),
                settle: self.plan.settle,
            };
            let report = streams::measure(&options)
                .with_context(|| format!("holding idle streams on {target}"))?;
            results.add_streams(target, report);
        }
        Ok(())
    }

    /// Starts one target and waits until a checked call through it succeeds.
    fn start(&self, target: Target) -> Result<Running> {
        let (process, address) = match target {
            Target::Direct => (None, self.server),
            Target::Nginx => nginx::start(self.server, self.scratch).map(owned)?,
            Target::Floor => floor::start(self.server).map(owned)?,
            Target::Fairway => {
                let binary =
                    self.gateway.as_deref().context("the gateway is built before it starts")?;
                fairway::start(binary, self.server, self.scratch).map(owned)?
            }
        };
        caller::wait_until_callable(address, READY_WITHIN).map_err(|error| {
            let log = process.as_ref().map_or_else(String::new, Process::last_words);
            error.context(format!("{target} does not answer calls{log}"))
        })?;
        Ok(Running { target, address, process })
    }
}

fn owned((process, address): (Process, SocketAddr)) -> (Option<Process>, SocketAddr) {
    (Some(process), address)
}

impl Target {
    fn has_streams(self) -> bool {
        matches!(self, Self::Floor | Self::Fairway)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Floor => "floor",
            Self::Fairway => "fairway",
        })
    }
}

/// One client, for latency alone.
const ALONE: usize = 1;

/// Enough clients to keep two cores busy.
const BUSY: usize = 32;

/// The key every client presents to every target; the ones that check keys know it.
const API_KEY: &str = "bench-0123456789abcdef0123456789abcdef";

/// A cold start takes less than a second; a machine that also compiles may take ten times that.
const READY_WITHIN: Duration = Duration::from_secs(15);
