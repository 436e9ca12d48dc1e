//! Where in a message the scanner is.

use super::place::{Name, Place};

/// An object whose keys are read, or an array in which such ones stand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) place: Place,
    pub(super) is_array: bool,
}

/// Where in the message the scanner is. White space may stand before all but `Nested`, `Key`,
/// `String`, `Number` and `Replaced`.
#[derive(Clone, Copy, Debug)]
pub(super) enum State {
    /// Before the opening brace.
    Start,
    /// After the opening brace.
    KeyOrEnd,
    /// After the opening bracket of an array of objects whose keys are read.
    ElementOrEnd,
    /// After a comma.
    NextKey,
    /// In a key that is read; `escaped` after a backslash.
    Key { escaped: bool },
    /// After a key.
    Colon,
    /// Before a value whose key was read.
    Value,
    /// In a string that is no such key; `escaped` after a backslash.
    String { escaped: bool, then: Then },
    /// In a number that is the id.
    Number,
    /// In another number or literal.
    Scalar,
    /// In a number or literal that is replaced.
    Replaced,
    /// In a value whose keys are not read, outside strings.
    Nested,
    /// After a value whose key was read.
    AfterValue,
    /// After the closing brace.
    Done,
}

/// What a string is, and so what comes after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Id,
    Name(Name),
    Kind,
    AfterValue,
    Replaced,
    Nested,
}

impl From<Then> for State {
    fn from(then: Then) -> Self {
        match then {
            Then::Id | Then::Name(_) | Then::Kind | Then::AfterValue | Then::Replaced => {
                Self::AfterValue
            }
            Then::Nested => Self::Nested,
        }
    }
}
