//! A definition as its server sent it, and how parts of it are replaced. Performs no I/O.

use std::ops::Range;

use bytes::Bytes;
use mcp::json::Json;
use mcp::splice::{Edit, splice};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// Raw JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Definition(Bytes);

impl Definition {
    pub(super) fn new(raw: Json<'_>) -> Self {
        Self(Bytes::copy_from_slice(raw.get().as_bytes()))
    }

    /// As the server sent it.
    pub(crate) const fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// Where a part of it stands that was read from it.
    pub(super) fn at(&self, part: Json<'_>) -> Option<Range<usize>> {
        let (start, end) = Edit::replace(&self.0, part.get().as_bytes(), b"")?.range();
        Some(start..end)
    }

    /// With these parts replaced; nothing else is touched.
    pub(crate) fn with(&self, changes: &[(&Range<usize>, String)]) -> Bytes {
        if changes.is_empty() {
            return self.0.clone();
        }
        let mut edits: Vec<Edit<'_>> = changes
            .iter()
            .map(|(at, with)| Edit::at((at.start, at.end), with.as_bytes()))
            .collect();
        splice(&self.0, &mut edits)
    }
}

/// A text as a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A field that is `null` is there all the same: a second one beside it would make two.
pub(super) fn even_null<'de, D: Deserializer<'de>>(
    field: D,
) -> Result<Option<Json<'de>>, D::Error> {
    Json::deserialize(field).map(Some)
}
