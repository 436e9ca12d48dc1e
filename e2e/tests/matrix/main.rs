//! Every client with every server through one gateway. What works is a table, `e2e/MATRIX.md`, which this test makes.
//!
//! `FAIRWAY_MATRIX=write cargo test -p e2e --test matrix` writes it anew; without the variable the test compares.

mod checks;
mod claude;
mod inspector;
mod rows;
mod scene;
mod servers;
mod sessions;
mod table;

use std::env;

use anyhow::Result;
use futures_util::{StreamExt as _, stream};
use tokio::time::Instant;

use crate::{checks::Cell, rows::ROWS, scene::Scene, servers::Servers};

/// Rows under way at a time: a client waits more than it computes.
const AT_ONCE: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_uses_every_server() {
    let servers = Servers::start().await.unwrap();
    let scene = Scene::set(servers, ROWS.len()).await.unwrap();
    let begun = Instant::now();

    let rows = play(&scene).await.unwrap();

    println!("all of it took {} s", begun.elapsed().as_secs());
    let table = table::render(&scene, &rows);
    println!("{table}");
    if env::var("FAIRWAY_MATRIX").is_ok_and(|what| what == "write") {
        table::write(&table).unwrap();
    }
    assert_eq!(table::recorded().unwrap(), table, "run it again with FAIRWAY_MATRIX=write");
    let failed = table.matches('✘').count() - table::PREFACE.matches('✘').count();
    assert_eq!(failed, 0, "checks failed: the output names each");
}

/// The cells of each row. `FAIRWAY_MATRIX_ROWS=Python` plays only those rows whose title has this in it.
async fn play(scene: &Scene) -> Result<Vec<Option<Vec<Cell>>>> {
    let wanted = env::var("FAIRWAY_MATRIX_ROWS").unwrap_or_default();
    let rows = ROWS.iter().enumerate().map(|(number, row)| {
        let skipped = !row.title.contains(&wanted);
        async move { if skipped { Ok(None) } else { row.play(scene, number).await.map(Some) } }
    });
    stream::iter(rows).buffered(AT_ONCE).collect::<Vec<_>>().await.into_iter().collect()
}
