//! The encoder: events as bytes for a client.
//!
//! Every value becomes one line: a CR or LF in it is written as a space, which leaves JSON the same
//! JSON (inside strings JSON has none) and lets nobody inject a field. Performs no I/O and never
//! checks what an event carries.

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

/// Appends one event. Without a `name` it is a `message`.
pub fn event(name: Option<&str>, id: Option<&str>, data: &[u8], out: &mut BytesMut) {
    out.reserve(data.len() + OVERHEAD + name.map_or(0, str::len) + id.map_or(0, str::len));
    begin(name, id, out);
    append_line(data, out);
    end(out);
}

/// Appends the start of an event whose data comes in pieces: each [`flatten`]ed and sent as it is,
/// then [`end`]. Nothing else may be written between them, not even a [`comment`].
pub fn begin(name: Option<&str>, id: Option<&str>, out: &mut BytesMut) {
    if let Some(name) = name {
        out.extend_from_slice(b"event: ");
        append_line(name.as_bytes(), out);
        out.extend_from_slice(b"\n");
    }
    if let Some(id) = id {
        out.extend_from_slice(b"id: ");
        append_line(id.as_bytes(), out);
        out.extend_from_slice(b"\n");
    }
    out.extend_from_slice(b"data: ");
}

/// Appends the end of an event begun with [`begin`].
pub fn end(out: &mut BytesMut) {
    out.extend_from_slice(b"\n\n");
}

/// Appends a comment, which clients ignore: the keep-alive.
pub fn comment(text: &str, out: &mut BytesMut) {
    out.extend_from_slice(b": ");
    append_line(text.as_bytes(), out);
    out.extend_from_slice(b"\n\n");
}

/// Appends the time after which a client should reconnect, in milliseconds.
pub fn retry(millis: u64, out: &mut BytesMut) {
    out.extend_from_slice(b"retry: ");
    out.extend_from_slice(millis.to_string().as_bytes());
    out.extend_from_slice(b"\n\n");
}

/// `data` with each CR or LF replaced by a space; the same `Bytes` if it has none.
pub fn flatten(data: Bytes) -> Bytes {
    let Some(first) = memchr2(b'\n', b'\r', &data) else {
        return data;
    };
    // Copies only if someone else holds the buffer.
    let mut flat = BytesMut::from(data);
    replace_line_ends(flat.get_mut(first..).unwrap_or_default());
    flat.freeze()
}

fn append_line(value: &[u8], out: &mut BytesMut) {
    let start = out.len();
    out.extend_from_slice(value);
    if let Some(first) = memchr2(b'\n', b'\r', value) {
        replace_line_ends(out.get_mut(start + first..).unwrap_or_default());
    }
}

fn replace_line_ends(line: &mut [u8]) {
    for byte in line {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
}

/// `event: `, `id: ` and `data: ` with their line ends and the blank line.
const OVERHEAD: usize = 21;
