//! A scanner over one JSON-RPC message that is too large to hold.
//!
//! It is fed chunks, from a JSON body or from the data of an event alike, and gives them back as
//! they came, cut where the top-level `id` stands so that another can be put there. It knows depth,
//! strings and the keys of the top level, and those of the `result` if members are to be added,
//! names to be found or its type to be told there; inside other values it checks that strings close and brackets match and
//! nothing else. Performs no I/O, and never holds more than an id or a name, a short key and a few
//! bytes a level.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::json::{Json, is_space};

pub use error::ScanError;

use cursor::{Cursor, StringEnd};
use finality::Finality;
use member::{MAX_RAW_KEY, Member, unescaped};

pub use addition::Addition;
pub use place::{Name, Names};

use place::{Child, Place};
use state::{Frame, State, Then};

mod addition;
mod cursor;
mod error;
mod finality;
mod member;
mod place;
mod state;
#[cfg(test)]
pub(crate) mod tests;

/// A part of the message. All pieces but [`Added`](Self::Added) in order are the message, byte for
/// byte, unless a value was to be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes to pass on as they are: a slice of a chunk, never empty.
    Span(Bytes),
    /// The top-level `id`: a JSON string or number as it stood, at most [`MAX_ID`] bytes. There is
    /// at most one.
    Id(Bytes),
    /// What the message lacked, or what takes the place of a value of the result.
    Added(Bytes),
    /// A name that was looked for: a JSON string as it stood, at most [`MAX_NAME`] bytes. Longer ones
    /// are passed on as they are.
    Name(Name, Bytes),
}

/// What a message is, by its top-level keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It has `result` or `error`.
    Response,
    /// It has `method` or `params`: a request or a notification.
    Call,
}

/// An incremental scanner of one message.
#[derive(Debug)]
pub struct Scanner {
    max_depth: u16,
    /// The bytes that will close the open objects and arrays, innermost last.
    closers: Vec<u8>,
    state: State,
    /// Those whose keys are read, or in which such ones stand, innermost last; others are in these.
    frames: Vec<Frame>,
    /// What the value at the current key is, if that matters.
    child: Option<Child>,
    /// What to add to the result.
    additions: Vec<Addition>,
    /// What to look for in the result.
    names: Option<Names>,
    /// Whether the result is the last word, if that matters.
    finality: Option<Finality>,
    /// What takes the place of the next value, in the result.
    replacement: Option<Bytes>,
    /// The key of the current top-level member.
    member: Option<Member>,
    /// The start of a key, raw: as much as the longest known key can take, and one byte
    /// more.
    key: Vec<u8>,
    /// The id, or a name, if it lies in several chunks.
    held: BytesMut,
    /// The members seen, a bit each.
    seen: u8,
    kind: Option<Kind>,
    error: bool,
    /// Bytes in the chunks before the current one.
    offset: u64,
    failed: Option<ScanError>,
}

impl Scanner {
    /// A scanner that refuses messages nested more than `max_depth` levels deep, their own braces
    /// included.
    pub fn new(max_depth: u16) -> Self {
        Self {
            max_depth,
            closers: Vec::new(),
            state: State::Start,
            frames: Vec::new(),
            child: None,
            additions: Vec::new(),
            names: None,
            finality: None,
            replacement: None,
            member: None,
            key: Vec::new(),
            held: BytesMut::new(),
            seen: 0,
            kind: None,
            error: false,
            offset: 0,
            failed: None,
        }
    }

    /// Makes the scanner add members to the `result`, if it is an object.
    #[must_use]
    pub fn adding(mut self, additions: Vec<Addition>) -> Self {
        self.additions = additions;
        self
    }

    /// Makes the scanner tell names in the `result` apart.
    #[must_use]
    pub fn naming(mut self, names: Option<Names>) -> Self {
        self.names = names;
        self
    }

    /// Makes the scanner find out whether the `result` is [final](Self::is_final).
    #[must_use]
    pub fn weighing(mut self) -> Self {
        self.finality = Some(Finality::default());
        self
    }

