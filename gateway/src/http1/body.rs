//! The body of a message, taken out of the bytes that have come.

use bytes::{Buf, Bytes, BytesMut};

use super::Malformed;

/// Longest line that tells the size of a chunk, with extensions: those are read past.
const MAX_SIZE_LINE: usize = 1024;
/// All trailers together: they are read past.
const MAX_TRAILERS: usize = 16 * 1024;

/// Where in a body the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decoder {
    /// So many bytes are left.
    Length(u64),
    /// Before the line with a chunk's size.
    Size,
    /// So many bytes of a chunk are left.
    Chunk(u64),
    /// Before the line end after a chunk.
    ChunkEnd,
    /// After the last chunk; so many bytes of trailers are taken yet.
    Trailers(usize),
    /// Until the connection ends.
    UntilClose,
}

/// What the bytes that have come hold.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Data(Bytes),
    /// Nothing more without more bytes.
    More,
    /// The end of the body.
    End,
}

impl Decoder {
    /// The next part, taken off `buffer`.
    pub(crate) fn next(&mut self, buffer: &mut BytesMut) -> Result<Part, Malformed> {
        loop {
            match self {
                Self::Length(0) => return Ok(Part::End),
                Self::Length(left) => return Ok(data(left, buffer)),
                Self::Chunk(left) => {
                    let part = data(left, buffer);
                    if *left == 0 {
                        *self = Self::ChunkEnd;
                    }
                    return Ok(part);
                }
                Self::UntilClose if buffer.is_empty() => return Ok(Part::More),
                Self::UntilClose => return Ok(Part::Data(buffer.split().freeze())),
                Self::Size | Self::ChunkEnd | Self::Trailers(_) => {
                    if let Some(part) = self.frame(buffer)? {
                        return Ok(part);
                    }
                }
            }
        }
    }

    /// Whether the body is over, as far as can be told without handing out data.
    pub(crate) fn is_over(&mut self, buffer: &mut BytesMut) -> bool {
        loop {
            match self {
                Self::Length(left) => return *left == 0,
                Self::Chunk(_) | Self::UntilClose => return false,
                Self::Size | Self::ChunkEnd | Self::Trailers(_) => match self.frame(buffer) {
                    Ok(None) => {}
                    Ok(Some(part)) => return part == Part::End,
                    // Told when the next part is asked for: nothing was taken.
                    Err(_) => return false,
                },
            }
        }
    }

    /// One step between chunks; `None` when there is another to make. Takes nothing on an error.
    fn frame(&mut self, buffer: &mut BytesMut) -> Result<Option<Part>, Malformed> {
        let limit = match self {
            Self::Size => MAX_SIZE_LINE,
            Self::Trailers(left) => *left,
            _ => 2,
        };
        let Some(end) = line_end(buffer, limit, self.complaint())? else {
            return Ok(Some(Part::More));
        };
        let line = buffer.get(..end).unwrap_or_default();
        let next = match self {
            Self::Size => match size(line).ok_or(Malformed::Chunk)? {
                0 => Self::Trailers(MAX_TRAILERS),
                size => Self::Chunk(size),
            },
            Self::Trailers(_) if line.is_empty() => {
                *self = Self::Length(0);
                buffer.advance(end + 2);
                return Ok(Some(Part::End));
            }
            Self::Trailers(left) if line.contains(&b':') => {
                Self::Trailers(left.saturating_sub(end + 2))
            }
            Self::Trailers(_) => return Err(Malformed::Trailers),
            _ if line.is_empty() => Self::Size,
            _ => return Err(Malformed::Chunk),
        };
        buffer.advance(end + 2);
        *self = next;
        Ok(None)
    }

    const fn complaint(&self) -> Malformed {
        match self {
            Self::Trailers(_) => Malformed::Trailers,
            _ => Malformed::Chunk,
        }
    }
}

fn data(left: &mut u64, buffer: &mut BytesMut) -> Part {
    if buffer.is_empty() {
        return Part::More;
    }
    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
    *left -= taken as u64;
    Part::Data(buffer.split_to(taken).freeze())
}

/// Where the line at the start of `buffer` ends. A line and its end are at most `limit` bytes.
fn line_end(buffer: &[u8], limit: usize, complaint: Malformed) -> Result<Option<usize>, Malformed> {
    let within = buffer.get(..limit.min(buffer.len())).unwrap_or_default();
    match memchr::memchr2(b'\r', b'\n', within) {
        Some(at) => match within.get(at..) {
            Some([b'\r', b'\n', ..]) => Ok(Some(at)),
            Some([b'\r']) if within.len() < limit => Ok(None),
            _ => Err(complaint),
        },
        None if within.len() < limit => Ok(None),
        None => Err(complaint),
    }
}

/// The size of a chunk: hexadecimal digits, then nothing or an extension.
fn size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?;
    let text = std::str::from_utf8(digits).ok()?.trim_end_matches([' ', '\t']);
    let all = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    all.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}
