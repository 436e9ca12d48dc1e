//! Arguments that a tool wants repeated as headers: `x-mcp-header` in its input schema.

use std::borrow::Cow;

use thiserror::Error;

use super::{HeaderError, PARAM_PREFIX, Undecodable, decode, encode};
use crate::json::{Json, MAX_DEPTH};
use crate::object::{Entry, elements, entries, member, unescape};

/// The `Mcp-Param-*` headers of one tool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParamHeaders {
    /// Properties with a header, or with such properties below.
    root: Vec<Property>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Property {
    name: String,
    /// `Mcp-Param-` and the name in the annotation.
    header: Option<String>,
    properties: Vec<Self>,
}

/// Why an input schema asks for headers that nobody may send: clients over HTTP leave the tool out of
/// their lists.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidHeader {
    /// The annotation's value.
    #[error("x-mcp-header of `{property}` must be a header name, a non-empty token")]
    NotAToken {
        /// Where, from the root: `a.b`.
        property: String,
    },
    /// The property's type.
    #[error("x-mcp-header of `{property}` needs the type string, integer or boolean")]
    NotPrimitive {
        /// Where, from the root: `a.b`.
        property: String,
    },
    /// Two annotations name the same header.
    #[error("x-mcp-header `{name}` stands twice (case does not count)")]
    Duplicate {
        /// The name as the second annotation writes it.
        name: String,
    },
    /// An annotation where arguments could not be found.
    #[error("x-mcp-header may stand only in properties that `properties` alone leads to")]
    Unreachable,
    /// More annotations than any server needs.
    #[error("more than {MAX_HEADERS} x-mcp-header")]
    TooMany,
    /// A schema nested too deeply to be read.
    #[error("the input schema is nested more than {MAX_DEPTH} levels deep")]
    TooDeep,
}

/// Most headers of one tool. 64: proxies commonly refuse requests with more than 100 headers.
const MAX_HEADERS: usize = 64;

const ANNOTATION: &str = "x-mcp-header";

impl ParamHeaders {
    /// Reads the annotations of a raw tool definition.
    ///
    /// # Errors
    /// One of them is invalid, and so is the tool for clients over HTTP.
    pub fn of_tool(definition: Json<'_>) -> Result<Self, InvalidHeader> {
        member(definition.get(), "inputSchema").map_or_else(|| Ok(Self::default()), Self::of_text)
    }

    /// Reads the annotations of a raw input schema.
    ///
    /// # Errors
    /// As [`of_tool`](Self::of_tool).
    pub fn of_schema(schema: Json<'_>) -> Result<Self, InvalidHeader> {
        Self::of_text(schema.get())
    }

    fn of_text(schema: &str) -> Result<Self, InvalidHeader> {
        // Most schemas have none: one search, as long as no key could hide in escapes.
        let bytes = schema.as_bytes();
        if memchr::memmem::find(bytes, ANNOTATION.as_bytes()).is_none()
            && memchr::memmem::find(bytes, b"\\u").is_none()
        {
            return Ok(Self::default());
        }
        let mut reader = Reader { names: Vec::new(), path: Vec::new() };
        let root = reader.reachable(schema)?;
        Ok(Self { root })
    }

    /// Whether no argument is repeated.
    pub fn is_empty(&self) -> bool {
        self.root.is_empty()
    }

    /// The headers of a call with these raw `arguments`: full name and encoded value. Arguments that
    /// are absent, `null`, or no string, number or boolean have none.
    pub fn values<'s, 'a>(
        &'s self,
        arguments: Option<Json<'a>>,
    ) -> impl Iterator<Item = (&'s str, Cow<'a, str>)> + use<'s, 'a> {
        self.found(arguments).into_iter().filter_map(|found| {
            let value = match found.value?.plain()? {
                Cow::Borrowed(value) => encode(value),
                Cow::Owned(value) => Cow::Owned(encode(&value).into_owned()),
            };
            Some((found.header, value))
        })
    }

