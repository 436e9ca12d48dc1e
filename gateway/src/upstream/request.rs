//! Requests to a server, and what those to one URL have in common.

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use crate::http1::Outgoing;

/// What requests to one URL have in common.
#[derive(Debug, Clone)]
pub(crate) struct Template(Arc<Common>);

#[derive(Debug, Clone)]
struct Common {
    /// Path and query: on a connection of one's own that is all (RFC 9112 §3.2.1).
    target: String,
    headers: HeaderMap,
    /// The headers as they are written.
    lines: Vec<u8>,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Request {
    method: Method,
    common: Template,
    /// Its own headers. One takes the place of a common one of the same name.
    headers: HeaderMap,
    body: Bytes,
}

impl Template {
    /// For a URL of the origin; `host` overrides the URL's own.
    pub(crate) fn new(url: &Uri, host: Option<&HeaderValue>) -> Self {
        let target = url.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let common = Common { target, headers: HeaderMap::new(), lines: Vec::new() };
        let own = || HeaderValue::from_str(url.authority()?.as_str()).ok();
        match host.cloned().or_else(own) {
            Some(host) => Self(Arc::new(common)).with(header::HOST, host),
            None => Self(Arc::new(common)),
        }
    }

    pub(crate) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        let common = Arc::make_mut(&mut self.0);
        common.headers.insert(name, value);
        common.lines.clear();
        for (name, value) in &common.headers {
            put_line(name, value, &mut common.lines);
        }
        self
    }

    /// For messages: takes an answer as JSON or as events.
    pub(crate) fn posting(self) -> Self {
        let both = HeaderValue::from_static("application/json, text/event-stream");
        self.with(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .with(header::ACCEPT, both)
    }

    /// For a stream of events.
    pub(crate) fn listening(self) -> Self {
        self.with(header::ACCEPT, HeaderValue::from_static("text/event-stream"))
    }

    pub(crate) fn request(&self, method: Method, body: Bytes) -> Request {
        Request { method, common: self.clone(), headers: HeaderMap::new(), body }
    }

    pub(crate) fn holds(&self, name: &HeaderName) -> bool {
        self.0.headers.contains_key(name)
    }
}

impl Request {
    pub(crate) const fn headers_mut(&mut self) -> &mut HeaderMap {
        &mut self.headers
    }

    /// The request as it is written.
    pub(super) fn encode(&self, outgoing: &mut Outgoing) {
        let (common, body) = (&*self.common.0, self.body.len());
        let out = outgoing.buffer();
        out.reserve(common.target.len() + common.lines.len() + 1024);
        out.put_slice(self.method.as_str().as_bytes());
        out.put_u8(b' ');
        out.put_slice(common.target.as_bytes());
        out.put_slice(b" HTTP/1.1\r\n");
        if self.headers.keys().any(|name| common.headers.contains_key(name)) {
            let others =
                common.headers.iter().filter(|(name, _)| !self.headers.contains_key(*name));
            others.for_each(|(name, value)| put_line(name, value, out));
        } else {
            out.put_slice(&common.lines);
        }
        for (name, value) in &self.headers {
            put_line(name, value, out);
        }
        if body > 0 || self.method != Method::GET {
            out.put_slice(b"content-length: ");
            out.put_slice(itoa::Buffer::new().format(body).as_bytes());
            out.put_slice(b"\r\n");
        }
        out.put_slice(b"\r\n");
        outgoing.put(self.body.clone(), b"");
    }
}

fn put_line(name: &HeaderName, value: &HeaderValue, out: &mut impl BufMut) {
    out.put_slice(name.as_str().as_bytes());
    out.put_slice(b": ");
    out.put_slice(value.as_bytes());
    out.put_slice(b"\r\n");
}
