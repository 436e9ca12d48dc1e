//! Asking within one session, the same way whatever the database.

use futures_util::TryStreamExt;
use sqlx::{
    AssertSqlSafe, Column, ColumnIndex, Connection, Decode, Encode, Executor, IntoArguments, Row,
    SqlSafeStr, Statement, Type,
};

use crate::{
    failure::Failure,
    gate::ReadOnly,
    output::{Limits, Table},
};

/// A query of ours about the database itself, with one column and perhaps the name of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Catalog<'a> {
    pub(crate) sql: &'static str,
    pub(crate) table: Option<&'a str>,
}

/// Runs the statement inside another one, which turns every value into text of bounded length
/// and ends after the last row that is shown.
pub(crate) async fn query<C>(
    session: &mut C,
    sql: &ReadOnly,
    cell: fn(&str, usize) -> String,
    limits: Limits,
) -> Result<String, Failure>
where
    C: Connection,
    for<'c> &'c mut C: Executor<'c, Database = C::Database>,
    <C::Database as sqlx::Database>::Arguments: IntoArguments<C::Database>,
    for<'r> String: Decode<'r, C::Database> + Type<C::Database>,
    usize: ColumnIndex<<C::Database as sqlx::Database>::Row>,
{
    // Preparing what was asked, rather than what is run, has errors speak of what was asked.
    let asked = session.prepare(AssertSqlSafe(sql.to_string()).into_sql_str()).await?;
    let columns = asked.columns();
    if columns.is_empty() {
        return Err(Failure::NoColumns);
    }
    let bounded = bounded(sql, columns.len(), cell, limits);
    let mut table = Table::new(columns.iter().map(Column::name), limits);
    let mut rows = sqlx::query(AssertSqlSafe(bounded)).fetch(session);
    while let Some(row) = rows.try_next().await? {
        let cells: Vec<Option<String>> = (0..columns.len())
            .map(|index| row.try_get_unchecked(index))
            .collect::<Result<_, sqlx::Error>>()?;
        if !table.push(&cells) {
            break;
        }
    }
    Ok(table.finish())
}

pub(crate) async fn catalog<C>(
    session: &mut C,
    catalog: Catalog<'_>,
    limits: Limits,
) -> Result<String, Failure>
where
    C: Connection,
    for<'c> &'c mut C: Executor<'c, Database = C::Database>,
    <C::Database as sqlx::Database>::Arguments: IntoArguments<C::Database>,
    for<'r> String: Decode<'r, C::Database> + Encode<'r, C::Database> + Type<C::Database>,
    usize: ColumnIndex<<C::Database as sqlx::Database>::Row>,
{
    let mut query = sqlx::query(catalog.sql);
    if let Some(table) = catalog.table {
        query = query.bind(table.to_owned());
    }
    let mut rows = query.fetch(session);
    let mut lines = String::new();
    while let Some(row) = rows.try_next().await? {
        let line: String = row.try_get_unchecked(0)?;
        if lines.len() + line.len() > limits.bytes {
            lines.push_str("\n[cut: there are more]");
            break;
        }
        if !lines.is_empty() {
            lines.push('\n');
        }
        lines.push_str(&line);
    }
    Ok(lines)
}

/// Columns get names of ours, as those that were asked for may be missing or the same.
fn bounded(
    sql: &ReadOnly,
    columns: usize,
    cell: fn(&str, usize) -> String,
    limits: Limits,
) -> String {
    let names: Vec<String> = (1..=columns).map(|number| format!("c{number}")).collect();
    // One character more shows that there was more.
    let characters = (limits.bytes + 1).min(WHOLE_CELLS * limits.bytes / columns + 1);
    let cells: Vec<String> = names.iter().map(|name| cell(name, characters)).collect();
    format!(
        "WITH {ANSWER} ({}) AS ({sql}) SELECT {} FROM {ANSWER} LIMIT {}",
        names.join(", "),
        cells.join(", "),
        limits.rows + 1
    )
}

/// Not a name that a table would have: SQLite takes such a table for a reference to itself.
const ANSWER: &str = "_server_sql_answer";

/// How many cells of a row may be as long as a whole answer: it bounds what a row takes in memory.
const WHOLE_CELLS: usize = 16;
