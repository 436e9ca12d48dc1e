//! The incremental decoder: chunks in, events out.
//!
//! A line is read as far as it has come; only what an event needs later is kept. Performs no I/O,
//! copies no data of an event that lies in one chunk on one line, and never holds more than the
//! threshold and one chunk.

use std::{collections::VecDeque, mem};

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memchr2};

use super::{
    item::{DecodeError, Event, Fields, Item},
    line::{Field, Line, Short},
};

/// An incremental decoder of one event stream.
///
/// Push a chunk, then call [`next`](Self::next) until it returns `None`, then push the following
/// one.
#[derive(Debug)]
pub struct Decoder {
    max_event_bytes: usize,
    stream_above: usize,
    input: VecDeque<Bytes>,
    output: VecDeque<Item>,
    bom: Bom,
    /// The last byte read was a CR that ended a line: an LF that follows belongs to it.
    after_cr: bool,
    line: Line,
    /// The start of the line while it is too short to tell its field.
    head: Vec<u8>,
    /// The value of the current line if it is a short field in several chunks.
    value: Vec<u8>,
    /// Bytes of the current line that have counted against the limit.
    line_bytes: usize,
    event_bytes: usize,
    fields: Fields,
    data: Data,
    failed: Option<DecodeError>,
}

impl Decoder {
    /// A decoder that refuses events of more than `max_event_bytes` bytes and streams those with
    /// more than [`STREAM_ABOVE`] bytes of data.
    ///
    /// All bytes of an event's lines count, except line ends and comments.
    pub fn new(max_event_bytes: usize) -> Self {
        Self::with_stream_above(max_event_bytes, STREAM_ABOVE)
    }

    /// Like [`new`](Self::new), streaming events with more than `stream_above` bytes of data.
    pub fn with_stream_above(max_event_bytes: usize, stream_above: usize) -> Self {
        Self {
            max_event_bytes,
            stream_above,
            input: VecDeque::new(),
            output: VecDeque::new(),
            bom: Bom::Expected(0),
            after_cr: false,
            line: Line::Head,
            head: Vec::new(),
            value: Vec::new(),
            line_bytes: 0,
            event_bytes: 0,
            fields: Fields::default(),
            data: Data::None,
            failed: None,
        }
    }

