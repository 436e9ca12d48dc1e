//! The server on PostgreSQL. Each test starts a PostgreSQL of its own.

#![allow(clippy::panic, clippy::unwrap_used)]

#[path = "support/postgres.rs"]
mod cluster;
mod support;

use std::time::Duration;

use axum::http::StatusCode;
use serde_json::json;
use server_sql::{Config, router, seed};
use sqlx::{Connection, Executor, PgConnection};
use tokio::time::Instant;

use crate::{
    cluster::{PASSWORD, Postgres},
    support::{McpClient, Server, lifecycles, text, tools_call},
};

fn config(postgres: &Postgres) -> Config {
    Config::new(postgres.url().parse().unwrap())
}

async fn connect(config: &Config) -> McpClient {
    let [(_, lifecycle), _] = lifecycles();
    McpClient::connect(router(config).unwrap(), lifecycle).await
}

#[tokio::test]
async fn clients_of_both_eras_read_the_sample() {
    let postgres = Postgres::start();
    let config = config(&postgres);
    let (first, second) = tokio::join!(seed(&config.database_url), seed(&config.database_url));
    assert!(first.is_ok() && second.is_ok(), "seeding twice at once: {first:?} {second:?}");
    for (name, lifecycle) in lifecycles() {
        let client = McpClient::connect(router(&config).unwrap(), lifecycle).await;

        let tables = client.call("list_tables", json!({})).await;
        assert_eq!(text(&tables), "employees\nproject_members\nprojects", "{name}");
        for table in ["employees", "public.employees"] {
            let columns = client.call("describe_table", json!({ "table": table })).await;
            assert_eq!(
                text(&columns),
                "id (integer), not null\nname (text), not null\nemail (text), not null\n\
                 department (text), not null\nhired_on (date), not null\n\
                 salary (numeric(10,2)), not null\nmanager_id (integer), may be null",
                "{name}: {table}"
            );
        }
        let rows = client.rows("SELECT id, name, manager_id FROM employees WHERE id < 3").await;
        assert_eq!(
            rows,
            "id | name | manager_id\n----------------------\n1 | Ada Osei | NULL\n2 | Bruno Keller | 1",
            "{name}"
        );
        let none = client.rows("SELECT * FROM employees WHERE id = 0").await;
        assert_eq!(none, "(no rows)", "{name}");
        for (table, rows) in [("employees", 5), ("projects", 3), ("project_members", 5)] {
            let count = client.rows(&format!("SELECT count(*) AS n FROM {table}")).await;
            assert_eq!(count, format!("n\n-\n{rows}"), "{name}: {table}");
        }
    }
}

