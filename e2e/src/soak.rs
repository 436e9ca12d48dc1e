//! A long time of use in a cluster in which something always goes wrong: tables change, a server restarts, gateways are
//! drained and killed. Counts what clients notice, and whether a gateway grows.

mod cause;
mod gauge;
mod ledger;
mod load;
mod scene;
mod table;
mod trouble;

use std::{fmt, time::Duration};

use anyhow::Result;
use futures_util::{FutureExt as _, future::try_join4};

use crate::cluster::Release;
use gauge::Life;
use ledger::{Failure, Ledger, Sum};
use load::{Kind, Load, Tally};
use scene::Scene;

pub use cause::Cause;

/// What it came to.
#[derive(Debug)]
pub struct Report {
    time: Duration,
    machine: String,
    /// What happened, and how often.
    troubles: Vec<(&'static str, usize)>,
    tallies: Vec<(&'static Kind, Tally)>,
    failed: Vec<Failure>,
    /// Each with the call over which the session was lost.
    lost: Vec<Failure>,
    /// Of the gateway that was left alone.
    veteran: Life,
    /// Of the others, those that were there for a while.
    others: Vec<Life>,
}

/// Lets it go on for this time in a release that nobody else uses.
pub async fn run(release: &Release, time: Duration) -> Result<Report> {
    let scene = Scene::set(release).await?;
    let ledger = Ledger::open();
    let load = Load::start(&scene, &ledger).await?;
    let gauge = gauge::Gauge::default();
    // None of them ends by itself.
    let troubles = try_join4(
        trouble::edits(&scene, &ledger).boxed_local(),
        trouble::server_restarts(&scene, &ledger).boxed_local(),
        trouble::gateways(&scene, &ledger).boxed_local(),
        gauge.watch(&scene).boxed_local(),
    );
    if let Ok(broken) = tokio::time::timeout(time, troubles).await {
        broken?;
    }
    // What was begun last is over before sessions are counted.
    release.wait_rolled_out().await?;
    let tallies = load.stop().await?;
    let (veteran, others) = gauge.lives(&scene.veteran)?;
    let Sum { troubles, failed, lost } = ledger.close();
    let machine = crate::bench::machine()?;
    Ok(Report { time, machine, troubles, tallies, failed, lost, veteran, others })
}

impl Report {
    /// What nobody can explain, in words.
    pub fn unexplained(&self) -> Vec<String> {
        let failed = self.failed.iter().filter(|failure| failure.cause == Cause::Other);
        let lost = self.lost.iter().filter(|loss| !loss.explains_loss());
        failed.map(ToString::to_string).chain(lost.map(|loss| format!("lost: {loss}"))).collect()
    }

    /// How many calls of each kind of client were answered.
    pub fn answered(&self) -> impl Iterator<Item = (&'static str, usize)> {
        self.tallies.iter().map(|(kind, tally)| (kind.name, tally.answered))
    }

    /// KiB of memory, and open files, that the gateway which was left alone gained a minute once it was warm.
    pub fn growth(&self) -> (f64, f64) {
        self.veteran.slopes()
    }

    /// How often something of this name happened.
    pub fn count(&self, trouble: &str) -> usize {
        self.troubles.iter().find(|(name, _)| *name == trouble).map_or(0, |(_, count)| *count)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        table::write(self, f)
    }
}
