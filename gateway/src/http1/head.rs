//! Heads of messages.

use std::mem::MaybeUninit;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{Framing, Malformed};

/// Headers of a message.
const MAX_HEADERS: usize = 100;

/// Looks for the end of a head in bytes that grow.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lines {
    /// Looked at already.
    seen: usize,
}

impl Lines {
    /// How long the head is, once all of it is there. Everything is looked at once.
    pub(crate) fn end(&mut self, buffer: &[u8], limit: usize) -> Result<Option<usize>, Malformed> {
        let seen = self.seen;
        for at in memchr::memchr_iter(b'\n', buffer.get(seen..).unwrap_or_default()) {
            let end = seen + at + 1;
            let head = buffer.get(..end).unwrap_or_default();
            if !head.ends_with(b"\r\n") {
                return Err(Malformed::Line);
            }
            if head.ends_with(b"\r\n\r\n") {
                self.seen = 0;
                return if end > limit { Err(Malformed::LargeHead) } else { Ok(Some(end)) };
            }
        }
        self.seen = buffer.len();
        if buffer.len() >= limit { Err(Malformed::LargeHead) } else { Ok(None) }
    }
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) minor_version: u8,
    pub(crate) framing: Framing,
    /// All others. They are copied: a session's id, which is held for long, must not hold a buffer.
    pub(crate) headers: HeaderMap,
}

/// Reads the head of an answer, all of it and nothing else.
pub(crate) fn response(bytes: &[u8]) -> Result<ResponseHead, Malformed> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut head, bytes, &mut lines);
    if parsed != Ok(httparse::Status::Complete(bytes.len())) {
        return Err(Malformed::Head);
    }
    let (Some(minor_version), Some(code)) = (head.version, head.code) else {
        return Err(Malformed::Head);
    };
    let status = StatusCode::from_u16(code).map_err(|_| Malformed::Head)?;
    let mut framing = Framing::default();
    let mut headers = HeaderMap::new();
    for line in head.headers.iter() {
        if !framing.note(line.name, line.value)? {
            let value = HeaderValue::from_bytes(line.value).map_err(|_| Malformed::Head)?;
            headers.append(name(line)?, value);
        }
    }
    Ok(ResponseHead { status, minor_version, framing, headers })
}

fn name(line: &httparse::Header<'_>) -> Result<HeaderName, Malformed> {
    HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| Malformed::Head)
}
