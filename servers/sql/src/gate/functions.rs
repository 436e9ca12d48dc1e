//! Which functions only read.
//!
//! A read-only transaction stops writes to tables, and nothing else: functions still read the
//! server's files, end other sessions, take locks, and run SQL that is handed to them as text.

use crate::database::Kind;

/// Whether a function of this name, of any schema, is known or assumed to only read.
pub(crate) fn only_reads(name: &str, kind: Kind) -> bool {
    let name = name.to_ascii_lowercase();
    let within = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    match kind {
        // pg_* is how PostgreSQL names what administers it: there, only known names pass.
        Kind::Postgres if name.starts_with("pg_") => {
            PG_READS.contains(&name.as_str()) || within(PG_READS_PREFIXES)
        }
        Kind::Postgres => !POSTGRES_DENIED.contains(&name.as_str()) && !within(POSTGRES_PREFIXES),
        Kind::Sqlite => !SQLITE_DENIED.contains(&name.as_str()),
    }
}

const PG_READS: &[&str] = &[
    "pg_backend_pid",
    "pg_char_to_encoding",
    "pg_client_encoding",
    "pg_collation_is_visible",
    "pg_column_compression",
    "pg_column_size",
    "pg_conf_load_time",
    "pg_current_snapshot",
    "pg_database_size",
    "pg_describe_object",
    "pg_encoding_to_char",
    "pg_function_is_visible",
    "pg_has_role",
    "pg_index_column_has_property",
    "pg_indexes_size",
    "pg_input_is_valid",
    "pg_is_in_recovery",
    "pg_is_other_temp_schema",
    "pg_my_temp_schema",
    "pg_operator_is_visible",
    "pg_options_to_table",
    "pg_partition_ancestors",
    "pg_partition_root",
    "pg_partition_tree",
    "pg_postmaster_start_time",
    "pg_relation_size",
    "pg_size_bytes",
    "pg_size_pretty",
    // Bounded by the statement's timeout.
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "pg_table_is_visible",
    "pg_table_size",
    "pg_tablespace_size",
    "pg_timezone_abbrevs",
    "pg_timezone_names",
    "pg_total_relation_size",
    "pg_trigger_depth",
    "pg_type_is_visible",
    "pg_typeof",
];

const PG_READS_PREFIXES: &[&str] = &["pg_get_", "pg_stat_get_"];

const POSTGRES_DENIED: &[&str] = &[
    // Run SQL that they are given as text, where nothing checks it.
    "connectby",
    "crosstab",
    "crosstab2",
    "crosstab3",
    "crosstab4",
    "crosstabn",
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "query_to_xml",
    "query_to_xml_and_xmlschema",
    "query_to_xmlschema",
    "ts_rewrite",
    "ts_stat",
    "xpath_table",
    // Settings and sequences.
    "nextval",
    "set_config",
    "setval",
    // Large objects and their files.
    "loread",
    "lowrite",
    // Maintenance.
    "gin_clean_pending_list",
];

const POSTGRES_PREFIXES: &[&str] =
    &["binary_upgrade_", "brin_", "dblink", "heap_force_", "lo_", "postgres_fdw_"];

const SQLITE_DENIED: &[&str] =
    &["edit", "fts3_tokenizer", "fts5", "load_extension", "readfile", "sqlite_dbpage", "writefile"];
