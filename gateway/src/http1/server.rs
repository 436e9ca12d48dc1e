//! The server's end of a connection: one request after the other, each answered before the next.
//!
//! It is one future: whoever polls it polls the answer too, and drops it when the client goes away.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{BufMut, Bytes};
use http::{Method, Request, Response, StatusCode, Version, response};
use http_body::Body;
use socket2::SockRef;
use tokio::io::AsyncWrite as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::incoming::{Feed, Wanted};
use super::{
    Decoder, Framing, Incoming, Inlet, Lines, Malformed, Outgoing, Part, RequestHead, date,
    put_line,
};
use crate::watchdog::{Activity, Busy};

/// Largest head of a request.
pub(crate) const MAX_HEAD: usize = 32 * 1024;
/// How long, and how much of, a request that is refused is read past: a connection that is closed on a
/// client which is still sending takes the answer with it.
const LINGER: Duration = Duration::from_secs(5);
const MAX_PAST: usize = 64 * 1024 * 1024;

/// Why a connection ended before it was over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("the client went away in the middle of a request")]
    Gone,
    #[error("the answer broke off")]
    BrokenOff,
    #[error(transparent)]
    Failed(#[from] io::Error),
}

/// Serves a connection until it is over. What is not HTTP is answered by `refuse`. Requests, if the
/// end of the gateway waits for them, are `awaited`.
pub(crate) async fn serve<A, B>(
    stream: TcpStream,
    activity: &Arc<Activity>,
    awaited: Option<&TaskTracker>,
    answer: impl Fn(Request<Incoming>) -> A,
    refuse: impl Fn(Malformed) -> Response<B>,
) -> Result<(), Ended>
where
    A: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + Unpin,
{
    let mut connection = Connection::new(stream, activity);
    loop {
        let Some(head) = poll_fn(|cx| connection.poll_request(cx)).await? else { return Ok(()) };
        let busy = Busy::new(activity, awaited.map(TaskTracker::token));
        let RequestHead { request, framing, expects } = match head {
            Ok(head) => head,
            Err(error) => {
                connection.send(refuse(error), Manner::LAST).await?;
                drop(busy);
                return connection.linger().await;
            }
        };
        let modern = request.version() == Version::HTTP_11;
        let sends_body = request.method() != Method::HEAD;
        let (body, mut reading) = connection.body(framing, expects);
        let response = {
            let mut answering = pin!(answer(request.map(|()| body)));
            poll_fn(|cx| match answering.as_mut().poll(cx) {
                Poll::Ready(response) => Poll::Ready(Ok(response)),
                Poll::Pending => connection.poll_meanwhile(&mut reading, cx).map(Err),
            })
            .await?
        };
        // Nobody reads the rest: what follows it is not found.
        let unread = reading.take().is_some() || connection.broken;
        let persists = framing.persists(u8::from(modern)) && !unread && !activity.is_draining();
        let persists = connection.send(response, Manner { modern, persists, sends_body }).await?;
        drop(busy);
        if !persists {
            let more = unread || !connection.inlet.bytes.is_empty();
            return if more { connection.linger().await } else { Ok(()) };
        }
    }
}

/// How an answer is sent.
#[derive(Debug, Clone, Copy)]
struct Manner {
    /// The client speaks HTTP/1.1.
    modern: bool,
    /// Another request may follow.
    persists: bool,
    /// Not to HEAD.
    sends_body: bool,
}

impl Manner {
    const LAST: Self = Self { modern: true, persists: false, sends_body: true };
}

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// There is no body.
    Head,
    Length,
    Chunks,
    Close,
}

/// What is left to send of a body. It is let go of as soon as that is nothing: while what it said last is written, nobody is
/// to take it for somebody who listens.
#[derive(Debug)]
enum Rest<B> {
    Body(B),
    Over,
    /// No one may take what came for the whole.
    Broken,
}

/// A body that has not come as a whole.
#[derive(Debug)]
struct Reading {
    decoder: Decoder,
    feed: Feed,
    /// The client waits for a word before it sends it.
    expects: bool,
}

#[derive(Debug)]
struct Connection<'a> {
    stream: TcpStream,
    activity: &'a Activity,
    inlet: Inlet,
    lines: Lines,
    outgoing: Outgoing,
    /// Nothing was asked on it yet: who connects before the gateway drains is heard once.
    fresh: bool,
    /// A body broke off: what comes is no request.
    broken: bool,
}

