//! The database: where it is, how a session with it begins, and what it is asked.
//!
//! Each call gets a session of its own, in a read-only transaction, which ends with the call. So
//! nothing carries over from one caller to the next, no session outlives a restart of the
//! database, and an answer that nobody wants the rest of is dropped with its connection.

use std::{str::FromStr, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection,
    postgres::PgConnectOptions, sqlite::SqliteConnectOptions,
};
use tokio::{
    sync::Semaphore,
    task::spawn_blocking,
    time::{Instant, timeout},
};

use crate::{
    failure::Failure,
    gate::{ReadOnly, Refusal},
    output::Limits,
    session::{self, Catalog},
    url::DatabaseUrl,
};

#[derive(Debug)]
pub(crate) struct Database {
    address: Address,
    statement_timeout: Duration,
    limits: Limits,
    sessions: Semaphore,
}

/// Which SQL a database speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Postgres,
    Sqlite,
}

enum Address {
    Postgres(PgConnectOptions),
    Sqlite(SqliteConnectOptions),
}

/// The options hold the password, so that they are never shown.
impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Postgres(_) => "Postgres",
            Self::Sqlite(_) => "Sqlite",
        })
    }
}

enum Session {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

impl Database {
    /// Connects to nothing yet.
    pub(crate) fn new(
        url: &DatabaseUrl,
        statement_timeout: Duration,
        limits: Limits,
    ) -> Result<Self, sqlx::Error> {
        let address = match url.kind() {
            Kind::Postgres => {
                let options = PgConnectOptions::from_str(url.as_str())?;
                Address::Postgres(options.application_name(env!("CARGO_PKG_NAME")))
            }
            Kind::Sqlite => {
                let options = SqliteConnectOptions::from_str(url.as_str())?
                    .read_only(true)
                    .create_if_missing(false)
                    .pragma("query_only", "ON")
                    // Shared by all sessions: no statement can take the process down.
                    .pragma("hard_heap_limit", SQLITE_HEAP_BYTES);
                Address::Sqlite(options)
            }
        };
        let sessions = Semaphore::new(MAX_SESSIONS);
        Ok(Self { address, statement_timeout, limits, sessions })
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.address {
            Address::Postgres(_) => Kind::Postgres,
            Address::Sqlite(_) => Kind::Sqlite,
        }
    }

    pub(crate) async fn query(&self, sql: String) -> Result<String, Failure> {
        let (kind, limits) = (self.kind(), self.limits);
        self.in_time(async {
            let sql = &spawn_blocking(move || ReadOnly::parse(&sql, kind))
                .await
                .map_err(|error| Refusal::Thread(error.into()))??;
            match self.begin().await? {
                Session::Postgres(mut session) => {
                    session::query(&mut session, sql, postgres_cell, limits).await
                }
                Session::Sqlite(mut session) => {
                    session::query(&mut session, sql, sqlite_cell, limits).await
                }
            }
        })
        .await
    }

    pub(crate) async fn list_tables(&self) -> Result<String, Failure> {
        let catalog = match self.kind() {
            Kind::Postgres => Catalog { sql: POSTGRES_TABLES, table: None },
            Kind::Sqlite => Catalog { sql: SQLITE_TABLES, table: None },
        };
        let lines = self.catalog(catalog).await?;
        Ok(if lines.is_empty() { "(no tables)".to_owned() } else { lines })
    }

    pub(crate) async fn describe_table(&self, table: &str) -> Result<String, Failure> {
        let catalog = match self.kind() {
            Kind::Postgres => Catalog { sql: POSTGRES_COLUMNS, table: Some(table) },
            Kind::Sqlite => Catalog { sql: SQLITE_COLUMNS, table: Some(table) },
        };
        let lines = self.catalog(catalog).await?;
        if lines.is_empty() { Err(Failure::UnknownTable(table.to_owned())) } else { Ok(lines) }
    }

    /// Whether the database answers, within what a probe waits for.
    pub(crate) async fn is_there(&self) -> bool {
        matches!(timeout(PROBE_TIMEOUT, self.begin()).await, Ok(Ok(_)))
    }

    async fn catalog(&self, catalog: Catalog<'_>) -> Result<String, Failure> {
        let limits = self.limits;
        self.in_time(async {
            match self.begin().await? {
                Session::Postgres(mut session) => {
                    session::catalog(&mut session, catalog, limits).await
                }
                Session::Sqlite(mut session) => {
                    session::catalog(&mut session, catalog, limits).await
                }
            }
        })
        .await
    }

