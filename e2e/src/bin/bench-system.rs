//! `cargo bench-system`: the whole gateway beside nginx and a bare proxy. See `e2e/BENCHMARKS.md`.

use clap::Parser;
use e2e::bench::{self, Cli};

fn main() -> anyhow::Result<()> {
    bench::run(Cli::parse())
}
