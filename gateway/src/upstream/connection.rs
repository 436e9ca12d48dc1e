//! One connection to a server and the exchange under way on it. It has no task: whoever waits for
//! the answer polls it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::time::Instant;

use super::client::LIFETIME;
use super::connector::Stream;
use super::fault::Fault;
use super::request::Request;
use crate::http1::{self, Decoder, Inlet, Lines, Outgoing, Part, ResponseHead};

/// Largest head of an answer.
const MAX_HEAD: usize = 64 * 1024;
/// Interim answers that may precede an answer.
const MAX_INTERIM: usize = 16;

/// A connection on which a request can be sent.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    incoming: Inlet,
    lines: Lines,
    outgoing: Outgoing,
    /// Some of the request left.
    begun: bool,
    /// Interim answers that have come.
    interim: usize,
    opened: Instant,
}

/// The head of an answer, and what follows it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response<()>,
    /// Takes the body out of what follows.
    pub(super) decoder: Decoder,
    /// The connection can serve again after it.
    pub(super) persists: bool,
}

/// Why a request failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// None of it left: it can be sent on another connection.
    Unsent(Fault),
    Sent(Fault),
}

impl Connection {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            incoming: Inlet::new(),
            lines: Lines::default(),
            outgoing: Outgoing::default(),
            begun: false,
            interim: 0,
            opened: Instant::now(),
        }
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn exchange(&mut self, request: &Request) -> Result<Answer, Failure> {
        let quiet = std::future::poll_fn(|cx| Poll::Ready(self.poll_quiet(cx))).await;
        quiet.map_err(Failure::Unsent)?;
        request.write(&mut self.outgoing);
        self.begun = false;
        self.interim = 0;
        let answered = std::future::poll_fn(|cx| self.poll_head(cx)).await;
        match answered {
            Ok(head) => Ok(head),
            Err(fault) if self.begun => Err(Failure::Sent(fault)),
            Err(fault) => Err(Failure::Unsent(fault)),
        }
    }

    /// Fails if the server ended the connection, or spoke unasked.
    fn poll_quiet(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        match self.poll_fill(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(0)) => Err(ended("while it was idle")),
            Poll::Ready(Ok(_)) => Err(ended("it spoke unasked")),
            Poll::Ready(Err(error)) => Err(broken(&error)),
        }
    }

    /// The head of the answer, while the request is still being written or after that.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, Fault>> {
        // A server may refuse a request before it has read all of it, and then close.
        let written = match self.poll_write(cx) {
            Poll::Ready(Err(error)) if !self.begun => {
                return Poll::Ready(Err(broken(&error)));
            }
            written => written,
        };
        loop {
            let end = loop {
                if let Some(end) =
                    self.lines.end(&self.incoming.bytes, MAX_HEAD).map_err(malformed)?
                {
                    break end;
                }
                match (self.poll_fill(cx), &written) {
                    (Poll::Ready(Ok(0)), _) => {
                        return Poll::Ready(Err(ended("no complete answer came")));
                    }
                    (Poll::Ready(Ok(_)), _) => {}
                    (Poll::Ready(Err(error)), _) => return Poll::Ready(Err(broken(&error))),
                    (Poll::Pending, Poll::Ready(Err(error))) => {
                        return Poll::Ready(Err(broken(error)));
                    }
                    (Poll::Pending, _) => return Poll::Pending,
                }
            };
            let head = http1::response(&self.incoming.bytes.split_to(end)).map_err(malformed)?;
            // We ask for no other protocol; whatever else comes first is told to nobody.
            match head.status {
                StatusCode::SWITCHING_PROTOCOLS => {
                    return Poll::Ready(Err(ended("it changed the protocol")));
                }
                status if !status.is_informational() => return Poll::Ready(Ok(announced(head))),
                _ if self.interim >= MAX_INTERIM => {
                    return Poll::Ready(Err(ended("too many interim answers")));
                }
                _ => self.interim += 1,
            }
        }
    }

    /// The next bytes of the body.
    pub(super) fn poll_data(
        &mut self,
        decoder: &mut Decoder,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Fault>>> {
        loop {
            match decoder.next(&mut self.incoming.bytes).map_err(malformed)? {
                Part::Data(data) => return Poll::Ready(Some(Ok(data))),
                Part::End => return Poll::Ready(None),
                Part::More => {}
            }
            // Part of a request may be left that the server reads while it answers.
            let _ = self.poll_write(cx);
            match ready!(self.poll_fill(cx)) {
                Ok(0) if *decoder == Decoder::UntilClose => return Poll::Ready(None),
                Ok(0) => return Poll::Ready(Some(Err(ended("in the middle of an answer")))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(broken(&error)))),
            }
        }
    }

    /// Whether the body is over, as far as can be told without handing out data.
    pub(super) fn is_over(&mut self, decoder: &mut Decoder) -> bool {
        decoder.is_over(&mut self.incoming.bytes)
    }

    /// Whether it takes a further request.
    pub(super) fn is_young(&self) -> bool {
        self.opened.elapsed() < LIFETIME
    }

    /// Ends an exchange. Tells whether the request is written and nothing follows the answer.
    pub(super) fn settle(&mut self) -> bool {
        self.incoming.settle();
        self.outgoing.is_done() && self.incoming.bytes.is_empty()
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.incoming.poll_fill(Pin::new(&mut self.stream), cx)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let whole = self.outgoing.waiting();
        let written = self.outgoing.poll_write(Pin::new(&mut self.stream), cx);
        self.begun |= self.outgoing.waiting() < whole;
        written
    }
}

fn announced(head: ResponseHead) -> Answer {
    let ResponseHead { status, minor_version, framing, headers } = head;
    let decoder = match (status, framing.chunked, framing.length) {
        (StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED, ..) => Decoder::Length(0),
        (_, true, _) => Decoder::Size,
        (_, false, Some(length)) => Decoder::Length(length),
        (_, false, None) => Decoder::UntilClose,
    };
    let persists = framing.persists(minor_version) && decoder != Decoder::UntilClose;
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Answer { response, decoder, persists }
}

fn ended(how: &str) -> Fault {
    Fault::Closed(how.to_owned())
}

fn broken(error: &io::Error) -> Fault {
    Fault::Closed(error.to_string())
}

fn malformed(error: http1::Malformed) -> Fault {
    Fault::Closed(error.to_string())
}