    /// The database ends a statement that takes too long; should it not, or should it not even
    /// let us in, then we stop waiting.
    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let work = async {
            let _permit = self.sessions.acquire().await.expect("the semaphore is never closed");
            work.await
        };
        let result = timeout(self.statement_timeout + LATENCY, work).await;
        match result.unwrap_or(Err(Failure::TimedOut)) {
            Err(Failure::TimedOut) => Err(Failure::TooSlow(self.statement_timeout)),
            result => result,
        }
    }

    async fn begin(&self) -> Result<Session, Failure> {
        match &self.address {
            Address::Postgres(options) => {
                let mut session = PgConnection::connect_with(options)
                    .await
                    .map_err(|error| Failure::away(&error))?;
                let milliseconds = self.statement_timeout.as_millis();
                // The gate writes strings by the standard, whatever the server's default.
                let begin = format!(
                    "BEGIN READ ONLY; SET LOCAL statement_timeout = {milliseconds}; \
                     SET LOCAL standard_conforming_strings = on"
                );
                session
                    .execute(sqlx::raw_sql(AssertSqlSafe(begin)))
                    .await
                    .map_err(|error| Failure::away(&error))?;
                Ok(Session::Postgres(session))
            }
            Address::Sqlite(options) => {
                let mut session = SqliteConnection::connect_with(options)
                    .await
                    .map_err(|error| Failure::away(&error))?;
                let deadline = Instant::now() + self.statement_timeout;
                let mut handle =
                    session.lock_handle().await.map_err(|error| Failure::away(&error))?;
                handle.set_progress_handler(SQLITE_STEPS, move || Instant::now() < deadline);
                drop(handle);
                session.execute("BEGIN").await.map_err(|error| Failure::away(&error))?;
                Ok(Session::Sqlite(session))
            }
        }
    }
}

/// The column as text of at most so many characters, cut by the database rather than by us.
fn postgres_cell(column: &str, characters: usize) -> String {
    format!("left({column}::text, {characters})")
}

/// The same in SQLite, where a blob would otherwise be taken for text.
fn sqlite_cell(column: &str, characters: usize) -> String {
    format!(
        "CASE typeof({column}) WHEN 'blob' THEN '\\x' || lower(hex(substr({column}, 1, {characters}))) \
         ELSE substr(CAST({column} AS TEXT), 1, {characters}) END"
    )
}

/// Tables that need no schema in front of them are named without one.
const POSTGRES_TABLES: &str = "
    SELECT CASE WHEN pg_table_is_visible(c.oid) THEN c.relname ELSE n.nspname || '.' || c.relname END
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
      AND has_table_privilege(c.oid, 'SELECT')
    ORDER BY 1";

const POSTGRES_COLUMNS: &str = "
    SELECT a.attname || ' (' || format_type(a.atttypid, a.atttypmod) || '), '
        || CASE WHEN a.attnotnull THEN 'not null' ELSE 'may be null' END
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE ((pg_table_is_visible(c.oid) AND c.relname = $1) OR n.nspname || '.' || c.relname = $1)
      AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY c.oid, a.attnum";

const SQLITE_TABLES: &str = "
    SELECT name FROM sqlite_schema
    WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'
    ORDER BY 1";

/// A primary key counts as not null: it is so in every table that was made with care.
const SQLITE_COLUMNS: &str = "
    SELECT name || ' (' || lower(CASE type WHEN '' THEN 'any' ELSE type END) || '), '
        || CASE WHEN \"notnull\" OR pk THEN 'not null' ELSE 'may be null' END
    FROM pragma_table_info(?1)
    ORDER BY cid";

/// A model asks one thing at a time; more sessions would only wear the database out.
const MAX_SESSIONS: usize = 8;

/// What connecting and the network may take on top of the statement itself.
const LATENCY: Duration = Duration::from_secs(5);

/// Kubernetes gives a probe one second unless told otherwise.
const PROBE_TIMEOUT: Duration = Duration::from_millis(900);

/// 64 MiB.
const SQLITE_HEAP_BYTES: &str = "67108864";

/// Virtual machine steps between two looks at the clock: well under a millisecond.
const SQLITE_STEPS: i32 = 1000;
