//! Where a client connects to, and what it gets from there.

use serde_json::{Map, Value, json};

/// The transports that clients can be told to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP+SSE of 2024-11-05.
    Sse,
    /// Streamable HTTP, at the revision the two negotiate.
    Http,
}

impl Transport {
    /// Both, for tests of the one and the other.
    pub const ALL: [Self; 2] = [Self::Sse, Self::Http];

    /// The name that configurations and commands give it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sse => "sse",
            Self::Http => "http",
        }
    }

    /// Where servers have it by convention.
    pub fn path(self) -> &'static str {
        match self {
            Self::Sse => "/sse",
            Self::Http => "/mcp",
        }
    }
}

/// A server as a client's configuration names it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// How it is spoken to.
    pub transport: Transport,
    /// Where it is.
    pub url: String,
    /// Headers that every request carries.
    pub headers: Vec<(String, String)>,
}

impl Endpoint {
    /// The conventional path at `base`, without headers.
    pub fn new(transport: Transport, base: &str) -> Self {
        let url = format!("{base}{}", transport.path());
        Self { transport, url, headers: Vec::new() }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a query to the URL.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.url = format!("{}?{name}={value}", self.url);
        self
    }

    pub(super) fn headers_json(&self) -> Value {
        let headers = self.headers.iter().map(|(name, value)| (name.clone(), json!(value)));
        Value::Object(headers.collect::<Map<_, _>>())
    }
}
