//! The table as Markdown, and the one that is checked in.

use std::{fmt::Write as _, fs};

use anyhow::{Result, ensure};

use crate::{
    checks::{Cell, Check, Mark, Note},
    rows::Row,
    scene::Scene,
};

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/MATRIX.md");

/// What the table means.
const PREFACE: &str = "\
# Clients and servers

Every client in the rows uses every server in the columns through one Fairway gateway, at `/sse` or `/mcp`, with a key
that allows that server. A test makes this table and fails where it is another:

    cargo test -p e2e --test matrix                          # compares
    FAIRWAY_MATRIX=write cargo test -p e2e --test matrix     # writes

A cell has the revision that the client speaks with the gateway, and nine marks:

1. **connect**: a session comes about.
2. **list**: the tools of this server are listed, and no others.
3. **call**: a call is answered.
4. **progress**: a call tells of its progress before its answer.
5. **cancel**: a call is cancelled, the server is told, and the session goes on.
6. **error**: a failure of the tool arrives as it is, and an unknown tool is refused with -32602.
7. **list_changed**: the client hears of a change and then lists a new tool. `reference.py` adds one; where the list of a
   server never changes, the user gets the right to one tool more.
8. **big result**: 5 MB of text arrive whole.
9. **100 parallel calls**: each gets its own answer.

`✔` works; a letter stands for what the client or the server does not do, and why the protocol lets it.
";

/// The whole document.
pub(crate) fn render(scene: &Scene, rows: &[(&Row, Vec<Cell>)]) -> String {
    let mut text = format!("{PREFACE}\n| |");
    for column in &scene.servers.columns {
        let _ = write!(text, " {} |", column.title);
    }
    text += "\n|---|";
    text += &"---|".repeat(scene.servers.columns.len());
    for (row, cells) in rows {
        let _ = write!(text, "\n| {} |", row.title);
        for cell in cells {
            let _ = write!(text, " {}<br>`{}` |", cell.revision, marks(cell));
        }
    }
    text += "\n";
    for note in Note::ALL.into_iter().filter(|note| is_used(*note, rows)) {
        let (what, clause) = note.text();
        let _ = write!(text, "\n- `{}`: {what} {clause}", note.letter());
    }
    text + "\n"
}

fn marks(cell: &Cell) -> String {
    Check::ALL.into_iter().map(|check| cell.of(check).letter()).collect()
}

fn is_used(note: Note, rows: &[(&Row, Vec<Cell>)]) -> bool {
    let mut cells = rows.iter().flat_map(|(_, cells)| cells);
    cells.any(|cell| Check::ALL.into_iter().any(|check| cell.of(check) == Mark::Explained(note)))
}

/// What failed in a row, and why.
pub(crate) fn failures(scene: &Scene, row: &Row, cells: &[Cell]) -> Vec<String> {
    let mut failures = Vec::new();
    for (column, cell) in scene.servers.columns.iter().zip(cells) {
        for check in Check::ALL {
            if let Mark::Failed(why) = cell.of(check) {
                let (client, server) = (row.title, column.title);
                failures.push(format!("✘ {client} with {server}: {check:?}: {why}"));
            }
        }
    }
    failures
}

/// Fails if this is not the document that is checked in.
pub(crate) fn compare(scene: &Scene, rows: &[(&Row, Vec<Cell>)]) -> Result<()> {
    let (recorded, played) =
        (fs::read_to_string(RECORDED).unwrap_or_default(), render(scene, rows));
    let known: Vec<&str> = recorded.lines().collect();
    let new: Vec<&str> = played.lines().filter(|line| !known.contains(line)).collect();

    ensure!(
        recorded == played,
        "e2e/MATRIX.md is another table: `FAIRWAY_MATRIX=write cargo test -p e2e --test matrix` writes it. New in it:\n{}",
        new.join("\n"),
    );
    Ok(())
}

/// Checks the document in.
pub(crate) fn write(scene: &Scene, rows: &[(&Row, Vec<Cell>)]) -> Result<()> {
    Ok(fs::write(RECORDED, render(scene, rows))?)
}
