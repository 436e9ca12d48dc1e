//! What a client asked for, and how the server is asked.

use bytes::Bytes;
use mcp::splice::{Edit, splice};

/// What a call is made of.
#[derive(Debug)]
pub(crate) struct Order {
    /// The client's message.
    pub(crate) message: Bytes,
    /// JSON text of the client's id.
    pub(crate) id: Bytes,
    /// Where the id stands in the message.
    pub(crate) id_at: (usize, usize),
    /// Where the tool's name stands and what the server calls it, if that differs.
    pub(crate) rename: Option<((usize, usize), Bytes)>,
    /// The client's progress token, if it wants progress, and where it stands.
    pub(crate) token: Option<(Bytes, (usize, usize))>,
    /// Whether the tool may be called twice.
    pub(crate) replayable: bool,
}

impl Order {
    /// The message as the server gets it. `id` becomes its id and progress token.
    pub(super) fn compose(&self, id: u64) -> Bytes {
        let number = id.to_string();
        let mut edits = vec![Edit::at(self.id_at, number.as_bytes())];
        if let Some((at, name)) = &self.rename {
            edits.push(Edit::at(*at, name));
        }
        if let Some((_, at)) = &self.token {
            edits.push(Edit::at(*at, number.as_bytes()));
        }
        splice(&self.message, &mut edits)
    }
}
