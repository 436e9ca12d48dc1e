//! Requests that another gateway answers: sent there as they are, without credentials, and the answer
//! passed back as it comes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::seal::Asked;
use super::{Condition, Fleet, Letter, Pod, Tag};
use crate::downstream::body::{Body, BrokenOff};
use crate::downstream::reply::{self, Response};
use crate::telemetry::Relay;
use crate::upstream::fault::Fault;
use crate::upstream::leg::is_stream;
use crate::upstream::{self, Template};

/// Marks an answer by which a gateway says that the request is not for it.
pub(super) const REFUSED: &str = "fairway-refused";

/// How long those who are told something may take to hear it.
const TELLING: Duration = Duration::from_secs(1);

/// Why another gateway gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotRelayed {
    /// Nothing was done there.
    Unreached,
    /// What it did is not known.
    BrokenOff,
    /// Too much is under way.
    Crowded,
}

/// The body of an answer from another gateway.
pub(crate) struct Relayed {
    body: upstream::Body,
    /// What is said if a stream of events breaks off.
    last: Option<Bytes>,
    /// The last two bytes that came: between events they end a line that is empty.
    end: [u8; 2],
    ended: bool,
    _place: OwnedSemaphorePermit,
}

impl Relayed {
    /// Has a stream of events end with this one if it breaks off between two of them.
    pub(crate) fn else_say(&mut self, event: Bytes) {
        self.last = Some(event);
    }

    pub(crate) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let data = ready!(self.body.poll_data(cx));
        Poll::Ready(data.map(|data| match (data, self.last.take()) {
            (Ok(data), last) => {
                self.last = last;
                for byte in data.iter().skip(data.len().saturating_sub(2)) {
                    self.end = [self.end[1], *byte];
                }
                Ok(data)
            }
            (Err(_), Some(last)) if self.end == *b"\n\n" => {
                self.ended = true;
                Ok(last)
            }
            (Err(_), _) => Err(BrokenOff),
        }))
    }
}

impl Fleet {
    /// Has another gateway answer a client's request.
    pub(crate) async fn relay(
        &self,
        pod: &Pod,
        parts: &Parts,
        body: &Bytes,
        letter: Letter,
    ) -> Result<Response, NotRelayed> {
        // The query may hold a key, and nothing else that is needed there.
        let target = parts.uri.path();
        let relayed = self.send(pod, &parts.method, target, &letter, &parts.headers, body).await;
        self.telemetry.relayed(match &relayed {
            Ok(_) => Relay::Answered,
            Err(NotRelayed::Unreached) => Relay::Unreached,
            Err(NotRelayed::BrokenOff) => Relay::BrokenOff,
            Err(NotRelayed::Crowded) => Relay::Refused,
        });
        relayed
    }

    async fn send(
        &self,
        pod: &Pod,
        method: &Method,
        target: &str,
        letter: &Letter,
        client: &HeaderMap,
        body: &Bytes,
    ) -> Result<Response, NotRelayed> {
        let place = self.relays.clone().try_acquire_owned().map_err(|_| NotRelayed::Crowded)?;
        let headers = self.seal(pod.tag, (method, target), letter, client, body);
        let asked = Asked::of(&headers).ok_or(NotRelayed::Unreached)?;
        let answer = self.post(pod, method, target, headers, body).await?;
        // Somebody else may be at its address by now.
        let is_from_there = self.is_answer(asked, pod.tag, answer.headers());
        if !is_from_there || answer.headers().contains_key(REFUSED) {
            return Err(NotRelayed::Unreached);
        }
        let (head, body) = answer.into_parts();
        let (last, end, ended) = (None, *b"\n\n", false);
        let body = Body::Relayed(Box::new(Relayed { body, last, end, ended, _place: place }));
        let mut response = if is_stream(&head.headers) {
            reply::events(body)
        } else {
            reply::json(head.status, body)
        };
        if let Some(wait) = head.headers.get(header::RETRY_AFTER) {
            response.headers_mut().insert(header::RETRY_AFTER, wait.clone());
        }
        Ok(response)
    }

    async fn post(
        &self,
        pod: &Pod,
        method: &Method,
        target: &str,
        headers: HeaderMap,
        body: &Bytes,
    ) -> Result<http::Response<upstream::Body>, NotRelayed> {
        let url = format!("http://{}{target}", pod.address);
        let url: Uri = url.parse().map_err(|_| NotRelayed::Unreached)?;
        let headers: Vec<_> = headers.iter().collect();
        let request = Template::new(&url, None).request(method, &headers, body.clone());
        pod.http.send(request).await.map_err(|fault| match fault {
            Fault::Unreachable(reason) => {
                tracing::debug!(address = %pod.address, reason, "another gateway is not reached");
                self.enter(pod, Condition::Lost);
                NotRelayed::Unreached
            }
            _ => NotRelayed::BrokenOff,
        })
    }

    /// Passes on to all others what concerns one of them, and waits until they have heard it.
    pub(crate) async fn tell_all(&self, parts: &Parts, body: &Bytes, letter: Letter) {
        let pods = self.reachable();
        let tell = async |pod: &Arc<Pod>| {
            let Ok(answer) = self.relay(pod, parts, body, letter).await else { return false };
            dismiss(answer).await;
            true
        };
        let told = pods.iter().map(async |pod| {
            // Who does not hear it may be gone, and what it had with it; if not, it is told all again.
            if timeout(TELLING, tell(pod)).await != Ok(true) {
                pod.informed.store(false, Ordering::Relaxed);
            }
        });
        join_all(told).await;
    }

    /// Sends a message of the fleet's own; whether it was taken.
    pub(super) async fn deliver(
        &self,
        pod: &Pod,
        path: &str,
        letter: Letter,
        body: &Bytes,
    ) -> bool {
        let headers = json();
        let sent = self.send(pod, &Method::POST, path, &letter, &headers, body);
        let Ok(Ok(answer)) = timeout(TELLING, sent).await else { return false };
        let accepted = answer.status() == StatusCode::ACCEPTED;
        dismiss(answer).await;
        accepted
    }

    /// Asks who is at an address.
    pub(super) async fn ask(
        &self,
        pod: &Pod,
        path: &str,
        body: &Bytes,
    ) -> Option<(Asked, http::response::Parts, Bytes)> {
        let headers =
            self.seal(Tag::NONE, (&Method::POST, path), &Letter::default(), &json(), body);
        let asked = Asked::of(&headers)?;
        let answer = self.post(pod, &Method::POST, path, headers, body).await.ok()?;
        let (head, mut answer) = answer.into_parts();
        let mut whole = Vec::new();
        while let Some(data) = std::future::poll_fn(|cx| answer.poll_data(cx)).await {
            whole.extend_from_slice(&data.ok()?);
            if whole.len() > MAX_ANSWER {
                return None;
            }
        }
        Some((asked, head, whole.into()))
    }
}

/// Keeps the connection of an answer that says no more.
async fn dismiss(answer: Response) {
    if let Body::Relayed(relayed) = answer.into_body() {
        relayed.body.release().await;
    }
}

fn json() -> HeaderMap {
    let kind = HeaderValue::from_static("application/json");
    HeaderMap::from_iter([(header::CONTENT_TYPE, kind)])
}

/// What another gateway says of itself is short.
const MAX_ANSWER: usize = 4096;
