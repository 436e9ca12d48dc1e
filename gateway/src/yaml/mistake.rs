//! Mistakes in manifests, in words that everybody may read: their place, and never a value.

use serde_saphyr::Error;

/// What is wrong with a value that is not of the form its kind has.
pub(super) fn shape(error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    let what = expected(&error.inner().to_string());
    match error.path().iter().next() {
        None => what,
        Some(_) => format!("{}: {what}", place(&error.path().to_string())),
    }
}

/// What serde expected: its message quotes the value first, escaped, and names what it expected
/// last, in words from our own types.
fn expected(message: &str) -> String {
    // Named by our own types, too.
    if message.starts_with("missing field `") {
        return message.to_owned();
    }
    let known = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant `"];
    let expected = message.rsplit_once(", expected ").map(|(_, expected)| expected);
    match expected.filter(|_| known.iter().any(|known| message.starts_with(known))) {
        Some(expected) if expected.starts_with("struct ") => "expected an object".to_owned(),
        Some(expected) => format!("expected {expected}"),
        None => "the value does not have the form that this field needs".to_owned(),
    }
}

/// What is wrong with a text that is not YAML.
pub(super) fn syntax(error: &Error) -> String {
    let what = match error {
        // Of an alias: where it stands counts.
        Error::AliasError { error: inner, .. } => return syntax(inner),
        // What the parser says are fixed sentences.
        Error::ExternalMessage { msg, .. } => msg.clone(),
        Error::DuplicateMappingKey { .. } => "a key is there twice in one object".to_owned(),
        Error::UnknownAnchor { .. } => "an alias names an anchor that is not there".to_owned(),
        Error::NonFiniteFloat { .. } => "a number is not finite".to_owned(),
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            format!("expected {expected}")
        }
        Error::Eof { .. } => "ends too early".to_owned(),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            "is too large, too deep or has too many aliases".to_owned()
        }
        _ => "is not the YAML of a manifest".to_owned(),
    };
    match error.location() {
        Some(at) if at.line() > 0 => format!("line {}, column {}: {what}", at.line(), at.column()),
        _ => what,
    }
}

/// A path or the name of a kind. What does not look like one may be a value in the wrong place.
pub(crate) fn place(path: &str) -> String {
    // An index is written `rules[0]`.
    let path = path.replace('[', ".").replace(']', "");
    let names = path.split('.').filter(|name| *name != "?").map(|name| {
        let likely = |c: char| c.is_ascii_alphanumeric() || c == '/';
        if name.len() <= LONGEST_NAME && name.chars().all(likely) { name } else { "(…)" }
    });
    names.collect::<Vec<_>>().join(".")
}

/// Longer than any name of a field.
const LONGEST_NAME: usize = 32;