    /// Checks the headers that came with a call against its raw `arguments`. `lookup` finds the value
    /// of a header by its full name, whatever the case, without the white space around it.
    ///
    /// # Errors
    /// A header is missing, unreadable, says something else than the argument, or repeats one that is
    /// not there.
    pub fn check<'h>(
        &self,
        arguments: Option<Json<'_>>,
        lookup: impl Fn(&str) -> Option<&'h str>,
    ) -> Result<(), HeaderError> {
        for Found { header, value, again } in self.found(arguments) {
            if again {
                let reason = "repeats an argument that stands twice";
                return Err(HeaderError::malformed(header.to_owned(), reason));
            }
            match (value.and_then(Value::plain), lookup(header)) {
                (None, None) => {}
                (None, Some(_)) => {
                    return Err(HeaderError::Unexpected { header: header.to_owned().into() });
                }
                (Some(expected), None) => {
                    return Err(HeaderError::missing(header.to_owned(), &expected));
                }
                (Some(expected), Some(found)) => {
                    let found =
                        decode(found).map_err(|error: Undecodable| error.of(header.to_owned()))?;
                    let number = matches!(value, Some(Value::Number(_)));
                    if found != expected && !(number && same_integer(&found, &expected)) {
                        return Err(HeaderError::mismatch(header.to_owned(), &found, &expected));
                    }
                }
            }
        }
        Ok(())
    }

    /// Every header with the argument that it repeats, in the order of the schema. One pass over the
    /// arguments, however many headers there are.
    fn found<'s, 'a>(&'s self, arguments: Option<Json<'a>>) -> Vec<Found<'s, 'a>> {
        let mut all = Vec::new();
        find(&self.root, arguments.map(Json::get), false, &mut all);
        all
    }
}

#[derive(Debug)]
struct Found<'s, 'a> {
    header: &'s str,
    value: Option<Value<'a>>,
    /// The argument, or an object around it, stands twice: parsers differ in which they take.
    again: bool,
}

#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    /// With its quotes.
    String(&'a str),
    Number(&'a str),
    Literal(&'a str),
}

impl<'a> Value<'a> {
    /// Of what headers repeat; `None` for `null`, objects and arrays.
    fn of(text: &'a str) -> Option<Self> {
        match text.as_bytes().first()? {
            b'"' => Some(Self::String(text)),
            b't' | b'f' => Some(Self::Literal(text)),
            b'-' | b'0'..=b'9' => Some(Self::Number(text)),
            _ => None,
        }
    }

    /// The text of the header, before it is encoded.
    fn plain(self) -> Option<Cow<'a, str>> {
        match self {
            Self::String(json) => unescape(json),
            // `42.0` and `4.2e1` are integers too, and written as such.
            Self::Number(text) if text.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) => {
                Some(integer(text).map_or(Cow::Borrowed(text), |int| Cow::Owned(int.to_string())))
            }
            Self::Number(text) | Self::Literal(text) => Some(Cow::Borrowed(text)),
        }
    }
}

fn find<'s, 'a>(
    properties: &'s [Property],
    object: Option<&'a str>,
    again: bool,
    all: &mut Vec<Found<'s, 'a>>,
) {
    let mut values = vec![(None, again); properties.len()];
    for entry in object.into_iter().flat_map(entries) {
        let wanted =
            properties.iter().zip(&mut values).find(|(property, _)| entry.is(&property.name));
        if let Some((_, (value, again))) = wanted {
            *again |= value.replace(entry.value()).is_some();
        }
    }
    for (property, (value, again)) in properties.iter().zip(values) {
        if let Some(header) = &property.header {
            all.push(Found { header, value: value.and_then(Value::of), again });
        }
        find(&property.properties, value, again, all);
    }
}

/// Integers compare as numbers: `42.0` in a header is `42` in a body.
fn same_integer(a: &str, b: &str) -> bool {
    integer(a).is_some_and(|a| integer(b) == Some(a))
}