impl<'a> Connection<'a> {
    fn new(stream: TcpStream, activity: &'a Activity) -> Self {
        Self {
            stream,
            activity,
            inlet: Inlet::new(),
            lines: Lines::default(),
            outgoing: Outgoing::default(),
            fresh: true,
            broken: false,
        }
    }

    /// Waits for the head of a request. `None` when there is no other.
    fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Result<RequestHead, Malformed>>, Ended>> {
        loop {
            match self.lines.end(&self.inlet.bytes, MAX_HEAD) {
                Ok(Some(end)) => {
                    self.fresh = false;
                    let head = self.inlet.bytes.split_to(end).freeze();
                    return Poll::Ready(Ok(Some(super::request(&head))));
                }
                Ok(None) => {}
                Err(error) => return Poll::Ready(Ok(Some(Err(error)))),
            }
            if !self.inlet.bytes.is_empty() {
                self.activity.begins();
            }
            let filled = self.poll_fill(cx)?;
            let is_idle = self.inlet.bytes.is_empty();
            match filled {
                // Looked at last: what is there already is answered.
                Poll::Pending if is_idle && !self.fresh && self.activity.is_draining() => {
                    return Poll::Ready(Ok(None));
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(0) if is_idle => return Poll::Ready(Ok(None)),
                Poll::Ready(0) => return Poll::Ready(Err(Ended::Gone)),
                Poll::Ready(_) => {}
            }
        }
    }

    /// The body that follows a head, and how to read it if it is not there.
    fn body(&mut self, framing: Framing, expects: bool) -> (Incoming, Option<Reading>) {
        let length = if framing.chunked { None } else { Some(framing.length.unwrap_or_default()) };
        let here = length.and_then(|length| usize::try_from(length).ok());
        if let Some(length) = here.filter(|length| *length <= self.inlet.bytes.len()) {
            let body = self.inlet.bytes.split_to(length).freeze();
            self.inlet.release();
            return (Incoming::whole(body), None);
        }
        let expects = expects && self.inlet.bytes.is_empty();
        let mut decoder = length.map_or(Decoder::Size, Decoder::Length);
        if decoder.is_over(&mut self.inlet.bytes) {
            self.inlet.release();
            return (Incoming::whole(Bytes::new()), None);
        }
        let (incoming, feed) = Incoming::coming(length);
        (incoming, Some(Reading { decoder, feed, expects }))
    }

    /// While an answer is under way: reads the body as it is wanted, then notices when the client goes.
    fn poll_meanwhile(
        &mut self,
        reading: &mut Option<Reading>,
        cx: &mut Context<'_>,
    ) -> Poll<Ended> {
        while let Some(body) = reading {
            match ready!(body.feed.poll_wanted(cx)) {
                Wanted::Yes => {}
                Wanted::Never => return Poll::Pending,
            }
            match body.decoder.next(&mut self.inlet.bytes) {
                Ok(Part::Data(piece)) => body.feed.put(piece),
                Ok(Part::End) => {
                    if let Some(body) = reading.take() {
                        body.feed.end();
                    }
                    self.inlet.release();
                }
                Ok(Part::More) => {
                    if std::mem::take(&mut body.expects) {
                        self.outgoing.buffer().put_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                    }
                    if let Poll::Ready(Err(error)) = self.poll_write(cx) {
                        return Poll::Ready(error.into());
                    }
                    match ready!(self.poll_fill(cx)) {
                        Ok(read) if read > 0 => {}
                        _ => self.breaks(reading),
                    }
                }
                Err(_) => self.breaks(reading),
            }
        }
        if self.broken { Poll::Pending } else { self.poll_gone(cx) }
    }

    /// The body broke off: who reads it is told so.
    fn breaks(&mut self, reading: &mut Option<Reading>) {
        *reading = None;
        self.broken = true;
    }

    /// Waits until the client goes away. What it sends meanwhile is for later; of that much is enough.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        while self.inlet.bytes.len() < MAX_HEAD {
            match ready!(self.poll_fill(cx)) {
                Ok(0) => return Poll::Ready(Ended::Gone),
                Ok(_) => {}
                Err(error) => return Poll::Ready(error.into()),
            }
        }
        Poll::Pending
    }

    /// Sends an answer, all of it. Tells whether another request may follow.
    async fn send<B>(&mut self, response: Response<B>, manner: Manner) -> Result<bool, Ended>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let (parts, body) = response.into_parts();
        let length = body.size_hint().exact();
        let (ending, persists) = self.put_head(&parts, length, manner);
        // An answer may last.
        drop(parts);
        let mut rest = if ending == Ending::Head { Rest::Over } else { Rest::Body(body) };
        let chunked = ending == Ending::Chunks;
        poll_fn(|cx| self.poll_body(&mut rest, chunked, cx)).await?;
        if matches!(rest, Rest::Broken) {
            if ending == Ending::Close {
                // Closed in order it would look whole.
                SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))?;
            }
            return Err(Ended::BrokenOff);
        }
        Ok(persists)
    }

    /// Writes the head of an answer.
    fn put_head(
        &mut self,
        parts: &response::Parts,
        length: Option<u64>,
        manner: Manner,
    ) -> (Ending, bool) {
        let bodiless = matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let ending = match length {
            _ if bodiless => Ending::Head,
            Some(_) => Ending::Length,
            None if manner.modern => Ending::Chunks,
            None => Ending::Close,
        };
        let persists = manner.persists && ending != Ending::Close;
        let out = self.outgoing.buffer();
        out.put_slice(b"HTTP/1.1 ");
        out.put_slice(parts.status.as_str().as_bytes());
        out.put_u8(b' ');
        out.put_slice(parts.status.canonical_reason().unwrap_or_default().as_bytes());
        out.put_slice(b"\r\n");
        for (name, value) in &parts.headers {
            put_line(name, value, out);
        }
        match (ending, length) {
            (Ending::Length, Some(length)) => {
                out.put_slice(b"content-length: ");
                out.put_slice(itoa::Buffer::new().format(length).as_bytes());
                out.put_slice(b"\r\n");
            }
            (Ending::Chunks, _) => out.put_slice(b"transfer-encoding: chunked\r\n"),
            _ => {}
        }
        match (persists, manner.modern) {
            (true, true) => {}
            (true, false) => out.put_slice(b"connection: keep-alive\r\n"),
            (false, _) => out.put_slice(b"connection: close\r\n"),
        }
        date::put(out);
        out.put_slice(b"\r\n");
        (if manner.sends_body { ending } else { Ending::Head }, persists)
    }

    /// Sends what waits and the rest of a body, until it is over or broke off.
    fn poll_body<B>(
        &mut self,
        rest: &mut Rest<B>,
        chunked: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Ended>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        loop {
            let mut waits = false;
            while !waits
                && self.outgoing.has_room()
                && let Rest::Body(body) = rest
            {
                match Pin::new(body).poll_frame(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        let data = frame.into_data().unwrap_or_default();
                        if chunked {
                            self.outgoing.put_chunk(data);
                        } else {
                            self.outgoing.put(data, b"");
                        }
                    }
                    Poll::Ready(Some(Err(_))) => *rest = Rest::Broken,
                    Poll::Ready(None) => {
                        *rest = Rest::Over;
                        if chunked {
                            self.outgoing.buffer().put_slice(b"0\r\n\r\n");
                        }
                    }
                    Poll::Pending => waits = true,
                }
            }
            let written = self.poll_write(cx)?;
            if written.is_ready() && !matches!(rest, Rest::Body(_)) {
                return Poll::Ready(Ok(()));
            }
            if written.is_pending() || waits {
                return if self.broken { Poll::Pending } else { self.poll_gone(cx).map(Err) };
            }
        }
    }

    /// Closes on a client that may be sending still.
    async fn linger(mut self) -> Result<(), Ended> {
        poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await?;
        let mut left = MAX_PAST;
        let past = poll_fn(|cx| {
            loop {
                self.inlet.bytes.clear();
                let read = ready!(self.poll_fill(cx))?;
                match left.checked_sub(read) {
                    Some(rest) if read > 0 => left = rest,
                    _ => return Poll::Ready(Ok(())),
                }
            }
        });
        // One that takes longer is cut.
        timeout(LINGER, past).await.unwrap_or(Ok(()))
    }

    /// Reads what there is. 0 is the end. Only then is there a buffer: most of the time most
    /// connections have nothing to say.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.stream.poll_read_ready(cx))?;
        let read = self.inlet.poll_fill(Pin::new(&mut self.stream), cx)?;
        match read {
            Poll::Ready(_) => self.activity.came(),
            Poll::Pending => self.inlet.release(),
        }
        read.map(Ok)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waiting = self.outgoing.waiting();
        let written = self.outgoing.poll_write(Pin::new(&mut self.stream), cx);
        self.activity.wrote(written.is_ready(), self.outgoing.waiting() < waiting);
        written
    }
}

#[cfg(test)]
mod tests;
