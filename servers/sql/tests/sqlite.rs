//! The server on SQLite, its embedded database.

#![allow(clippy::panic, clippy::unwrap_used)]

mod support;

use std::{path::Path, time::Duration};

use axum::http::StatusCode;
use serde_json::json;
use server_sql::{Config, DatabaseUrl, router, seed};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::{McpClient, Server, lifecycles, text, tools_call};

async fn sample() -> (TempDir, Config) {
    let directory = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::sqlite_file(&directory.path().join("sample.db"));
    seed(&url).await.unwrap();
    (directory, Config::new(url))
}

async fn connect(config: &Config) -> McpClient {
    let [(_, lifecycle), _] = lifecycles();
    McpClient::connect(router(config).unwrap(), lifecycle).await
}

#[tokio::test]
async fn clients_of_both_eras_read_the_sample() {
    let (_directory, config) = sample().await;
    seed(&config.database_url).await.expect("seeding twice is as good as once");
    for (name, lifecycle) in lifecycles() {
        let client = McpClient::connect(router(&config).unwrap(), lifecycle).await;

        let tables = client.call("list_tables", json!({})).await;
        assert_eq!(text(&tables), "employees\nproject_members\nprojects", "{name}");
        let columns = client.call("describe_table", json!({ "table": "projects" })).await;
        assert_eq!(
            text(&columns),
            "id (integer), not null\nname (text), not null\nlead_id (integer), not null\n\
             started_on (date), not null\nended_on (date), may be null",
            "{name}"
        );
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
async fn exactly_three_tools_that_only_read() {
    let (_directory, config) = sample().await;
    let client = connect(&config).await;

    let tools = client.peer.list_all_tools().await.unwrap();

    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_ref()).collect();
    assert_eq!(names, ["describe_table", "list_tables", "query"]);
    for tool in &tools {
        let hints = tool.annotations.as_ref().unwrap();
        assert_eq!(hints.read_only_hint, Some(true), "{}", tool.name);
    }
}

#[tokio::test]
async fn every_kind_of_value_prints() {
    let (_directory, config) = sample().await;
    let client = connect(&config).await;

    for (sql, value) in [
        ("SELECT 42", "42"),
        ("SELECT 2.5", "2.5"),
        ("SELECT NULL", "NULL"),
        ("SELECT ''", ""),
        ("SELECT 'grüß | dich'", "grüß | dich"),
        ("SELECT x'00ff10'", "\\x00ff10"),
        ("SELECT salary FROM employees WHERE id = 3", "92750.5"),
        ("SELECT hired_on FROM employees WHERE id = 3", "2021-01-11"),
        ("SELECT json_extract('{\"a\": [1, 2]}', '$.a')", "[1,2]"),
        ("SELECT true", "1"),
        ("SELECT 1 AS a, 2 AS a", "1 | 2"),
    ] {
        let answer = client.rows(sql).await;
        assert_eq!(answer.splitn(3, '\n').nth(2).unwrap(), value, "{sql}");
    }
}

#[tokio::test]
async fn rows_come_in_the_order_that_was_asked_for() {
    let (_directory, config) = sample().await;
    let client = connect(&config).await;

    for sql in [
        "SELECT name FROM employees ORDER BY salary",
        "WITH e AS (SELECT * FROM employees) SELECT name FROM e ORDER BY salary",
        "SELECT name FROM employees UNION SELECT 'Nobody' ORDER BY name DESC",
    ] {
        let answer = client.rows(sql).await;
        let first = answer.lines().nth(2).unwrap();
        assert!(["Emi Tanaka", "Nobody"].contains(&first), "{sql}: {answer}");
    }
}

#[tokio::test]
async fn long_answers_are_cut_and_say_so() {
    let (_directory, config) = sample().await;
    let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 10000)";
    let client = connect(&config).await;

    let rows = client.rows(&format!("{numbers} SELECT i FROM n")).await;
    assert_eq!(rows.lines().count(), 2 + 1000 + 1);
    assert!(rows.contains("\n1000\n[cut: these are the first 1000 rows"), "{rows}");

    for ten_megabytes in [
        format!("{numbers} SELECT i, printf('%.*c', 100000, 'x') AS x FROM n LIMIT 100"),
        "SELECT printf('%.*c', 10000000, 'x') AS x".to_owned(),
        "SELECT zeroblob(10000000) AS x".to_owned(),
    ] {
        let answer = client.rows(&ten_megabytes).await;
        let (shown, note) = answer.rsplit_once('\n').unwrap();
        assert_eq!(shown.len(), 1 << 20, "{ten_megabytes}");
        assert!(note.starts_with("[cut: these are the first 1048576 bytes"), "{note}");
    }

    let small = Config { max_rows: 2, max_bytes: 100, ..config };
    let client = connect(&small).await;
    let rows = client.rows("SELECT id FROM employees").await;
    assert!(rows.starts_with("id\n--\n1\n2\n[cut: these are the first 2 rows"), "{rows}");
    let bytes = client.rows("SELECT printf('%.*c', 100, 'x') AS x").await;
    assert!(bytes.contains("\n[cut: these are the first 100 bytes"), "{bytes}");
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_stopped() {
    let (_directory, config) = sample().await;
    let config = Config { statement_timeout: Duration::from_secs(1), ..config };
    let client = connect(&config).await;
    let begun = Instant::now();

    let refusal = client
        .refusal(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
             SELECT count(*) FROM n",
        )
        .await;

    assert!(refusal.contains("took longer than 1s"), "{refusal}");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_statement_that_needs_too_much_memory_is_stopped() {
    let (_directory, config) = sample().await;
    let client = connect(&config).await;

    let refusal = client.refusal("SELECT length(hex(zeroblob(400000000)))").await;

    assert!(refusal.contains("too much memory"), "{refusal}");
    assert_eq!(client.rows("SELECT 1 AS one").await, "one\n---\n1");
}

#[tokio::test]
async fn what_is_wrong_is_said_in_a_result() {
    let (directory, config) = sample().await;
    let client = connect(&config).await;

    for (sql, part) in [
        ("SELECT * FROM employee", "no such table: employee"),
        ("SELECT wages FROM employees", "no such column: wages"),
        ("SELEC", "can't be parsed"),
        ("DELETE FROM employees", "Only SELECT statements"),
        ("SELECT load_extension('x')", "load_extension can't be called"),
    ] {
        let refusal = client.refusal(sql).await;
        assert!(refusal.contains(part), "{sql}: {refusal}");
        assert!(!refusal.contains(directory.path().to_str().unwrap()), "{sql}: {refusal}");
    }
    let unknown = client.call("describe_table", json!({ "table": "x' OR 1=1 --" })).await;
    assert_eq!(unknown.is_error, Some(true));
    assert!(text(&unknown).contains("Use list_tables"), "{}", text(&unknown));
}

#[tokio::test]
async fn a_database_that_comes_up_later_is_used_then() {
    let directory = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::sqlite_file(&directory.path().join("sample.db"));
    let config = Config::new(url.clone());
    let server = Server::start(router(&config).unwrap()).await;

    server.wait_for_health(StatusCode::SERVICE_UNAVAILABLE).await;
    let body = server.get("/health").await.json().await;
    assert_eq!(body["status"], "unavailable");
    let away = server.post(&tools_call("list_tables", &json!({}))).await.json().await;
    assert_eq!(away["result"]["isError"], true, "{away}");
    assert!(!away.to_string().contains("sample.db"), "{away}");

    seed(&url).await.unwrap();
    server.wait_for_health(StatusCode::OK).await;
    let there = server.post(&tools_call("list_tables", &json!({}))).await;
    assert_eq!(there.headers["content-type"], "application/json");
    assert_eq!(there.json().await["result"]["isError"], false);
}

#[tokio::test]
async fn unknown_tool_is_an_invalid_params_error() {
    let (_directory, config) = sample().await;
    let server = Server::start(router(&config).unwrap()).await;

    let answer = server.post(&tools_call("execute", &json!({}))).await.json().await;

    assert_eq!(answer["error"]["code"], -32602, "{answer}");
}

#[test]
fn the_url_is_not_shown() {
    let url: DatabaseUrl = "postgres://user:hunter2@db/sales".parse().unwrap();
    let bad: DatabaseUrl = "postgres://user:hunter2@db:port/sales".parse().unwrap();

    let shown = format!("{:?}", Config::new(url));
    let error = router(&Config::new(bad)).unwrap_err();

    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
    assert!(!format!("{:?}", DatabaseUrl::sqlite_file(Path::new("a"))).contains("sqlite"));
}