/// The integer that a JSON number is, within what every JSON parser can tell apart.
fn integer(text: &str) -> Option<i64> {
    const SAFE: f64 = 9_007_199_254_740_991.0;
    let number: f64 = serde_json::from_str(text).ok()?;
    // Exact: it is whole and its magnitude below 2^53.
    (number.trunc() == number && number.abs() <= SAFE).then_some(number as i64)
}

/// Reads a schema for annotations.
struct Reader {
    /// Names seen, in lower case.
    names: Vec<String>,
    /// The properties from the root to here.
    path: Vec<String>,
}

impl Reader {
    /// The properties with headers below a schema that `properties` alone leads to.
    fn reachable(&mut self, schema: &str) -> Result<Vec<Property>, InvalidHeader> {
        let mut found = Vec::new();
        for keyword in entries(schema) {
            match keyword.name().as_deref() {
                Some("properties") => {
                    for property in entries(keyword.value()) {
                        found.extend(self.property(&property)?);
                    }
                }
                // The root is no parameter; at a property `header` has read it.
                Some(ANNOTATION) if self.path.is_empty() => return Err(InvalidHeader::Unreachable),
                Some(ANNOTATION) | None => {}
                Some(name) => unreachable_keyword(name, keyword.value(), self.path.len())?,
            }
        }
        Ok(found)
    }

    fn property(&mut self, entry: &Entry<'_>) -> Result<Option<Property>, InvalidHeader> {
        if self.path.len() >= usize::from(MAX_DEPTH) {
            return Err(InvalidHeader::TooDeep);
        }
        let name = entry.name().unwrap_or_default().into_owned();
        self.path.push(name);
        let header = self.header(entry.value())?;
        let properties = self.reachable(entry.value())?;
        let name = self.path.pop().unwrap_or_default();
        let wanted = header.is_some() || !properties.is_empty();
        Ok(wanted.then_some(Property { name, header, properties }))
    }

    fn header(&mut self, schema: &str) -> Result<Option<String>, InvalidHeader> {
        let mut annotations = entries(schema).filter(|entry| entry.is(ANNOTATION));
        let Some(annotation) = annotations.next() else { return Ok(None) };
        let property = || self.path.join(".");
        let name = unescape(annotation.value())
            .filter(|name| annotations.next().is_none() && is_token(name))
            .ok_or_else(|| InvalidHeader::NotAToken { property: property() })?;
        let kind = member(schema, "type").and_then(unescape);
        if !matches!(kind.as_deref(), Some("string" | "integer" | "boolean")) {
            return Err(InvalidHeader::NotPrimitive { property: property() });
        }
        let folded = name.to_ascii_lowercase();
        if self.names.contains(&folded) {
            return Err(InvalidHeader::Duplicate { name: name.into_owned() });
        }
        if self.names.len() >= MAX_HEADERS {
            return Err(InvalidHeader::TooMany);
        }
        self.names.push(folded);
        Ok(Some(format!("{PARAM_PREFIX}{name}")))
    }
}

/// Refuses annotations below a keyword that is not `properties`.
fn unreachable_keyword(keyword: &str, value: &str, depth: usize) -> Result<(), InvalidHeader> {
    match keyword {
        // Data, not schemas.
        "default" | "const" | "enum" | "examples" | "required" => Ok(()),
        // Maps of names, which may be called anything, to schemas.
        "properties" | "patternProperties" | "$defs" | "definitions" | "dependentSchemas" => {
            entries(value).try_for_each(|entry| unreachable_schema(entry.value(), depth + 1))
        }
        _ => unreachable_schema(value, depth + 1),
    }
}

fn unreachable_schema(value: &str, depth: usize) -> Result<(), InvalidHeader> {
    if depth >= usize::from(MAX_DEPTH) {
        return Err(InvalidHeader::TooDeep);
    }
    for keyword in entries(value) {
        match keyword.name().as_deref() {
            Some(ANNOTATION) => return Err(InvalidHeader::Unreachable),
            Some(name) => unreachable_keyword(name, keyword.value(), depth)?,
            None => {}
        }
    }
    elements(value).try_for_each(|element| unreachable_schema(element, depth + 1))
}

/// RFC 9110, 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
