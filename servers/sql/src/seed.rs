//! The sample database.

use std::str::FromStr;

use sqlx::{
    Connection, Executor, PgConnection, SqliteConnection, postgres::PgConnectOptions,
    sqlite::SqliteConnectOptions,
};

use crate::{Error, database::Kind, url::DatabaseUrl};

/// Makes the sample tables and their rows where they are missing, and in SQLite the file too.
pub async fn seed(url: &DatabaseUrl) -> Result<(), Error> {
    match url.kind() {
        Kind::Postgres => {
            let options = PgConnectOptions::from_str(url.as_str()).map_err(Error::Url)?;
            let mut connection = PgConnection::connect_with(&options).await.map_err(Error::Seed)?;
            connection.execute(sqlx::raw_sql(POSTGRES_BEGIN)).await.map_err(Error::Seed)?;
            finish(connection).await
        }
        Kind::Sqlite => {
            let options = SqliteConnectOptions::from_str(url.as_str())
                .map_err(Error::Url)?
                .create_if_missing(true);
            let mut connection =
                SqliteConnection::connect_with(&options).await.map_err(Error::Seed)?;
            connection.execute(sqlx::raw_sql(SQLITE_BEGIN)).await.map_err(Error::Seed)?;
            finish(connection).await
        }
    }
}

async fn finish<C>(mut connection: C) -> Result<(), Error>
where
    C: Connection,
    for<'c> &'c mut C: Executor<'c, Database = C::Database>,
{
    connection.execute(sqlx::raw_sql(SAMPLE)).await.map_err(Error::Seed)?;
    connection.execute(sqlx::raw_sql("COMMIT")).await.map_err(Error::Seed)?;
    connection.close().await.map_err(Error::Seed)
}

const SAMPLE: &str = include_str!("../seed.sql");

/// Two replicas that begin at once would both make the tables; the lock (a number of our own)
/// lets one go first.
const POSTGRES_BEGIN: &str = "BEGIN; SELECT pg_advisory_xact_lock(7266391420)";

const SQLITE_BEGIN: &str = "BEGIN IMMEDIATE";
