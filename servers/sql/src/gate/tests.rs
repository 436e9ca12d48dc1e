use super::*;

fn outcome(sql: &str, kind: Kind) -> String {
    match ReadOnly::parse(sql, kind) {
        Ok(_) => "runs".to_owned(),
        Err(refusal) => {
            let name = format!("{refusal:?}");
            name.split(['(', ' ']).next().unwrap().to_owned()
        }
    }
}

const BOTH: [Kind; 2] = [Kind::Postgres, Kind::Sqlite];

#[test]
fn selects_run_on_either_database() {
    for sql in [
        "SELECT 1",
        "select * from employees;",
        "SELECT name FROM employees WHERE salary > 1e5 ORDER BY name LIMIT 2 OFFSET 1",
        "(SELECT 1)",
        "SELECT 1 UNION ALL SELECT 2 EXCEPT SELECT 3",
        "SELECT 1 UNION VALUES (2)",
        "SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS v",
        "WITH a AS (SELECT 1 AS x), b AS (SELECT x FROM a) SELECT * FROM b",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 9) SELECT * FROM n",
        "SELECT department, count(*) FROM employees GROUP BY department HAVING count(*) > 1",
        "SELECT rank() OVER (PARTITION BY department ORDER BY salary) FROM employees",
        "SELECT 'DELETE FROM employees; DROP TABLE employees'",
        "SELECT 1 -- ; DELETE FROM employees",
        "SELECT 1 /* ; DELETE FROM employees */",
        "SELECT \"delete\" FROM \"update\"",
        "SELECT CASE WHEN EXISTS (SELECT 1) THEN 1 ELSE (SELECT 2) END",
    ] {
        for kind in BOTH {
            assert_eq!(outcome(sql, kind), "runs", "{kind:?}: {sql}");
        }
    }
}

#[test]
fn what_does_more_than_read_is_refused_on_either_database() {
    for (sql, refusal) in [
        ("", "Nothing"),
        ("-- nothing", "Nothing"),
        (";;", "Nothing"),
        ("SELECT 1; SELECT 2", "Several"),
        ("SELECT 1; DELETE FROM employees", "Several"),
        ("SELEC 1", "Syntax"),
        ("SELECT 'unterminated", "Syntax"),
        ("SELECT 1 FROM", "Syntax"),
        ("INSERT INTO employees VALUES (1)", "NotSelect"),
        ("UPDATE employees SET salary = 0", "NotSelect"),
        ("DELETE FROM employees", "NotSelect"),
        ("DROP TABLE employees", "NotSelect"),
        ("CREATE TABLE t (i INTEGER)", "NotSelect"),
        ("CREATE TABLE t AS SELECT 1", "NotSelect"),
        ("EXPLAIN SELECT 1", "NotSelect"),
        ("VALUES (1)", "NotSelect"),
        ("COMMIT", "NotSelect"),
        ("WITH x AS (SELECT 1) DELETE FROM employees", "NotSelect"),
        ("WITH x AS (SELECT 1) INSERT INTO employees SELECT * FROM x", "NotSelect"),
        ("WITH x AS (DELETE FROM employees RETURNING id) SELECT * FROM x", "Writes"),
        ("WITH x AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM x", "Writes"),
        ("WITH x AS (UPDATE t SET a = 1 RETURNING *) SELECT * FROM x", "Writes"),
        ("SELECT * FROM (WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x) AS y", "Writes"),
        ("SELECT 1 WHERE 1 IN (WITH x AS (DELETE FROM t RETURNING 1) SELECT * FROM x)", "Writes"),
        ("SELECT * INTO t FROM employees", "Into"),
        ("SELECT 1 UNION SELECT * FROM (SELECT 1 INTO t) AS x", "Into"),
        ("SELECT * FROM employees FOR UPDATE", "Lock"),
        ("SELECT * FROM employees FOR SHARE", "Lock"),
        ("SELECT * FROM (SELECT * FROM employees FOR UPDATE SKIP LOCKED) AS x", "Lock"),
    ] {
        for kind in BOTH {
            assert_eq!(outcome(sql, kind), refusal, "{kind:?}: {sql}");
        }
    }
}

