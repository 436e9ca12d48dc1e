//! Which SQL may run: one SELECT which does nothing but read. Performs no I/O.
//!
//! What runs is the statement as it was understood here, written out again, rather than the text
//! that came in. So what the database reads and what was checked can't differ.

mod functions;

use std::{fmt, io, ops::ControlFlow, thread};

use sqlparser::{
    ast::{
        Expr, ObjectName, ObjectNamePart, Query, Select, SetExpr, Statement, TableFactor, Value,
        ValueWithSpan, Visit, Visitor,
    },
    dialect::{Dialect, PostgreSqlDialect, SQLiteDialect},
    parser::{Parser, ParserError},
};

use crate::database::Kind;

/// One SELECT statement that only reads.
#[derive(Clone, Debug)]
pub(crate) struct ReadOnly(String);

/// Why a statement may not run, as a sentence that tells a model what to do instead.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("The SQL is longer than {MAX_SQL_BYTES} bytes. Send a shorter statement.")]
    TooLong,
    #[error("The SQL can't be parsed: {0}. Correct it and try again.")]
    Syntax(String),
    #[error("There is no statement. Send one SELECT statement.")]
    Nothing,
    #[error("There are {0} statements. Send exactly one SELECT statement.")]
    Several(usize),
    #[error("Only SELECT statements can run, as this server only reads. Send a SELECT statement.")]
    NotSelect,
    #[error("A part of the statement writes, and this server only reads. Leave that part out.")]
    Writes,
    #[error("SELECT INTO makes a table, and this server only reads. Leave INTO out.")]
    Into,
    #[error("FOR UPDATE and FOR SHARE lock rows, and this server only reads. Leave the lock out.")]
    Lock,
    #[error("The function {0} can't be called here, as it may do more than read.")]
    Function(String),
    #[error("The placeholder {0} has no value. Write the value itself into the statement.")]
    Placeholder(String),
    #[error("This clause is not part of the SQL of this database. Use plain SELECT clauses.")]
    Foreign,
    #[error("The SQL can't be checked right now. Try again in a moment.")]
    Thread(#[source] io::Error),
}

impl ReadOnly {
    pub(crate) fn parse(sql: &str, kind: Kind) -> Result<Self, Refusal> {
        if sql.len() > MAX_SQL_BYTES {
            return Err(Refusal::TooLong);
        }
        // `1+1+1+…` nests as deep as it is long, and walking, printing and dropping it recurse.
        thread::scope(|scope| {
            thread::Builder::new()
                .name("sql-gate".to_owned())
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, || check(sql, kind))
                .map_err(Refusal::Thread)?
                .join()
                .unwrap_or_else(|_| Err(Refusal::Syntax("the parser failed".to_owned())))
        })
    }
}

impl fmt::Display for ReadOnly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check(sql: &str, kind: Kind) -> Result<ReadOnly, Refusal> {
    let dialect: &dyn Dialect = match kind {
        Kind::Postgres => &PostgreSqlDialect {},
        Kind::Sqlite => &SQLiteDialect {},
    };
    let statements = Parser::parse_sql(dialect, sql).map_err(syntax)?;
    let query = match statements.as_slice() {
        [] => return Err(Refusal::Nothing),
        [Statement::Query(query)] => query,
        [_] => return Err(Refusal::NotSelect),
        several => return Err(Refusal::Several(several.len())),
    };
    if !is_select(&query.body) {
        return Err(Refusal::NotSelect);
    }
    match query.visit(&mut OnlyReads { kind }) {
        ControlFlow::Continue(()) => Ok(ReadOnly(query.to_string())),
        ControlFlow::Break(refusal) => Err(refusal),
    }
}

fn syntax(error: ParserError) -> Refusal {
    Refusal::Syntax(match error {
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => message,
        ParserError::RecursionLimitExceeded => "it is nested too deeply".to_owned(),
    })
}

/// Whether the statement as a whole is a SELECT, rather than a bare VALUES or TABLE.
fn is_select(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(_) | SetExpr::SetOperation { .. } => true,
        SetExpr::Query(query) => is_select(&query.body),
        SetExpr::Values(_)
        | SetExpr::Insert(_)
        | SetExpr::Update(_)
        | SetExpr::Delete(_)
        | SetExpr::Merge(_)
        | SetExpr::Table(_) => false,
    }
}

/// Walks a whole query, however deep, and stops at the first thing that does more than read.
struct OnlyReads {
    kind: Kind,
}

impl OnlyReads {
    fn function(&self, name: &ObjectName) -> ControlFlow<Refusal> {
        // The schema doesn't matter: a harmless namesake of a harmful function is rare.
        match name.0.last() {
            Some(ObjectNamePart::Identifier(ident))
                if functions::only_reads(&ident.value, self.kind) =>
            {
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break(Refusal::Function(name.to_string())),
        }
    }
}

impl Visitor for OnlyReads {
    type Break = Refusal;

    /// The walk begins below the statement, so that any other one is within a query.
    fn pre_visit_statement(&mut self, _: &Statement) -> ControlFlow<Refusal> {
        ControlFlow::Break(Refusal::Writes)
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Refusal> {
        if !query.locks.is_empty() {
            ControlFlow::Break(Refusal::Lock)
        } else if query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty()
        {
            ControlFlow::Break(Refusal::Foreign)
        } else {
            ControlFlow::Continue(())
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Refusal> {
        match select.into {
            Some(_) => ControlFlow::Break(Refusal::Into),
            None => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<Refusal> {
        match table {
            TableFactor::Table { name, args: Some(_), .. } | TableFactor::Function { name, .. } => {
                self.function(name)
            }
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Refusal> {
        match expr {
            Expr::Function(function) => self.function(&function.name),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_value(&mut self, value: &ValueWithSpan) -> ControlFlow<Refusal> {
        match &value.value {
            Value::Placeholder(name) => ControlFlow::Break(Refusal::Placeholder(name.clone())),
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Ten pages of SQL; longer than a model writes by hand.
const MAX_SQL_BYTES: usize = 16 << 10;

/// 32 KiB for each of the 8,192 levels that fit into the longest SQL, several times what an
/// unoptimised build needs. It is address space; memory is taken only for what is used.
const STACK_BYTES: usize = 256 << 20;

#[cfg(test)]
mod tests;
