//! How fast a change reaches clients in a cluster: through the apiserver, the operator, the apiserver again and the
//! gateway, beside the bare chain of the same calls without operator and gateway.
//!
//! It runs in the cluster of the tests, with nobody beside, and installs Fairway there from the images that the tests
//! use: optimised, but not across crates as a release is.

mod chain;
mod cold;
mod flood;
mod probe;
mod scene;
mod table;

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{bench::histogram::Histogram, cluster::Release};
use scene::Scene;

/// Of the CPU, which a control plane of its own has elsewhere: here each of its threads weighs as much as a request of
/// a whole core. Two operators, a gateway and the server have to fit into two cores.
const SHARES: [&str; 2] =
    ["operator.resources.requests.cpu=400m", "gateway.resources.requests.cpu=500m"];

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Changes of each kind that are timed.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    changes: u32,
    /// Numbers of servers and of keys that are there while changes are timed.
    #[arg(long, value_delimiter = ',', default_value = "10,1000")]
    present: Vec<u32>,
    /// Servers that are applied at once; 0 leaves that out.
    #[arg(long, default_value_t = 5000)]
    flood: u32,
    /// Revocations while the leading operator is killed; 0 leaves that out.
    #[arg(long, default_value_t = 5)]
    kills: u32,
    /// Entries that a gateway starts with; 0 leaves that out.
    #[arg(long, default_value_t = 1000)]
    cold: u32,
    /// Let tests run beside: to try it out, not to measure.
    #[arg(long)]
    rough: bool,
    /// Also write the tables to this file.
    #[arg(long)]
    out: Option<PathBuf>,
}

/// What was timed with a number of servers and keys present.
#[derive(Debug)]
struct Round {
    present: u32,
    /// Apply, watch, apply, watch.
    bare: Histogram,
    /// A server that runs is applied, and its tool answers.
    callable: Histogram,
    /// A key is deleted, and its calls are refused.
    denied: Histogram,
    /// Of that, from the entry's deletion as another watcher sees it.
    denied_share: Histogram,
    /// A policy denies a tool, and calls of it are refused; then the other way round.
    in_force: Histogram,
}

/// What was timed once or a few times.
#[derive(Debug, Default)]
struct Extras {
    /// Deletion of a key to its refusal, while the operator that leads is killed.
    kills: Vec<Duration>,
    flood: Option<flood::Flood>,
    /// From the start of a gateway's process to its first answer.
    cold: Vec<Duration>,
}

/// Runs the benchmark.
pub(super) fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(measure(options))?;
    println!("{report}");
    match &options.out {
        Some(path) => {
            fs::write(path, report).with_context(|| format!("cannot write {}", path.display()))
        }
        None => Ok(()),
    }
}

async fn measure(options: &Options) -> Result<String> {
    let release = if options.rough { Release::shared().await? } else { Release::alone().await? };
    release.upgrade(&SHARES).await?;
    let scene = Scene::set(&release).await?;
    let mut rounds = Vec::new();
    for &present in &options.present {
        scene.fill(present).await?;
        eprintln!("{present} servers and keys are there");
        let bare = chain::bare(&scene, options.changes).await?;
        let callable = chain::apply_to_callable(&scene, options.changes).await?;
        let (denied, denied_share) = chain::revoke_to_denied(&scene, options.changes).await?;
        let in_force = chain::policy_to_in_force(&scene, options.changes).await?;
        // Half of the bare chains after the others: a slow spell falls on both.
        let bare = bare.and(chain::bare(&scene, options.changes).await?);
        rounds.push(Round { present, bare, callable, denied, denied_share, in_force });
    }
    let mut extras = Extras::default();
    if options.kills > 0 {
        extras.kills = chain::revoke_under_kill(&scene, options.kills).await?;
    }
    if options.cold > 0 {
        scene.fill(options.cold).await?;
        extras.cold = cold::starts(&scene, 5).await?;
    }
    let machine = super::machine::describe()?;
    if options.flood > 0 {
        // The last may fail: what is known so far is not lost.
        eprintln!("{}", table::render(&rounds, &extras, options.changes, &machine));
        extras.flood = Some(flood::flood(&scene, options.flood).await?);
    }
    Ok(table::render(&rounds, &extras, options.changes, &machine))
}
