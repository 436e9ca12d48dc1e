//! An answer too large to hold, of which has to be known whether it is one: a legacy client can't be
//! given what a modern server asks.
//!
//! What a large answer is, is told by its first part nearly always, and then that passes through as it
//! came. One that asks is put together and handed out whole.

use std::collections::VecDeque;

use bytes::Bytes;
use mcp::json::MAX_DEPTH;
use mcp::scan::{Piece, Scanner};

use super::fault::Fault;
use crate::room::{Pieces, Share};

/// Largest answer that asks for input: as large as the request that the client answers with may be.
const MAX_QUESTION: usize = 4 * 1024 * 1024;

/// What has come of it.
#[derive(Debug)]
pub(super) struct Weighing {
    scanner: Scanner,
    /// Of no use but to the scanner.
    scanned: VecDeque<Piece>,
    held: Pieces,
}

impl Weighing {
    pub(super) fn new(share: &Share) -> Self {
        let scanner = Scanner::new(MAX_DEPTH).weighing();
        Self { scanner, scanned: VecDeque::new(), held: share.pieces() }
    }

    /// Takes the next part in. All that has come, once it is known not to ask.
    pub(super) fn feed(&mut self, chunk: Bytes) -> Result<Option<Bytes>, Fault> {
        self.scanner
            .feed(chunk.clone(), &mut self.scanned)
            .map_err(|error| Fault::Garbage(error.to_string()))?;
        self.scanned.clear();
        let is_final = self.scanner.is_final() == Some(true);
        if is_final && self.held.len() == 0 {
            return Ok(Some(chunk));
        }
        if !is_final && self.held.len() + chunk.len() > MAX_QUESTION {
            return Err(Fault::Unknowable("input, and asks for it in more than 4 MiB"));
        }
        self.held.add(&chunk).map_err(|_| Fault::NoRoom)?;
        Ok(is_final.then(|| self.held.take()))
    }

    /// The whole message, which asks or says nothing.
    pub(super) fn finish(&mut self) -> Result<Bytes, Fault> {
        self.scanner.finish().map_err(|error| Fault::Closed(error.to_string()))?;
        Ok(self.held.take())
    }
}
