//! Why there is no answer, as a sentence that tells a model what to do.

use std::time::Duration;

use crate::gate::Refusal;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("The database can't be reached right now. Try again in a moment.")]
    Away,
    #[error("The statement was stopped.")]
    TimedOut,
    #[error("The statement was stopped as it took longer than {0:?}. Narrow or simplify it.")]
    TooSlow(Duration),
    #[error("The statement needs too much memory. Narrow or simplify it.")]
    TooLarge,
    #[error("There is no table {0}. Use list_tables to see what there is.")]
    UnknownTable(String),
    #[error("The statement selects no columns. Select at least one.")]
    NoColumns,
    #[error("The database says: {0}. Correct the statement and try again.")]
    Database(String),
}

impl Failure {
    /// For what fails before anything of the caller's has run: no detail is of use to them, and
    /// it may tell of the database's address.
    pub(crate) fn away(error: &sqlx::Error) -> Self {
        tracing::warn!(%error, "the database is away");
        Self::Away
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(database) => match database.code().as_deref() {
                Some(POSTGRES_QUERY_CANCELED | SQLITE_INTERRUPT) => Self::TimedOut,
                Some(POSTGRES_OUT_OF_MEMORY | SQLITE_NOMEM | SQLITE_TOOBIG) => Self::TooLarge,
                // The database is going down, starting up, or has ended our session.
                Some(code) if code.starts_with("57P") => {
                    Self::away(&sqlx::Error::Database(database))
                }
                _ => Self::Database(database.message().to_owned()),
            },
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
                Self::Database("a value is not valid UTF-8 text".to_owned())
            }
            error => Self::away(&error),
        }
    }
}

const POSTGRES_QUERY_CANCELED: &str = "57014";
const POSTGRES_OUT_OF_MEMORY: &str = "53200";
const SQLITE_NOMEM: &str = "7";
const SQLITE_INTERRUPT: &str = "9";
const SQLITE_TOOBIG: &str = "18";
