//! A message too large to hold, on its way through.

use std::collections::VecDeque;

use bytes::Bytes;
use mcp::json::MAX_DEPTH;
use mcp::scan::{Addition, Kind, Names, Piece, Scanner};

use super::exchange::{Item, WHOLE};
use super::fault::Fault;
use super::weighing::Weighing;
use crate::room::Share;

/// What an answer that passes through needs on its way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Mends {
    /// What it has to say besides.
    pub(crate) additions: Vec<Addition>,
    /// What in it the client knows otherwise.
    pub(crate) names: Option<Names>,
    /// Where what asks for input is put together, if the client has no words for that.
    pub(crate) share: Option<Share>,
}

/// An answer too large to hold, on its way through: its id is replaced where it stands.
#[derive(Debug)]
pub(super) struct Passing {
    /// Until it is known that it passes.
    weighing: Option<Weighing>,
    scanner: Scanner,
    pieces: VecDeque<Piece>,
    waiting: usize,
    /// Our id has been seen.
    identified: bool,
    /// JSON text of the id of a request that it turned out to be.
    asked: Option<Bytes>,
}

/// Whether the JSON text of an id is our number, or that number as a string.
fn names(text: &[u8], id: u64) -> bool {
    std::str::from_utf8(text).is_ok_and(|text| text.trim_matches('"').parse() == Ok(id))
}

impl Passing {
    pub(super) fn new(Mends { additions, names, share }: &Mends) -> Self {
        let scanner = Scanner::new(MAX_DEPTH).adding(additions.clone()).naming(*names);
        Self {
            weighing: share.as_ref().map(Weighing::new),
            scanner: if share.is_some() { scanner.weighing() } else { scanner },
            pieces: VecDeque::new(),
            waiting: 0,
            identified: false,
            asked: None,
        }
    }

    pub(super) fn feed(
        &mut self,
        chunk: Bytes,
        id: u64,
        client_id: &Bytes,
        out: &mut VecDeque<Item>,
    ) -> Result<(), Fault> {
        let chunk = match &mut self.weighing {
            None => chunk,
            Some(weighing) => {
                let Some(passes) = weighing.feed(chunk)? else { return Ok(()) };
                self.weighing = None;
                passes
            }
        };
        self.waiting += chunk.len();
        self.scanner
            .feed(chunk, &mut self.pieces)
            .map_err(|error| Fault::Garbage(error.to_string()))?;
        if self.scanner.is_final() == Some(false) {
            return Err(Fault::Unknowable("something else than to answer, and says so too late"));
        }
        match self.scanner.kind() {
            Some(Kind::Response) => {
                for piece in self.pieces.drain(..) {
                    out.push_back(match piece {
                        Piece::Span(bytes) | Piece::Added(bytes) => Item::Chunk(bytes),
                        Piece::Name(name, text) => Item::Name(name, text),
                        Piece::Id(answered) if names(&answered, id) => {
                            self.identified = true;
                            Item::Chunk(client_id.clone())
                        }
                        Piece::Id(_) => return Err(Fault::Garbage("another's answer".to_owned())),
                    });
                }
            }
            // A notification or request this large is read past, not passed on.
            Some(Kind::Call) => {
                for piece in self.pieces.drain(..) {
                    if let Piece::Id(asked) = piece {
                        // A slice would keep the whole chunk.
                        self.asked = Some(Bytes::copy_from_slice(&asked));
                    }
                }
            }
            None if self.waiting > 2 * WHOLE => {
                return Err(Fault::Garbage("no result in the first 128 KiB".to_owned()));
            }
            None => {}
        }
        Ok(())
    }

    pub(super) fn finish(&mut self, out: &mut VecDeque<Item>) -> Result<(), Fault> {
        if let Some(weighing) = &mut self.weighing {
            out.push_back(Item::Message(weighing.finish()?));
            return Ok(());
        }
        self.scanner.finish().map_err(|error| Fault::Closed(error.to_string()))?;
        match (self.scanner.kind(), self.asked.take()) {
            (Some(Kind::Response), _) if !self.identified => {
                return Err(Fault::Garbage("an answer without an id".to_owned()));
            }
            (Some(Kind::Response), _) => {
                out.push_back(Item::End { error: self.scanner.is_error() });
            }
            (_, Some(id)) => out.push_back(Item::Unheard { id }),
            (_, None) => {}
        }
        Ok(())
    }
}