    /// Scans the next chunk and appends its pieces to `out`. An id that reaches the end of the
    /// chunk comes with a later one.
    ///
    /// # Errors
    /// The message is malformed, or larger than a limit. Pieces already in `out` must not be passed
    /// on as if the message were whole. Every later call fails alike.
    pub fn feed(&mut self, chunk: Bytes, out: &mut VecDeque<Piece>) -> Result<(), ScanError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let length = chunk.len() as u64;
        let fed = self.scan(&chunk, out).and_then(|from| self.keep_rest(from, chunk, out));
        if let Err(error) = fed {
            self.failed = Some(error);
        }
        self.offset = self.offset.saturating_add(length);
        fed
    }

    /// Ends the message.
    ///
    /// # Errors
    /// It is incomplete, or an earlier call failed.
    pub fn finish(&self) -> Result<(), ScanError> {
        match (self.failed, self.state) {
            (Some(error), _) => Err(error),
            (None, State::Done) => Ok(()),
            (None, _) => Err(ScanError::Incomplete),
        }
    }

    /// What the message is; `None` while no key has told.
    pub fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// Whether the message has an `error` that is not `null`, as far as has been read.
    pub fn is_error(&self) -> bool {
        self.error
    }

    /// Whether the message is the last word on its request, not one that asks for input or stands for
    /// a task; `None` while that can't be told. What the keys of a result tell, a `resultType` that
    /// comes after them may still deny.
    pub fn is_final(&self) -> Option<bool> {
        self.finality.and_then(Finality::verdict)
    }

    /// Whether the closing brace has been read. Only white space may follow.
    pub fn is_complete(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Scans `chunk` and returns where in it the span or the id begins that is not in `out` yet.
    fn scan(&mut self, chunk: &Bytes, out: &mut VecDeque<Piece>) -> Result<usize, ScanError> {
        let mut cursor = Cursor { bytes: chunk, at: 0 };
        let mut from = 0;
        while let Some(byte) = cursor.peek() {
            match self.state {
                State::Nested => self.skip_nested(&mut cursor)?,
                State::Key { escaped } => self.read_key(escaped, &mut cursor)?,
                State::String { escaped, then } => {
                    self.state = match cursor.skip_string(escaped) {
                        StringEnd::Closed => then.into(),
                        StringEnd::Open { escaped } => State::String { escaped, then },
                    };
                    if matches!(self.state, State::AfterValue) {
                        match then {
                            Then::Id => self.end_id(chunk.slice(from..cursor.at), out)?,
                            Then::Name(name) => {
                                self.end_name(name, chunk.slice(from..cursor.at), out);
                            }
                            Then::Kind => self.end_kind(chunk.slice(from..cursor.at), out),
                            Then::Replaced => {}
                            Then::AfterValue | Then::Nested => continue,
                        }
                        from = cursor.at;
                    }
                }
                State::Number => {
                    if is_scalar(byte) {
                        cursor.at += 1;
                    } else {
                        self.end_id(chunk.slice(from..cursor.at), out)?;
                        from = cursor.at;
                    }
                }
                State::Replaced => {
                    if is_scalar(byte) {
                        cursor.at += 1;
                    } else {
                        from = cursor.at;
                        self.state = State::AfterValue;
                    }
                }
                _ if is_space(byte) => {
                    cursor.at += 1;
                    if matches!(self.state, State::Scalar) {
                        self.state = State::AfterValue;
                    }
                }
                State::Value if self.member == Some(Member::Id) => {
                    span(chunk, &mut from, cursor.at, out);
                    self.state = match byte {
                        b'"' => State::String { escaped: false, then: Then::Id },
                        b'-' | b'0'..=b'9' => State::Number,
                        _ => return Err(ScanError::InvalidId),
                    };
                    cursor.at += 1;
                }
                State::Value if self.replacement.is_some() && (byte == b'"' || is_scalar(byte)) => {
                    span(chunk, &mut from, cursor.at, out);
                    out.extend(self.replacement.take().map(Piece::Added));
                    self.state = match byte {
                        b'"' => State::String { escaped: false, then: Then::Replaced },
                        _ => State::Replaced,
                    };
                    cursor.at += 1;
                }
                State::Value
                    if byte == b'"'
                        && let Some(then) = self.child.and_then(Child::held) =>
                {
                    span(chunk, &mut from, cursor.at, out);
                    self.state = State::String { escaped: false, then };
                    cursor.at += 1;
                }
                State::ElementOrEnd if byte != b']' => self.begin_element(),
                State::KeyOrEnd | State::ElementOrEnd | State::Scalar | State::AfterValue
                    if self.frames.len() > 1 && self.closers.last() == Some(&byte) =>
                {
                    if self.frames.len() == RESULT {
                        span(chunk, &mut from, cursor.at, out);
                        let empty = matches!(self.state, State::KeyOrEnd);
                        out.extend(addition::missing(&self.additions, empty).map(Piece::Added));
                    }
                    self.closers.pop();
                    self.frames.pop();
                    self.state = State::AfterValue;
                    cursor.at += 1;
                }
                _ => {
                    self.step(byte, self.offset + cursor.at as u64)?;
                    cursor.at += 1;
                }
            }
        }
        Ok(from)
    }

    fn keep_rest(
        &mut self,
        from: usize,
        mut chunk: Bytes,
        out: &mut VecDeque<Piece>,
    ) -> Result<(), ScanError> {
        chunk.advance(from);
        if matches!(self.state, State::Number | State::String { then: Then::Id, .. }) {
            return self.keep_id(&chunk);
        }
        if matches!(self.state, State::Replaced | State::String { then: Then::Replaced, .. }) {
            return Ok(());
        }
        if let State::String { escaped, then: Then::Name(_) | Then::Kind } = self.state {
            self.held.extend_from_slice(&chunk);
            if self.held.len() > MAX_NAME {
                out.push_back(Piece::Span(self.held.split().freeze()));
                self.state = State::String { escaped, then: Then::AfterValue };
            }
            return Ok(());
        }
        if !chunk.is_empty() {
            out.push_back(Piece::Span(chunk));
        }
        Ok(())
    }

    /// One byte of the message's frame: outside strings, nested values and the id.
    fn step(&mut self, byte: u8, offset: u64) -> Result<(), ScanError> {
        let unexpected = Err(ScanError::Unexpected { byte, offset });
        self.state = match (self.state, byte) {
            (State::Start, b'{') => {
                self.open(b'}')?;
                self.enter(Place::Message, false)
            }
            (State::Start, _) => {
                return not_an_object(byte)
                    .map_or(unexpected, |found| Err(ScanError::NotAnObject(found)));
            }
            (State::KeyOrEnd | State::NextKey, b'"') => State::Key { escaped: false },
            (State::Colon, b':') => State::Value,
            (State::Value, _) => {
                self.error |= self.member == Some(Member::Error) && byte != b'n';
                if self.member == Some(Member::Result) && self.frames.len() == 1 && byte != b'{' {
                    self.settle();
                }
                self.replacement = None;
                match byte {
                    b'"' => State::String { escaped: false, then: Then::AfterValue },
                    b'{' => {
                        self.open(b'}')?;
                        match self.child {
                            Some(Child::Place(place)) => self.enter(place, false),
                            _ => State::Nested,
                        }
                    }
                    b'[' => {
                        self.open(b']')?;
                        match self.child {
                            Some(Child::Place(place)) if place.repeats() => self.enter(place, true),
                            _ => State::Nested,
                        }
                    }
                    _ if is_scalar(byte) => State::Scalar,
                    _ => return unexpected,
                }
            }
            (State::Scalar, _) if is_scalar(byte) => State::Scalar,
            (State::Scalar | State::AfterValue, b',') => match self.frames.last() {
                Some(Frame { place, is_array: true }) => {
                    self.child = Some(Child::Place(*place));
                    State::Value
                }
                _ => State::NextKey,
            },
            (State::Scalar | State::AfterValue | State::KeyOrEnd, b'}')
                if self.frames.len() <= 1 =>
            {
                self.closers.clear();
                State::Done
            }
            _ => return unexpected,
        };
        Ok(())
    }

    /// Begins an object whose keys are read, or an array of such.
    fn enter(&mut self, place: Place, is_array: bool) -> State {
        self.frames.push(Frame { place, is_array });
        if is_array { State::ElementOrEnd } else { State::KeyOrEnd }
    }

    /// The first element of an array of objects whose keys are read.
    fn begin_element(&mut self) {
        self.child = self.frames.last().map(|frame| Child::Place(frame.place));
        self.state = State::Value;
    }

    fn open(&mut self, closer: u8) -> Result<(), ScanError> {
        if self.closers.len() >= usize::from(self.max_depth) {
            return Err(ScanError::TooDeep { limit: self.max_depth });
        }
        self.closers.push(closer);
        Ok(())
    }

    /// The hot loop: skips what lies below the top level, to the end of the value, of the chunk or
    /// of a string that the chunk cuts.
    fn skip_nested(&mut self, cursor: &mut Cursor<'_>) -> Result<(), ScanError> {
        while let Some(byte) = cursor.skip_plain() {
            match byte {
                b'"' => {
                    if let StringEnd::Open { escaped } = cursor.skip_string(false) {
                        self.state = State::String { escaped, then: Then::Nested };
                        return Ok(());
                    }
                }
                b'{' => self.open(b'}')?,
                b'[' => self.open(b']')?,
                _ => {
                    if self.closers.pop() != Some(byte) {
                        let offset = self.offset + cursor.at.saturating_sub(1) as u64;
                        return Err(ScanError::Unexpected { byte, offset });
                    }
                    if self.closers.len() == self.frames.len() {
                        self.state = State::AfterValue;
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn read_key(&mut self, escaped: bool, cursor: &mut Cursor<'_>) -> Result<(), ScanError> {
        let start = cursor.at;
        let end = cursor.skip_string(escaped);
        let read = cursor.bytes.get(start..cursor.at).unwrap_or_default();
        let room = (MAX_RAW_KEY + 1).saturating_sub(self.key.len());
        self.key.extend(read.iter().take(room));
        match end {
            StringEnd::Open { escaped } => self.state = State::Key { escaped },
            StringEnd::Closed => {
                let place = self.frames.last().map_or(Place::Message, |frame| frame.place);
                if place == Place::Message {
                    self.member = Member::of_raw_key(&self.key)?;
                    if let Some(member) = self.member {
                        self.see(member)?;
                    }
                    let read = !self.additions.is_empty()
                        || self.names.is_some()
                        || self.finality.is_some();
                    self.child = (read && self.member == Some(Member::Result))
                        .then_some(Child::Place(Place::Result(self.names)));
                } else {
                    let key = unescaped(&self.key)?.unwrap_or_default();
                    self.child = place.child(&key);
                    if self.frames.len() == RESULT {
                        self.replacement = addition::see(&mut self.additions, &key);
                        if let Some(finality) = &mut self.finality {
                            finality.see(&key);
                            if *key == *b"resultType" {
                                self.child = Some(Child::Kind);
                            }
                        }
                    }
                }
                self.key.clear();
                self.state = State::Colon;
            }
        }
        Ok(())
    }

    fn see(&mut self, member: Member) -> Result<(), ScanError> {
        let bit = 1 << member as u8;
        if self.seen & bit != 0 {
            return Err(ScanError::Duplicate(member.name()));
        }
        self.seen |= bit;
        let kind = match member {
            Member::Id => return Ok(()),
            Member::Method | Member::Params => Kind::Call,
            Member::Result | Member::Error => Kind::Response,
        };
        if *self.kind.get_or_insert(kind) != kind {
            return Err(ScanError::Ambiguous);
        }
        if member != Member::Result {
            self.settle();
        }
        Ok(())
    }

    /// There is no result of which anything is to be found out.
    fn settle(&mut self) {
        if let Some(finality) = &mut self.finality {
            finality.settle();
        }
    }

    fn keep_id(&mut self, part: &[u8]) -> Result<(), ScanError> {
        if self.held.len() + part.len() > MAX_ID {
            return Err(ScanError::LongId);
        }
        self.held.extend_from_slice(part);
        Ok(())
    }

    fn end_id(&mut self, part: Bytes, out: &mut VecDeque<Piece>) -> Result<(), ScanError> {
        let id = if self.held.is_empty() {
            if part.len() > MAX_ID {
                return Err(ScanError::LongId);
            }
            part
        } else {
            self.keep_id(&part)?;
            self.held.split().freeze()
        };
        serde_json::from_slice::<Json<'_>>(&id).map_err(|_| ScanError::InvalidId)?;
        out.push_back(Piece::Id(id));
        self.state = State::AfterValue;
        Ok(())
    }

    fn end_kind(&mut self, part: Bytes, out: &mut VecDeque<Piece>) {
        let text = self.whole(part);
        if let Some(finality) = &mut self.finality {
            finality.read(&text);
        }
        out.push_back(Piece::Span(text));
    }

    /// What is held of a string, and its last part.
    fn whole(&mut self, part: Bytes) -> Bytes {
        if self.held.is_empty() {
            return part;
        }
        self.held.extend_from_slice(&part);
        self.held.split().freeze()
    }

    fn end_name(&mut self, name: Name, part: Bytes, out: &mut VecDeque<Piece>) {
        let text = self.whole(part);
        out.push_back(if text.len() > MAX_NAME {
            Piece::Span(text)
        } else {
            Piece::Name(name, text)
        });
    }
}

/// Hands out what lies before `to`.
fn span(chunk: &Bytes, from: &mut usize, to: usize, out: &mut VecDeque<Piece>) {
    if *from < to {
        out.push_back(Piece::Span(chunk.slice(*from..to)));
    }
    *from = to;
}

fn not_an_object(byte: u8) -> Option<&'static str> {
    match byte {
        b'[' => Some("an array"),
        b'"' => Some("a string"),
        b'-' | b'0'..=b'9' => Some("a number"),
        b't' | b'f' => Some("a boolean"),
        b'n' => Some("null"),
        _ => None,
    }
}

/// Whether a byte may stand in a number or a literal.
fn is_scalar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.')
}

/// How many objects are open around the members of the result.
const RESULT: usize = 2;

/// The longest id in bytes, quotes included. Ids are counters and UUIDs in practice; this leaves room
/// for any scheme and bounds what is held of one that never ends.
pub const MAX_ID: usize = 1024;

/// The longest name in bytes, quotes included: what names a resource is some hundred bytes, and longer
/// is what holds it, as `data:` URIs do.
pub const MAX_NAME: usize = 8 * 1024;
