//! Where the database is. It may hold a password, so that it is never shown.

use std::{convert::Infallible, fmt, path::Path, str::FromStr};

use crate::database::Kind;

/// `postgres://…`, or `sqlite:` and the path of a file.
#[derive(Clone)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The SQLite database in this file.
    pub fn sqlite_file(path: &Path) -> Self {
        Self(format!("{SQLITE_SCHEME}{}", path.display()))
    }

    /// Whether it is a PostgreSQL, and not a SQLite file.
    pub fn is_postgres(&self) -> bool {
        self.kind() == Kind::Postgres
    }

    pub(crate) fn kind(&self) -> Kind {
        if self.0.starts_with(SQLITE_SCHEME) { Kind::Sqlite } else { Kind::Postgres }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether the URL is right is found out by [`router`](crate::router): an error here would have
/// clap print the value.
impl FromStr for DatabaseUrl {
    type Err = Infallible;

    fn from_str(url: &str) -> Result<Self, Infallible> {
        Ok(Self(url.to_owned()))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl(…)")
    }
}

const SQLITE_SCHEME: &str = "sqlite:";
