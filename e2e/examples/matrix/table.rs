//! The table as Markdown.

use std::{fmt::Write as _, fs};

use anyhow::Result;

use crate::{
    checks::{Cell, Check, Mark, Note},
    rows::{ROWS, Row},
    scene::Scene,
};

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/MATRIX.md");

/// What the table means.
pub(crate) const PREFACE: &str = "\
# Clients and servers

Every client in the rows uses every server in the columns through one Fairway gateway, at `/sse` or `/mcp`, with a key
that allows that server. `cargo run -p e2e --example matrix` makes this table.

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

`✔` works, `✘` does not, `·` was not reached, and a letter stands for what the client or the server does not do.
";

/// The whole document.
pub(crate) fn render(scene: &Scene, rows: &[Option<Vec<Cell>>]) -> String {
    let mut text = format!("{PREFACE}\n| |");
    for column in &scene.servers.columns {
        let _ = write!(text, " {} |", column.title);
    }
    text += "\n|---|";
    text += &"---|".repeat(scene.servers.columns.len());
    for (row, cells) in ROWS.iter().zip(rows) {
        let _ = write!(text, "\n| {} |", row.title);
        for cell in cells.iter().flatten() {
            let _ = write!(text, " {}<br>`{}` |", cell.revision, marks(cell));
        }
    }
    text += "\n";
    for note in Note::ALL.into_iter().filter(|note| is_used(*note, rows)) {
        let _ = write!(text, "\n- `{}`: {}", note.letter(), note.text());
    }
    text + "\n"
}

fn marks(cell: &Cell) -> String {
    Check::ALL.into_iter().map(|check| cell.of(check).letter()).collect()
}

fn is_used(note: Note, rows: &[Option<Vec<Cell>>]) -> bool {
    let mut cells = rows.iter().flatten().flatten();
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

/// Records the document.
pub(crate) fn write(text: &str) -> Result<()> {
    Ok(fs::write(RECORDED, text)?)
}
