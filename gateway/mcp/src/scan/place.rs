//! Where names stand in results that clients know otherwise than the server.

use super::state::Then;

/// A name that a client knows otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// Of a resource.
    Uri,
    /// The id of a task.
    Task,
}

/// The results in which names are looked for, as [`uris`](crate::uri::uris) and
/// [`in_result`](crate::task::in_result) find them in those that are held whole. What a block of
/// content is may be said after its URI: here every one that has a URI counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// `resources/read`
    Contents,
    /// `tools/call` and `tasks/result`
    Content,
    /// `prompts/get`
    Messages,
    /// `tasks/get`
    Task,
}

impl Names {
    /// Those in the result of a request with this method.
    pub fn of(method: &str) -> Option<Self> {
        match method {
            "resources/read" => Some(Self::Contents),
            "tools/call" | "tasks/result" => Some(Self::Content),
            "prompts/get" => Some(Self::Messages),
            "tasks/get" => Some(Self::Task),
            _ => None,
        }
    }
}

/// An object whose keys are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Message,
    /// The result of the message.
    Result(Option<Names>),
    /// Of a call that a task was made for.
    Done,
    /// One of the messages of a prompt.
    Said,
    Block,
    Resource,
}

/// What stands at a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Child {
    Place(Place),
    Name(Name),
    /// The type of the result.
    Kind,
}

impl Child {
    /// What a string at the key is, if it is to be held.
    pub(super) const fn held(self) -> Option<Then> {
        match self {
            Self::Place(_) => None,
            Self::Name(name) => Some(Then::Name(name)),
            Self::Kind => Some(Then::Kind),
        }
    }
}

impl Place {
    /// What stands at a key, if it matters; `Message` is the scanner's to know.
    pub(super) fn child(self, key: &[u8]) -> Option<Child> {
        Some(match (self, key) {
            (Self::Result(Some(Names::Contents)), b"contents") | (Self::Block, b"resource") => {
                Child::Place(Self::Resource)
            }
            (Self::Result(Some(Names::Messages)), b"messages") => Child::Place(Self::Said),
            (Self::Result(Some(Names::Task)), b"result") => Child::Place(Self::Done),
            (Self::Result(Some(Names::Task)), b"taskId") => Child::Name(Name::Task),
            (Self::Result(Some(Names::Content)) | Self::Done | Self::Said, b"content") => {
                Child::Place(Self::Block)
            }
            (Self::Block | Self::Resource, b"uri") => Child::Name(Name::Uri),
            _ => return None,
        })
    }

    /// Whether an array of them may stand in its place.
    pub(super) const fn repeats(self) -> bool {
        matches!(self, Self::Said | Self::Block | Self::Resource)
    }
}