    /// Adds the next chunk of the stream.
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.input.push_back(chunk);
        }
    }

    /// The next item, or `None` when more input is needed.
    ///
    /// # Errors
    /// An event or a field is larger than its limit. The stream can't be read further: every later
    /// call fails alike.
    #[expect(
        clippy::should_implement_trait,
        reason = "`None` means more input is needed, not the end"
    )]
    pub fn next(&mut self) -> Result<Option<Item>, DecodeError> {
        loop {
            if let Some(item) = self.output.pop_front() {
                return Ok(Some(item));
            }
            if let Some(error) = self.failed {
                return Err(error);
            }
            let Some(chunk) = self.input.pop_front() else {
                return Ok(None);
            };
            if let Err(error) = self.read(chunk) {
                self.input.clear();
                self.failed = Some(error);
            }
        }
    }

    /// Whether the stream ends here in the midst of an event. Such an event is dropped; a streamed
    /// one has had its [`Item::DataStart`] and will have no [`Item::DataEnd`].
    ///
    /// To be asked at the end of the stream, once [`next`](Self::next) has returned `None`.
    #[must_use = "an incomplete event may be the answer that a client waits for"]
    pub fn finish(&self) -> bool {
        let in_field = match self.line {
            Line::Head => !self.head.is_empty(),
            Line::Data { .. } | Line::Short { .. } => true,
            Line::Ignored { .. } => false,
        };
        in_field
            || !self.input.is_empty()
            || !matches!(self.data, Data::None)
            || self.fields != Fields::default()
    }

    /// Reads at most one line of `chunk` and puts the rest back.
    fn read(&mut self, mut chunk: Bytes) -> Result<(), DecodeError> {
        self.skip_bom(&mut chunk)?;
        if mem::take(&mut self.after_cr) && chunk.first() == Some(&b'\n') {
            chunk.advance(1);
        }
        if chunk.is_empty() {
            return Ok(());
        }

        let Some(end) = memchr2(b'\n', b'\r', &chunk) else {
            return self.read_part(chunk);
        };
        let part = chunk.split_to(end);
        self.after_cr = chunk.first() == Some(&b'\r');
        chunk.advance(1);
        if !chunk.is_empty() {
            self.input.push_front(chunk);
        }
        if !part.is_empty() {
            self.read_part(part)?;
        }
        self.end_line();
        Ok(())
    }

    fn skip_bom(&mut self, chunk: &mut Bytes) -> Result<(), DecodeError> {
        while let Bom::Expected(seen) = self.bom {
            let Some(&byte) = chunk.first() else {
                return Ok(());
            };
            if BOM.get(seen) == Some(&byte) {
                chunk.advance(1);
                self.bom =
                    if seen + 1 == BOM.len() { Bom::Passed } else { Bom::Expected(seen + 1) };
                continue;
            }
            self.bom = Bom::Passed;
            if let Some(start) = BOM.get(..seen).filter(|start| !start.is_empty()) {
                self.read_part(Bytes::from_static(start))?;
            }
        }
        Ok(())
    }

    /// Reads a part of a line, without line ends.
    fn read_part(&mut self, mut part: Bytes) -> Result<(), DecodeError> {
        self.line_bytes = self.line_bytes.saturating_add(part.len());
        if matches!(self.line, Line::Head) {
            if self.head.is_empty()
                && let Some((field, length)) = Field::of_line(&part)
            {
                part.advance(length);
                self.begin_value(field);
            } else {
                self.read_head(&mut part);
            }
        }
        // A comment is no part of the event, which a keep-alive must not push over the limit.
        let before = if self.in_comment() { 0 } else { self.event_bytes };
        if self.line_bytes > self.max_event_bytes.saturating_sub(before) {
            return Err(DecodeError::TooLarge { limit: self.max_event_bytes });
        }
        match &mut self.line {
            Line::Head | Line::Ignored { .. } => Ok(()),
            Line::Data { space } => {
                skip_space(space, &mut part);
                self.append_data(part);
                Ok(())
            }
            Line::Short { field, space } => {
                skip_space(space, &mut part);
                if self.value.len() + part.len() > MAX_SHORT_FIELD {
                    return Err(DecodeError::FieldTooLong {
                        field: field.name(),
                        limit: MAX_SHORT_FIELD,
                    });
                }
                self.value.extend_from_slice(&part);
                Ok(())
            }
        }
    }

    /// Moves bytes of `part` to the head until they tell the line's field. They do after a few.
    fn read_head(&mut self, part: &mut Bytes) {
        while let Some(&byte) = part.first() {
            part.advance(1);
            self.head.push(byte);
            if let Some((field, _)) = Field::of_line(&self.head) {
                self.head.clear();
                self.begin_value(field);
                return;
            }
        }
    }

    fn begin_value(&mut self, field: Field) {
        self.line = match field {
            Field::Comment => Line::Ignored { comment: true },
            Field::Unknown => Line::Ignored { comment: false },
            Field::Data => {
                self.begin_data_line();
                Line::Data { space: true }
            }
            Field::Short(field) => Line::Short { field, space: true },
        };
    }

    fn end_line(&mut self) {
        if matches!(self.line, Line::Head) {
            if self.head.is_empty() {
                self.dispatch();
                return;
            }
            // No colon: the line is the name of a field with an empty value.
            let field = Field::of_name(&self.head);
            self.head.clear();
            self.begin_value(field);
        }
        let line_bytes = mem::take(&mut self.line_bytes);
        if !self.in_comment() {
            // In range: `read_part` has checked the sum.
            self.event_bytes = self.event_bytes.saturating_add(line_bytes);
        }
        if let Line::Short { field, .. } = mem::replace(&mut self.line, Line::Head) {
            self.set(field);
        }
    }

    fn in_comment(&self) -> bool {
        matches!(self.line, Line::Ignored { comment: true })
    }

    fn set(&mut self, field: Short) {
        let value = self.value.as_slice();
        match field {
            Short::Event => {
                self.fields.event = match value {
                    b"" => None,
                    b"message" => Some(Bytes::from_static(b"message")),
                    name => Some(Bytes::copy_from_slice(name)),
                }
            }
            Short::Id if memchr(0, value).is_none() => {
                self.fields.id = Some(Bytes::copy_from_slice(value));
            }
            Short::Retry if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
                let millis = value.iter().fold(0_u64, |millis, digit| {
                    millis.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
                });
                self.fields.retry = Some(millis);
            }
            Short::Id | Short::Retry => {}
        }
        self.value.clear();
    }

    fn begin_data_line(&mut self) {
        if matches!(self.data, Data::None) {
            self.data = Data::Whole(Bytes::new());
        } else {
            self.append_data(Bytes::from_static(b"\n"));
        }
    }

    fn append_data(&mut self, part: Bytes) {
        if part.is_empty() {
            return;
        }
        let held = match &self.data {
            Data::None => 0,
            Data::Whole(data) => data.len(),
            Data::Joined(data) => data.len(),
            Data::Streamed => {
                self.output.push_back(Item::DataChunk(part));
                return;
            }
        };
        if held + part.len() > self.stream_above {
            self.output.push_back(Item::DataStart(self.fields.clone()));
            let held = mem::replace(&mut self.data, Data::Streamed).into_bytes();
            self.output.extend(
                [held, part].into_iter().filter(|data| !data.is_empty()).map(Item::DataChunk),
            );
            return;
        }
        self.data = match mem::replace(&mut self.data, Data::None) {
            Data::Whole(data) if !data.is_empty() => {
                let mut joined = BytesMut::with_capacity(data.len() + part.len());
                joined.extend_from_slice(&data);
                joined.extend_from_slice(&part);
                Data::Joined(joined)
            }
            Data::Joined(mut joined) => {
                joined.extend_from_slice(&part);
                Data::Joined(joined)
            }
            Data::None | Data::Whole(_) | Data::Streamed => Data::Whole(part),
        };
    }

    fn dispatch(&mut self) {
        self.event_bytes = 0;
        let fields = mem::take(&mut self.fields);
        let data = mem::replace(&mut self.data, Data::None);
        let dispatched = !matches!(data, Data::None);
        if matches!(data, Data::Streamed) {
            self.output.push_back(Item::DataEnd(fields));
        } else if dispatched || fields.id.is_some() || fields.retry.is_some() {
            let Fields { event, id, retry } = fields;
            self.output.push_back(Item::Event(Event {
                event,
                data: data.into_bytes(),
                id,
                retry,
                dispatched,
            }));
        }
    }
}

