//! Bounds on the time a client may keep a connection: to send a head, to read what it is sent, and
//! to do nothing.
//!
//! hyper's own header timeout also ends idle connections, and a client that has just begun to send
//! on one sees a reset; so one clock a connection looks at all three.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tokio_util::task::task_tracker::TaskTrackerToken;

/// To send the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// To take bytes that are ready for it.
const STALL: Duration = Duration::from_secs(30);
/// To begin another request: longer than clients and proxies keep connections.
const IDLE: Duration = Duration::from_secs(120);
/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// What a connection is at, in milliseconds since it began; 0 is never.
#[derive(Debug)]
pub(crate) struct Activity {
    began: Instant,
    /// The first byte of a head that is not complete.
    head_since: AtomicU64,
    /// Bytes have waited for the client since then.
    stalled_since: AtomicU64,
    /// The last byte either way.
    last: AtomicU64,
    /// Requests under way.
    busy: AtomicU64,
}

impl Activity {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
    }

    fn over(&self, since: u64, limit: Duration) -> bool {
        since != 0 && self.now().saturating_sub(since) > limit.as_millis() as u64
    }

    fn is_overdue(&self) -> bool {
        let busy = self.busy.load(Ordering::Relaxed) > 0;
        self.over(self.stalled_since.load(Ordering::Relaxed), STALL)
            || (!busy && self.over(self.head_since.load(Ordering::Relaxed), HEAD))
            || (!busy && self.over(self.last.load(Ordering::Relaxed), IDLE))
    }
}

/// A request under way on a connection.
#[derive(Debug)]
pub(crate) struct Busy {
    activity: Arc<Activity>,
    /// The end of the gateway waits for it.
    _awaited: Option<TaskTrackerToken>,
}

impl Busy {
    pub(crate) fn new(activity: &Arc<Activity>, awaited: Option<TaskTrackerToken>) -> Self {
        activity.head_since.store(0, Ordering::Relaxed);
        activity.busy.fetch_add(1, Ordering::Relaxed);
        Self { activity: activity.clone(), _awaited: awaited }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.activity.busy.fetch_sub(1, Ordering::Relaxed);
        self.activity.last.store(self.activity.now(), Ordering::Relaxed);
    }
}

/// A stream that notes what happens on it, and a future that ends when it is overdue.
pub(crate) fn watch(
    stream: TcpStream,
) -> (WatchedStream, impl Future<Output = ()> + Send, Arc<Activity>) {
    let activity = Arc::new(Activity {
        began: Instant::now(),
        head_since: AtomicU64::new(1),
        stalled_since: AtomicU64::new(0),
        last: AtomicU64::new(1),
        busy: AtomicU64::new(0),
    });
    let watched = WatchedStream { stream, activity: activity.clone() };
    let clock = activity.clone();
    let overdue = async move {
        while !clock.is_overdue() {
            sleep(LOOK).await;
        }
    };
    (watched, overdue, activity)
}

/// A connection under watch.
#[derive(Debug)]
pub(crate) struct WatchedStream {
    stream: TcpStream,
    activity: Arc<Activity>,
}

impl WatchedStream {
    fn wrote<T>(&self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let stalled = &self.activity.stalled_since;
        if result.is_pending() {
            if stalled.load(Ordering::Relaxed) == 0 {
                stalled.store(self.activity.now(), Ordering::Relaxed);
            }
        } else {
            stalled.store(0, Ordering::Relaxed);
        }
        result
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before && this.activity.busy.load(Ordering::Relaxed) == 0 {
            let now = this.activity.now();
            this.activity.last.store(now, Ordering::Relaxed);
            let head = &this.activity.head_since;
            if head.load(Ordering::Relaxed) == 0 {
                head.store(now, Ordering::Relaxed);
            }
        }
        result
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.wrote(result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, bytes);
        this.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// A body that keeps its connection busy until it is sent.
#[derive(Debug)]
pub(crate) struct Watched<B> {
    body: B,
    _busy: Busy,
}

impl<B> Watched<B> {
    pub(crate) const fn new(body: B, busy: Busy) -> Self {
        Self { body, _busy: busy }
    }
}

impl<B: Body + Unpin> Body for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn connection() -> Arc<Activity> {
        Arc::new(Activity {
            began: Instant::now(),
            head_since: AtomicU64::new(0),
            stalled_since: AtomicU64::new(0),
            last: AtomicU64::new(1),
            busy: AtomicU64::new(0),
        })
    }

    const MOMENT: Duration = Duration::from_millis(2);

    #[tokio::test(start_paused = true)]
    async fn who_does_not_take_what_it_is_sent_is_given_up_even_while_busy() {
        let activity = connection();
        let _busy = Busy::new(&activity, None);
        advance(IDLE * 2).await;
        assert!(!activity.is_overdue(), "an open stream on which nothing is said");

        activity.stalled_since.store(activity.now(), Ordering::Relaxed);
        advance(STALL).await;
        assert!(!activity.is_overdue());
        advance(MOMENT).await;
        assert!(activity.is_overdue());
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_its_time_and_idleness_too() {
        let activity = connection();
        activity.head_since.store(activity.now(), Ordering::Relaxed);
        advance(HEAD + MOMENT).await;
        assert!(activity.is_overdue());

        drop(Busy::new(&activity, None));
        assert!(!activity.is_overdue(), "the head came");
        advance(IDLE + MOMENT).await;
        assert!(activity.is_overdue());
    }
}