#[tokio::test]
async fn every_common_type_prints() {
    let postgres = Postgres::start();
    let client = connect(&config(&postgres)).await;

    for (sql, value) in [
        ("SELECT 42::smallint, 42::int, 42::bigint", "42 | 42 | 42"),
        ("SELECT 12345678901234567890.1230::numeric", "12345678901234567890.1230"),
        ("SELECT 0.1::real, 0.1::double precision", "0.1 | 0.1"),
        ("SELECT 'NaN'::float8, 'Infinity'::numeric", "NaN | Infinity"),
        ("SELECT true, false, NULL::bool", "true | false | NULL"),
        (
            "SELECT 'grüß'::text, 'v'::varchar(3), 'c'::char(3), '\"x\"'::name",
            "grüß | v | c | \"x\"",
        ),
        (
            "SELECT 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ),
        ("SELECT '2026-11-21'::date, '09:30:01.5'::time", "2026-11-21 | 09:30:01.5"),
        ("SELECT '2026-11-21 09:30'::timestamp", "2026-11-21 09:30:00"),
        ("SELECT '2026-11-21 09:30+02'::timestamptz", "2026-11-21 07:30:00+00"),
        ("SELECT '1 day 02:00'::interval", "1 day 02:00:00"),
        ("SELECT '{\"b\": 1, \"a\":2}'::json", "{\"b\": 1, \"a\":2}"),
        ("SELECT '{\"b\": 1, \"a\":2}'::jsonb", "{\"a\": 2, \"b\": 1}"),
        ("SELECT '\\x00ff'::bytea", "\\x00ff"),
        ("SELECT ARRAY[1, NULL, 3], ARRAY['a b', 'c']", "{1,NULL,3} | {\"a b\",c}"),
        ("SELECT '10.0.0.1/8'::inet, 'm'::\"char\", 1::oid", "10.0.0.1/8 | m | 1"),
        ("SELECT int4range(1, 5), point(1, 2), '1.50'::money", "[1,5) | (1,2) | $1.50"),
        (
            "SELECT ROW(1, 'a'), 'pg_class'::regclass, B'101', '<a/>'::xml",
            "(1,a) | pg_class | 101 | <a/>",
        ),
        ("SELECT 'mood'::\"fruit's\"", "mood"),
        ("SELECT pg_sleep(0), 'unknown', '{}'::int[]", " | unknown | {}"),
        ("SELECT 1 AS a, 2 AS a", "1 | 2"),
    ] {
        if sql.contains("fruit") {
            let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
            connection.execute("CREATE TYPE \"fruit's\" AS ENUM ('mood')").await.unwrap();
        }
        let answer = client.rows(sql).await;
        assert_eq!(answer.splitn(3, '\n').nth(2).unwrap(), value, "{sql}");
    }
}

#[tokio::test]
async fn rows_come_in_the_order_that_was_asked_for() {
    let postgres = Postgres::start();
    let client = connect(&config(&postgres)).await;

    let answer = client
        .rows("SELECT i FROM generate_series(1, 50) AS g(i) ORDER BY i % 2, i DESC LIMIT 3")
        .await;

    assert_eq!(answer, "i\n-\n50\n48\n46");
}

#[tokio::test]
async fn long_answers_are_cut_and_say_so() {
    let postgres = Postgres::start();
    let client = connect(&config(&postgres)).await;

    let rows = client.rows("SELECT i FROM generate_series(1, 1000000) AS g(i)").await;
    assert_eq!(rows.lines().count(), 2 + 1000 + 1);
    assert!(rows.contains("\n1000\n[cut: these are the first 1000 rows"), "{rows}");

    for ten_megabytes in [
        "SELECT i, repeat('x', 100000) AS x FROM generate_series(1, 100) AS g(i)",
        "SELECT repeat('x', 10000000) AS x",
        "SELECT repeat('x', 5000000)::bytea AS x",
    ] {
        let answer = client.rows(ten_megabytes).await;
        let (shown, note) = answer.rsplit_once('\n').unwrap();
        assert_eq!(shown.len(), 1 << 20, "{ten_megabytes}");
        assert!(note.starts_with("[cut: these are the first 1048576 bytes"), "{note}");
    }
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_stopped() {
    let postgres = Postgres::start();
    let config = Config { statement_timeout: Duration::from_secs(1), ..config(&postgres) };
    let client = connect(&config).await;
    let begun = Instant::now();

    let refusal = client.refusal("SELECT pg_sleep(60)").await;

    assert!(refusal.contains("took longer than 1s"), "{refusal}");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_gets_past_the_parser_still_can_not_write() {
    let postgres = Postgres::start();
    let config = config(&postgres);
    seed(&config.database_url).await.unwrap();
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    let function = "CREATE FUNCTION innocent() RETURNS int LANGUAGE sql VOLATILE
        AS 'DELETE FROM project_members; SELECT 1'";
    connection.execute(function).await.unwrap();
    let client = connect(&config).await;

    let refusal = client.refusal("SELECT innocent()").await;

    assert!(refusal.contains("cannot execute DELETE in a read-only transaction"), "{refusal}");
    let count = client.rows("SELECT count(*) AS n FROM project_members").await;
    assert_eq!(count, "n\n-\n5");
}

#[tokio::test]
async fn strings_are_the_same_strings_whatever_the_server_takes_for_an_escape() {
    let postgres = Postgres::start();
    let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
    connection
        .execute("ALTER DATABASE postgres SET standard_conforming_strings = off")
        .await
        .unwrap();
    let client = connect(&config(&postgres)).await;

    let answer = client.rows(r"SELECT 'a\' AS a, ') SELECT 1; --' AS b").await;

    assert_eq!(answer, "a | b\n-----\na\\ | ) SELECT 1; --");
}

#[tokio::test]
async fn what_is_wrong_is_said_in_a_result_without_the_url() {
    let postgres = Postgres::start();
    let config = config(&postgres);
    seed(&config.database_url).await.unwrap();
    let client = connect(&config).await;

    for (sql, part) in [
        ("SELECT * FROM employee", "relation \"employee\" does not exist"),
        ("SELECT wages FROM employees", "column \"wages\" does not exist"),
        ("SELECT 1 / 0", "division by zero"),
        ("SELECT FROM employees", "no columns"),
        ("SELEC", "can't be parsed"),
        ("DELETE FROM employees", "Only SELECT statements"),
        ("SELECT pg_read_file('/etc/passwd')", "pg_read_file can't be called"),
    ] {
        let refusal = client.refusal(sql).await;
        assert!(refusal.contains(part), "{sql}: {refusal}");
        assert!(!refusal.contains(PASSWORD) && !refusal.contains("127.0.0.1"), "{sql}: {refusal}");
    }
    let unknown = client.call("describe_table", json!({ "table": "x' OR 1=1 --" })).await;
    assert_eq!(unknown.is_error, Some(true));
    assert!(text(&unknown).contains("Use list_tables"), "{}", text(&unknown));
}

#[tokio::test]
async fn the_server_outlives_its_database() {
    let postgres = Postgres::stopped();
    let server = Server::start(router(&config(&postgres)).unwrap()).await;
    let query = tools_call("query", &json!({ "sql": "SELECT 1 AS one" }));

    for round in 1..=2 {
        server.wait_for_health(StatusCode::SERVICE_UNAVAILABLE).await;
        let away = server.post(&query).await.json().await;
        assert_eq!(away["result"]["isError"], true, "round {round}: {away}");
        let message = away["result"]["content"][0]["text"].as_str().unwrap();
        assert!(message.contains("can't be reached right now"), "round {round}: {message}");
        assert!(!message.contains(PASSWORD), "round {round}: {message}");

        postgres.launch();
        server.wait_for_health(StatusCode::OK).await;
        let there = server.post(&query).await.json().await;
        assert_eq!(there["result"]["content"][0]["text"], "one\n---\n1", "round {round}: {there}");

        postgres.stop();
    }
}