/// The byte order mark that may precede the stream.
#[derive(Clone, Copy, Debug)]
enum Bom {
    /// So many of its bytes have been seen.
    Expected(usize),
    Passed,
}

/// The data of the current event.
#[derive(Debug)]
enum Data {
    /// No `data` line yet.
    None,
    /// A slice of one chunk.
    Whole(Bytes),
    /// Copied together from several lines or chunks.
    Joined(BytesMut),
    /// Handed out already.
    Streamed,
}

impl Data {
    fn into_bytes(self) -> Bytes {
        match self {
            Self::None | Self::Streamed => Bytes::new(),
            Self::Whole(data) => data,
            Self::Joined(data) => data.freeze(),
        }
    }
}

/// Drops the one space that may follow the colon.
fn skip_space(space: &mut bool, part: &mut Bytes) {
    if let Some(&first) = part.first()
        && mem::take(space)
        && first == b' '
    {
        part.advance(1);
    }
}

/// Events with more data than this many bytes (64 KiB) are streamed by default: what the gateway
/// would splice whole.
pub const STREAM_ABOVE: usize = 64 * 1024;

/// The most bytes of an `event`, `id` or `retry` value: an id comes back as a header, and 8 KiB is
/// what common servers take for one header.
const MAX_SHORT_FIELD: usize = 8 * 1024;

const BOM: &[u8] = b"\xef\xbb\xbf";
