//! Requests to a server, and what those to one URL have in common.

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use crate::http1::{Outgoing, put_line};

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

/// One request, as it is written.
#[derive(Debug)]
pub(crate) struct Request {
    head: Vec<u8>,
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

    /// A request with headers of its own, of which each takes the place of a common one of that name.
    pub(crate) fn request(
        &self,
        method: &Method,
        headers: &[(&HeaderName, &HeaderValue)],
        body: Bytes,
    ) -> Request {
        let common = &*self.0;
        let mut head = Vec::with_capacity(common.target.len() + common.lines.len() + 512);
        head.put_slice(method.as_str().as_bytes());
        head.put_u8(b' ');
        head.put_slice(common.target.as_bytes());
        head.put_slice(b" HTTP/1.1\r\n");
        if headers.iter().any(|(name, _)| common.headers.contains_key(*name)) {
            for (name, value) in &common.headers {
                if headers.iter().all(|(own, _)| *own != name) {
                    put_line(name, value, &mut head);
                }
            }
        } else {
            head.put_slice(&common.lines);
        }
        for (name, value) in headers {
            put_line(name, value, &mut head);
        }
        if !body.is_empty() || *method != Method::GET {
            head.put_slice(b"content-length: ");
            head.put_slice(itoa::Buffer::new().format(body.len()).as_bytes());
            head.put_slice(b"\r\n");
        }
        head.put_slice(b"\r\n");
        Request { head, body }
    }

    pub(crate) fn holds(&self, name: &HeaderName) -> bool {
        self.0.headers.contains_key(name)
    }
}

impl Request {
    pub(super) fn write(&self, outgoing: &mut Outgoing) {
        outgoing.buffer().put_slice(&self.head);
        outgoing.put(self.body.clone(), b"");
    }
}
