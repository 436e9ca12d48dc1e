//! YAML that people write: bounded, strict, and with mistakes told by their place.

use serde::de::DeserializeOwned;
use serde_json::Value;

use mistake::{shape, syntax};

mod mistake;

pub(crate) use mistake::place;

/// The documents of a file that are not empty.
///
/// # Errors
/// A file that is not YAML, or asks for too much.
pub(crate) fn documents(text: &str) -> Result<Vec<Value>, String> {
    let values: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options())
        .map_err(|error| syntax(error.without_snippet()))?;
    Ok(values.into_iter().filter(|value| !value.is_null()).collect())
}

/// A value of a form in which a field that nobody knows is a mistake, most often in spelling;
/// except where `known` says that somebody else reads it.
///
/// # Errors
/// What is wrong and where, without any value.
pub(crate) fn strict<T: DeserializeOwned>(
    value: Value,
    known: impl Fn(&str) -> bool,
) -> Result<T, String> {
    let mut unknown = Vec::new();
    let mut note = |path: serde_ignored::Path<'_>| unknown.push(path.to_string());
    let value = serde_ignored::Deserializer::new(value, &mut note);
    let read = serde_path_to_error::deserialize(value);
    unknown.retain(|path| !known(path));
    match (read, unknown.first()) {
        (Ok(value), None) => Ok(value),
        (Ok(_), Some(field)) => Err(format!("{UNKNOWN_FIELD}{}", place(field))),
        (Err(error), _) => Err(shape(&error)),
    }
}

/// What a file may ask for: it can be far larger once its aliases are followed.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        with_snippet: false,
        budget: serde_saphyr::budget! {
            // A resource is some 12 deep; each level costs stack.
            max_depth: 64,
            max_aliases: MAX_ALIASES,
            max_total_scalar_bytes: MAX_TEXT,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_REPLAYED,
            max_replay_stack_depth: 8,
        },
    }
}

/// How such a reason begins.
pub(crate) const UNKNOWN_FIELD: &str = "unknown field ";
/// Manifests written by hand have a handful of aliases.
const MAX_ALIASES: usize = 1_000;
/// Parts that aliases stand for, all together: a fraction of a second.
const MAX_REPLAYED: usize = 100_000;
/// Bytes of text in a file, aliases followed: four times the largest file.
const MAX_TEXT: usize = 16 * 1024 * 1024;
