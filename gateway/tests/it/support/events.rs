//! Streams of events as a client reads them.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use mcp::sse::{Decoder, Item};
use serde_json::Value;
use tokio::time::timeout;

use super::within;

/// Larger than any event here.
const LARGEST: usize = 64 * 1024 * 1024;

/// An open stream.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    decoder: Decoder,
    /// The transfer was aborted.
    pub broken: bool,
    /// Events that were read while something else was looked for.
    pub passed: Vec<Event>,
}

/// One event.
#[derive(Debug, Clone)]
pub struct Event {
    pub name: String,
    pub data: String,
    pub id: Option<String>,
    pub retry: Option<u64>,
}

impl Event {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn is_list_changed(&self) -> bool {
        self.json()["method"] == "notifications/tools/list_changed"
    }
}

impl Events {
    pub fn new(body: Incoming) -> Self {
        let decoder = Decoder::with_stream_above(LARGEST, LARGEST);
        Self { body, decoder, broken: false, passed: Vec::new() }
    }

    /// The next event; `None` at the end.
    pub async fn next(&mut self) -> Option<Event> {
        within("an event", self.read()).await
    }

    /// The next event that is about something, not only an id.
    async fn read(&mut self) -> Option<Event> {
        let text = |bytes: Bytes| String::from_utf8(bytes.into()).unwrap();
        loop {
            match self.decoder.next().unwrap() {
                // Of no meaning but how soon to come back.
                Some(Item::Event(event)) if !event.dispatched => {}
                Some(Item::Event(event)) => {
                    return Some(Event {
                        name: event.event.map_or_else(|| "message".to_owned(), text),
                        data: text(event.data),
                        id: event.id.map(text),
                        retry: event.retry,
                    });
                }
                Some(other) => panic!("an event of over 64 MiB: {other:?}"),
                None => match self.body.frame().await {
                    Some(Ok(frame)) => self.decoder.push(frame.into_data().unwrap_or_default()),
                    Some(Err(_)) => {
                        self.broken = true;
                        return None;
                    }
                    None => return None,
                },
            }
        }
    }

    /// The next message that answers the request of that id. Everything before is in `passed`.
    pub async fn answer(&mut self, id: &Value) -> Value {
        loop {
            let event = self.next().await.unwrap_or_else(|| {
                panic!("the stream ended before the answer to {id}: {:?}", self.passed)
            });
            let message = event.json();
            if message["id"] == *id && message.get("method").is_none() {
                return message;
            }
            self.passed.push(event);
        }
    }

    /// The next message with a method. Everything before is in `passed`.
    pub async fn message(&mut self, method: &str) -> Value {
        loop {
            let event = self
                .next()
                .await
                .unwrap_or_else(|| panic!("the stream ended before {method}: {:?}", self.passed));
            let message = event.json();
            if message["method"] == method {
                return message;
            }
            self.passed.push(event);
        }
    }

    /// Reads until the server says that the tools changed.
    pub async fn list_changed(&mut self) {
        loop {
            let event = self.next().await.expect("the stream ended before list_changed");
            if event.is_list_changed() {
                return;
            }
            self.passed.push(event);
        }
    }

    /// Reads to the end, which must come within that time.
    pub async fn ends_within(&mut self, limit: Duration) {
        let rest = async { while self.read().await.is_some() {} };
        assert!(timeout(limit, rest).await.is_ok(), "the stream is open after {limit:?}");
    }

    /// Asserts that nothing is to be read: for what was caused before and has been seen elsewhere.
    pub async fn is_silent(&mut self, limit: Duration) {
        if let Ok(event) = timeout(limit, self.read()).await {
            panic!("not silent: {event:?}");
        }
    }
}
