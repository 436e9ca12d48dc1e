//! Every client with every server through one gateway. What works is a table, which is checked in as `e2e/MATRIX.md`:
//!
//! ```sh
//! cargo test -p e2e --test matrix                            # plays all, fails where the table is another
//! FAIRWAY_MATRIX=write cargo test -p e2e --test matrix       # plays all, writes the table
//! FAIRWAY_MATRIX=TypeScript cargo test -p e2e --test matrix  # plays the rows with this in their titles
//! ```
//!
//! A check that fails fails the test, whatever is checked in: what the protocol leaves open has a letter in the table and
//! a note under it.

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
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    checks::Cell,
    rows::{ROWS, Row},
    scene::Scene,
    servers::Servers,
};

/// Rows under way at a time: a client waits more than it computes.
const AT_ONCE: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_works_with_every_server() -> Result<()> {
    let wanted = env::var("FAIRWAY_MATRIX").unwrap_or_default();
    let part = if wanted == "write" { "" } else { &wanted };
    let scene = Scene::set(Servers::start().await?, ROWS.len()).await?;

    let rows = play(&scene, part).await?;

    println!("{}", table::render(&scene, &rows));
    let failures: Vec<String> =
        rows.iter().flat_map(|(row, cells)| table::failures(&scene, row, cells)).collect();
    ensure!(failures.is_empty(), "{} checks failed\n{}", failures.len(), failures.join("\n"));
    match wanted.as_str() {
        "write" => table::write(&scene, &rows),
        "" => table::compare(&scene, &rows),
        _ => Ok(()),
    }
}

/// The cells of each row that has this in its title.
async fn play(scene: &Scene, part: &str) -> Result<Vec<(&'static Row, Vec<Cell>)>> {
    let rows = ROWS.iter().enumerate().filter(|(_, row)| row.title.contains(part));
    let played = rows.map(|(number, row)| async move { Ok((row, row.play(scene, number).await?)) });
    stream::iter(played).buffered(AT_ONCE).try_collect().await
}
