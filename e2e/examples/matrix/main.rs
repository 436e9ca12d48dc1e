//! Every client with every server through one gateway. What works is a table, `e2e/MATRIX.md`, which this writes:
//!
//! ```sh
//! cargo build -p gateway -p server-everything
//! cargo run -p e2e --example matrix            # or with the part of a row's title: -- TypeScript
//! ```
//!
//! With a part of a title only those rows are played, and nothing is written.

mod checks;
mod claude;
mod inspector;
mod rows;
mod scene;
mod servers;
mod sessions;
mod table;

use std::env;

use anyhow::{Result, ensure};
use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use crate::{checks::Cell, rows::ROWS, scene::Scene, servers::Servers};

/// Rows under way at a time: a client waits more than it computes.
const AT_ONCE: usize = 4;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let wanted = env::args().nth(1);
    let servers = Servers::start().await?;
    let scene = Scene::set(servers, ROWS.len()).await?;
    let begun = Instant::now();

    let rows = play(&scene, wanted.as_deref().unwrap_or_default()).await?;

    println!("all of it took {} s", begun.elapsed().as_secs());
    let table = table::render(&scene, &rows);
    println!("{table}");
    if wanted.is_none() {
        table::write(&table)?;
    }
    let failed = table.matches('✘').count() - table::PREFACE.matches('✘').count();
    ensure!(failed == 0, "{failed} checks failed: the output names each");
    Ok(())
}

/// The cells of each row that has this in its title.
async fn play(scene: &Scene, wanted: &str) -> Result<Vec<Option<Vec<Cell>>>> {
    let rows = ROWS.iter().enumerate().map(|(number, row)| {
        let skipped = !row.title.contains(wanted);
        async move { if skipped { Ok(None) } else { row.play(scene, number).await.map(Some) } }
    });
    stream::iter(rows).buffered(AT_ONCE).collect::<Vec<_>>().await.into_iter().collect()
}