#[test]
fn postgres_functions_that_do_more_than_read_are_refused_wherever_they_stand() {
    for sql in [
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT PG_Read_File('/etc/passwd')",
        "SELECT pg_catalog.pg_read_file('/etc/passwd')",
        "SELECT \"pg_read_file\"('/etc/passwd')",
        "SELECT pg_read_binary_file('x')",
        "SELECT * FROM pg_ls_dir('/')",
        "SELECT * FROM LATERAL pg_ls_dir('/')",
        "SELECT * FROM employees, pg_ls_waldir()",
        "SELECT 1 WHERE pg_terminate_backend(1)",
        "SELECT 1 ORDER BY pg_cancel_backend(1)",
        "SELECT 1 LIMIT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_lock_shared(1)",
        "SELECT count(*) FILTER (WHERE pg_reload_conf()) FROM employees",
        "SELECT sum(nextval('s')) OVER (ORDER BY id) FROM employees",
        "SELECT CASE WHEN true THEN setval('s', 1) END",
        "SELECT set_config('statement_timeout', '0', false)",
        "SELECT lo_import('/etc/passwd')",
        "SELECT lo_export(1, '/tmp/x')",
        "SELECT * FROM dblink('host=x', 'DELETE FROM t') AS t(a int)",
        "SELECT dblink_exec('DELETE FROM t')",
        "SELECT query_to_xml('DELETE FROM t', true, true, '')",
        "SELECT ts_stat('DELETE FROM t')",
        "SELECT pg_notify('a', 'b')",
        "SELECT pg_logical_emit_message(false, 'a', 'b')",
        "SELECT pg_switch_wal()",
        "WITH x AS (SELECT pg_sleep(1), pg_rotate_logfile()) SELECT 1",
        "SELECT ARRAY[lo_unlink(1)]",
        "SELECT (SELECT pg_stat_reset())::text",
        "SELECT coalesce(NULL, concat('a', pg_read_file('x')))",
        "SELECT 1 FROM employees AS a JOIN employees AS b ON lo_get(1) IS NULL",
        "SELECT DISTINCT ON (lo_get(1)) name FROM employees",
        "SELECT count(*) FROM employees GROUP BY ROLLUP (lo_get(1))",
        "SELECT 1 FROM employees GROUP BY 1 HAVING lo_get(1) IS NULL",
        "SELECT sum(id) OVER w FROM employees WINDOW w AS (ORDER BY lo_get(1))",
        "SELECT mode() WITHIN GROUP (ORDER BY lo_get(1)) FROM employees",
        "SELECT array_agg(id ORDER BY lo_get(1)) FROM employees",
        "SELECT 1 UNION VALUES (lo_get(1))",
        "SELECT 1 OFFSET lo_get(1)",
        "SELECT * FROM employees TABLESAMPLE SYSTEM (lo_get(1))",
        "SELECT (ARRAY[1])[lo_get(1)]",
        "SELECT (ARRAY[1])[1:lo_get(1)]",
        "SELECT now() AT TIME ZONE pg_read_file('x')",
        "SELECT extract(year FROM lo_get(1))",
        "SELECT substring('a' FROM lo_get(1)), position('a' IN pg_read_file('x'))",
        "SELECT trim(pg_read_file('x')), overlay('a' PLACING pg_read_file('x') FROM 1)",
        "SELECT 'a' LIKE 'b' ESCAPE 'c' OR 'a' SIMILAR TO pg_read_file('x')",
        "SELECT 1 BETWEEN 0 AND lo_get(1)",
        "SELECT 1 = ANY (ARRAY[lo_get(1)])",
        "SELECT * FROM unnest(ARRAY[lo_get(1)]) WITH ORDINALITY",
        "SELECT * FROM generate_series(1, lo_get(1))",
        "SELECT f(a => lo_get(1))",
        "SELECT (lo_get(1)).x, (SELECT ROW(lo_get(1)))",
        "WITH RECURSIVE n AS (SELECT 1 UNION ALL SELECT lo_get(1) FROM n) SELECT * FROM n",
        "SELECT * FROM employees AS a, LATERAL (SELECT lo_get(a.id)) AS b",
        "SELECT * FROM XMLTABLE('/x' PASSING pg_read_file('x') COLUMNS a int)",
    ] {
        assert_eq!(outcome(sql, Kind::Postgres), "Function", "{sql}");
    }
}

