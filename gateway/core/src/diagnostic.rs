//! What is wrong with a resource, for people. Performs no I/O.

use std::fmt;

use crate::ResourceRef;

/// Something wrong with one resource that leaves all others alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Diagnostic {
    /// The resource that has to be mended.
    pub resource: ResourceRef,
    /// For machines.
    pub reason: Reason,
    /// For people: what is wrong and what to do.
    pub message: String,
}

/// Closed set of reasons, spelled as in conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Two servers claim one name for a tool or a prompt.
    NameConflict,
    /// Two McpApiKeys hold the same key.
    KeyConflict,
}

impl Reason {
    /// As in conditions: CamelCase.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NameConflict => "NameConflict",
            Self::KeyConflict => "KeyConflict",
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.resource, self.reason.as_str(), self.message)
    }
}
