//! Headers that repeat parts of a message (2026-07-28, basic/transports/streamable-http, request
//! metadata). Performs no I/O.
//!
//! What a request does is decided by its body. The headers are for those who do not read bodies, so
//! whoever does must see that both say the same.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::json::Json;
use crate::tool::text;

pub use param::{InvalidHeader, ParamHeaders};

mod param;

/// Repeats the revision of the request.
pub const VERSION: &str = "MCP-Protocol-Version";
/// Repeats the method.
pub const METHOD: &str = "Mcp-Method";
/// Repeats the name of what the request is about.
pub const NAME: &str = "Mcp-Name";
/// Begins the name of each header that repeats an argument.
pub const PARAM_PREFIX: &str = "Mcp-Param-";

/// What the standard headers of a request say, without the white space around it. Whoever makes this
/// has refused headers that are there twice or not visible ASCII.
#[derive(Debug, Clone, Copy, Default)]
pub struct Headers<'a> {
    /// `MCP-Protocol-Version`
    pub version: Option<&'a str>,
    /// `Mcp-Method`
    pub method: Option<&'a str>,
    /// `Mcp-Name`
    pub name: Option<&'a str>,
}

/// Why headers and body are refused together: -32020 and status 400.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The body says something, and no header repeats it.
    #[error("header mismatch: {header} is missing, the body says '{expected}'")]
    Missing {
        /// The header's name.
        header: Cow<'static, str>,
        /// What it should say.
        expected: String,
    },
    /// Header and body differ.
    #[error("header mismatch: {header} is '{found}', but the body says '{expected}'")]
    Mismatch {
        /// The header's name.
        header: Cow<'static, str>,
        /// What it says.
        found: String,
        /// What the body says.
        expected: String,
    },
    /// The header repeats what the body does not say.
    #[error("header mismatch: {header} is there, but the body has no value for it")]
    Unexpected {
        /// The header's name.
        header: Cow<'static, str>,
    },
    /// The header, or what it repeats, cannot be read.
    #[error("header mismatch: {header} {reason}")]
    Malformed {
        /// The header's name.
        header: Cow<'static, str>,
        /// What is wrong, as the rest of a sentence.
        reason: &'static str,
    },
}

impl HeaderError {
    fn missing(header: impl Into<Cow<'static, str>>, expected: &str) -> Self {
        Self::Missing { header: header.into(), expected: shortened(expected) }
    }

    fn mismatch(header: impl Into<Cow<'static, str>>, found: &str, expected: &str) -> Self {
        let (found, expected) = (shortened(found), shortened(expected));
        Self::Mismatch { header: header.into(), found, expected }
    }

    fn malformed(header: impl Into<Cow<'static, str>>, reason: &'static str) -> Self {
        Self::Malformed { header: header.into(), reason }
    }
}

/// Names and values are quoted up to here: both come from the sender and can be long.
const QUOTED: usize = 128;

fn shortened(text: &str) -> String {
    text.chars().take(QUOTED).collect()
}

/// Which member of the params of a method `Mcp-Name` repeats, if any.
pub fn name_member(method: &str) -> Option<&'static str> {
    match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" => Some("uri"),
        // The tasks extension (SEP-2663).
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some("taskId"),
        _ => None,
    }
}

/// The raw value of the body that `Mcp-Name` repeats, if the method has one and the params too.
pub fn expected_name<'a>(method: &str, params: Option<Json<'a>>) -> Option<Json<'a>> {
    let member = name_member(method)?;
    params?.member(member)
}

/// Checks the standard headers of a modern request against its body: its method, the revision that its
/// `_meta` tells and the [`expected_name`]. What the body lacks is for others to refuse.
///
/// Not for notifications: clients in use send those without `Mcp-Method`.
///
/// # Errors
/// A header is missing, unreadable, or says something else than the body.
pub fn check(
    method: &str,
    version: Option<&str>,
    name: Option<Json<'_>>,
    headers: &Headers<'_>,
) -> Result<(), HeaderError> {
    if let Some(version) = version {
        check_plain(VERSION, headers.version, version)?;
    }
    check_plain(METHOD, headers.method, method)?;
    let Some(name) = name.and_then(text) else { return Ok(()) };
    let found = headers.name.ok_or_else(|| HeaderError::missing(NAME, &name))?;
    match decode(found) {
        Ok(found) if found == name => Ok(()),
        Ok(found) => Err(HeaderError::mismatch(NAME, &found, &name)),
        Err(Undecodable(reason)) => Err(HeaderError::malformed(NAME, reason)),
    }
}

fn check_plain(
    header: &'static str,
    found: Option<&str>,
    expected: &str,
) -> Result<(), HeaderError> {
    match found {
        None => Err(HeaderError::missing(header, expected)),
        Some(found) if found == expected => Ok(()),
        Some(found) => Err(HeaderError::mismatch(header, found, expected)),
    }
}

/// `value` as `Mcp-Name` and `Mcp-Param-*` carry it: as it is where a header can, else in base64.
pub fn encode(value: &str) -> Cow<'_, str> {
    let unsafe_as_is = value.bytes().any(|byte| !matches!(byte, b' '..=b'~'))
        || value.starts_with(' ')
        || value.ends_with(' ')
        || (value.starts_with(PREFIX) && value.ends_with(SUFFIX));
    if !unsafe_as_is {
        return Cow::Borrowed(value);
    }
    let mut encoded = String::from(PREFIX);
    STANDARD.encode_string(value, &mut encoded);
    encoded.push_str(SUFFIX);
    Cow::Owned(encoded)
}

/// The text that `Mcp-Name` or `Mcp-Param-*` carries.
///
/// # Errors
/// It is marked as base64 and is not, or has characters that no header may have.
pub fn decode(value: &str) -> Result<Cow<'_, str>, Undecodable> {
    if value.bytes().any(|byte| !matches!(byte, b' '..=b'~' | b'\t')) {
        return Err(Undecodable("has characters outside visible ASCII"));
    }
    let Some(encoded) = value.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX))
    else {
        return Ok(Cow::Borrowed(value));
    };
    let bytes = STANDARD.decode(encoded).map_err(|_| Undecodable("is not valid base64"))?;
    String::from_utf8(bytes)
        .map(Cow::Owned)
        .map_err(|_| Undecodable("is not UTF-8 once decoded from base64"))
}

/// Why the value of a header cannot be read; its text ends a sentence that begins with the header.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct Undecodable(&'static str);

impl Undecodable {
    /// The same as an error of a header.
    pub fn of(self, header: impl Into<Cow<'static, str>>) -> HeaderError {
        HeaderError::malformed(header, self.0)
    }
}

const PREFIX: &str = "=?base64?";
const SUFFIX: &str = "?=";

#[cfg(test)]
mod tests;
