//! Heads of messages.

use std::mem::MaybeUninit;

use bytes::{BufMut, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};

use super::{Framing, Malformed};

/// Headers of a message.
pub(crate) const MAX_HEADERS: usize = 100;

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

/// The head of a request.
#[derive(Debug)]
pub(crate) struct RequestHead {
    /// With all headers but those of the framing and the connection. They are parts of what was read.
    pub(crate) request: Request<()>,
    pub(crate) framing: Framing,
    /// The client waits for a word before it sends the body (RFC 9110 §10.1.1).
    pub(crate) expects: bool,
}

/// Reads the head of a request, all of it and nothing else.
pub(crate) fn request(bytes: &Bytes) -> Result<RequestHead, Malformed> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut []);
    match head.parse_with_uninit_headers(bytes, &mut lines) {
        Ok(httparse::Status::Complete(end)) if end == bytes.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(Malformed::LargeHead),
        _ => return Err(Malformed::Head),
    }
    let (Some(minor_version), Some(method), Some(target)) = (head.version, head.method, head.path)
    else {
        return Err(Malformed::Head);
    };
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|_| Malformed::Head)?;
    *request.uri_mut() = Uri::from_maybe_shared(bytes.slice_ref(target.as_bytes()))
        .map_err(|_| Malformed::Target)?;
    let mut headers = HeaderMap::with_capacity(head.headers.len());
    let (mut framing, mut hosts, mut expects) = (Framing::default(), 0, false);
    for line in head.headers.iter() {
        if framing.note(line.name, line.value)? {
            continue;
        }
        match line.name.len() {
            4 => hosts += usize::from(line.name.eq_ignore_ascii_case("host")),
            6 if line.name.eq_ignore_ascii_case("expect") => {
                expects = line.value.eq_ignore_ascii_case(b"100-continue");
            }
            _ => {}
        }
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(line.value))
            .map_err(|_| Malformed::Head)?;
        headers.append(name(line)?, value);
    }
    // RFC 9112 §3.2, and §6.1: two readers could take one host or another, one end or another.
    let modern = minor_version > 0;
    if hosts > 1 || (modern && hosts == 0) {
        return Err(Malformed::Host);
    }
    if framing.chunked && !modern {
        return Err(Malformed::Encoding);
    }
    *request.headers_mut() = headers;
    *request.version_mut() = if modern { Version::HTTP_11 } else { Version::HTTP_10 };
    Ok(RequestHead { request, framing, expects: expects && modern })
}

/// Writes a header.
pub(crate) fn put_line(name: &HeaderName, value: &HeaderValue, out: &mut impl BufMut) {
    out.put_slice(name.as_str().as_bytes());
    out.put_slice(b": ");
    out.put_slice(value.as_bytes());
    out.put_slice(b"\r\n");
}

fn name(line: &httparse::Header<'_>) -> Result<HeaderName, Malformed> {
    HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| Malformed::Head)
}