#[test]
fn postgres_functions_that_only_read_run() {
    for sql in [
        "SELECT pg_sleep(1)",
        "SELECT now(), current_user, version(), current_setting('TimeZone')",
        "SELECT pg_typeof(1), pg_size_pretty(pg_total_relation_size('employees'))",
        "SELECT pg_get_viewdef('v'::regclass)",
        "SELECT * FROM generate_series(1, 3) AS g(i), unnest(ARRAY[1, 2]) AS u",
        "SELECT jsonb_path_query('[1]'::jsonb, '$[*]'), '{\"a\": 1}'::jsonb -> 'a', '{1,2}'::int[]",
        "SELECT DISTINCT ON (department) name FROM employees ORDER BY department, hired_on",
        "SELECT extract(year FROM hired_on), hired_on + interval '1 day' FROM employees",
        "SELECT string_agg(name, ', ' ORDER BY name) FROM employees WHERE name ILIKE 'a%'",
        "SELECT $$it's; quoted$$, E'a\\nb', U&'\\0061'",
    ] {
        assert_eq!(outcome(sql, Kind::Postgres), "runs", "{sql}");
    }
}

#[test]
fn sqlite_functions_and_statements_that_do_more_than_read_are_refused() {
    for (sql, refusal) in [
        ("SELECT load_extension('x')", "Function"),
        ("SELECT writefile('x', 'y')", "Function"),
        ("SELECT readfile('x')", "Function"),
        ("SELECT 1 WHERE Load_Extension('x', 'y') IS NULL", "Function"),
        ("ATTACH DATABASE 'x' AS y", "NotSelect"),
        ("PRAGMA query_only = 0", "NotSelect"),
        ("VACUUM", "NotSelect"),
    ] {
        assert_eq!(outcome(sql, Kind::Sqlite), refusal, "{sql}");
    }
}

#[test]
fn placeholders_are_refused_as_nothing_fills_them() {
    assert_eq!(outcome("SELECT $1", Kind::Postgres), "Placeholder");
    assert_eq!(outcome("SELECT ?", Kind::Sqlite), "Placeholder");
    assert_eq!(outcome("SELECT :name", Kind::Sqlite), "Placeholder");
}

#[test]
fn what_runs_is_what_was_understood() {
    let sql = "select 1 /* ; */, 'it''s' -- ; drop\n, \"a\"\"b\" from t where a<>b";

    let runs = ReadOnly::parse(sql, Kind::Postgres).unwrap().to_string();

    assert_eq!(runs, "SELECT 1, 'it''s', \"a\"\"b\" FROM t WHERE a <> b");
}

#[test]
fn the_deepest_statement_that_fits_does_not_overflow_the_stack() {
    let long = |piece: &str, end: &str| {
        let pieces = (MAX_SQL_BYTES - "SELECT ".len() - end.len()) / piece.len();
        format!("SELECT {}{end}", piece.repeat(pieces))
    };

    assert_eq!(outcome(&long("1+", "1"), Kind::Postgres), "runs");
    assert_eq!(outcome(&long("1 UNION SELECT ", "1"), Kind::Postgres), "runs");
    assert_eq!(outcome(&long("a.", "a"), Kind::Postgres), "runs");
    assert_eq!(outcome(&long("(", "1"), Kind::Postgres), "Syntax");
    assert_eq!(outcome(&long("-", "1"), Kind::Sqlite), "Syntax");
    assert_eq!(outcome(&format!("{}1", long("1+", "1")), Kind::Postgres), "TooLong");
}
