//! Bounds on the time a client may keep a connection: to send a head, to read what it is sent, and
//! to do nothing; and the word to connections that they have to end.
//!
//! One watch looks at all connections of a port, so that none has a timer of its own, and none looks
//! at a clock: time is counted in the watch's rounds.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// To send the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// To take bytes that are ready for it.
const STALL: Duration = Duration::from_secs(30);
/// To begin another request: longer than clients and proxies keep connections.
const IDLE: Duration = Duration::from_secs(120);
/// How long a round is. Bounds hold to within one.
const ROUND: Duration = Duration::from_secs(5);

/// What the connection is told from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Order {
    Serve,
    /// End what it is at, and take no more.
    Drain,
    /// End now.
    Cut,
}

/// When the connections of a watch end.
#[derive(Clone, Debug)]
pub(crate) struct End {
    /// They end what they are at, and take no more.
    pub(crate) drain: CancellationToken,
    /// What they are at is cut.
    pub(crate) cut: Option<CancellationToken>,
}

/// Looks at connections of one thread, or of one port.
#[derive(Debug)]
pub(crate) struct Watch {
    /// The round it is in, from 1 on.
    round: Arc<AtomicU64>,
    connections: Mutex<Connections>,
}

#[derive(Debug)]
struct Connections {
    /// What all are told, those too who come later.
    order: Order,
    list: Vec<Weak<Activity>>,
}

impl Watch {
    /// Watches until `end` cuts, or for ever.
    pub(crate) fn start(end: End) -> Arc<Self> {
        let watch = Arc::new(Self::new());
        tokio::spawn(watch.clone().keep(end));
        watch
    }

    fn new() -> Self {
        let connections = Connections { order: Order::Serve, list: Vec::new() };
        Self { round: Arc::new(AtomicU64::new(1)), connections: Mutex::new(connections) }
    }

    async fn keep(self: Arc<Self>, End { drain, cut }: End) {
        let next = || async {
            loop {
                sleep(ROUND).await;
                self.look();
            }
        };
        drain.run_until_cancelled(next()).await;
        self.tell(Order::Drain);
        let Some(cut) = cut else { return next().await };
        cut.run_until_cancelled(next()).await;
        self.tell(Order::Cut);
    }

    /// Watches a connection that begins, which notes what happens on it.
    pub(crate) fn begin(&self) -> Arc<Activity> {
        let mut all = self.lock();
        let now = self.round.load(Ordering::Relaxed);
        let activity = Arc::new(Activity {
            round: self.round.clone(),
            head_since: AtomicU64::new(now),
            stalled_since: AtomicU64::new(0),
            last: AtomicU64::new(now),
            busy: AtomicU64::new(0),
            order: AtomicU8::new(all.order as u8),
            task: AtomicWaker::new(),
        });
        let list = &mut all.list;
        if list.len() == list.capacity() {
            // Those that ended since the last round make room; with at least half of it left it is not
            // sought again soon.
            list.retain(|one| one.strong_count() > 0);
            list.reserve(list.len());
        }
        list.push(Arc::downgrade(&activity));
        activity
    }

    /// A round is over.
    fn look(&self) {
        self.round.fetch_add(1, Ordering::Relaxed);
        self.lock().list.retain(|one| {
            let Some(activity) = one.upgrade() else { return false };
            if activity.is_overdue() {
                activity.tell(Order::Cut);
            }
            true
        });
    }

    fn tell(&self, order: Order) {
        let mut all = self.lock();
        all.order = order;
        all.list.iter().filter_map(Weak::upgrade).for_each(|activity| activity.tell(order));
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a connection is at. Times are rounds of the watch; 0 is never.
#[derive(Debug)]
pub(crate) struct Activity {
    round: Arc<AtomicU64>,
    /// The first byte of a head that is not complete.
    head_since: AtomicU64,
    /// Bytes have waited for the client since then.
    stalled_since: AtomicU64,
    /// The last byte either way.
    last: AtomicU64,
    /// Requests under way.
    busy: AtomicU64,
    order: AtomicU8,
    task: AtomicWaker,
}

impl Activity {
    fn now(&self) -> u64 {
        self.round.load(Ordering::Relaxed)
    }

    /// More rounds have passed than are in the limit.
    fn over(&self, since: u64, limit: Duration) -> bool {
        since != 0 && self.now().saturating_sub(since) > limit.as_secs() / ROUND.as_secs()
    }

    fn is_overdue(&self) -> bool {
        let busy = self.busy.load(Ordering::Relaxed) > 0;
        self.over(self.stalled_since.load(Ordering::Relaxed), STALL)
            || (!busy && self.over(self.head_since.load(Ordering::Relaxed), HEAD))
            || (!busy && self.over(self.last.load(Ordering::Relaxed), IDLE))
    }

    fn tell(&self, order: Order) {
        self.order.fetch_max(order as u8, Ordering::Relaxed);
        self.task.wake();
    }

    /// Bytes came.
    pub(crate) fn came(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// A head has begun and is not complete.
    pub(crate) fn begins(&self) {
        if self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Something was to be written: whether all of it was, or some.
    pub(crate) fn wrote(&self, all: bool, some: bool) {
        let stalled = self.stalled_since.load(Ordering::Relaxed) != 0;
        if all && stalled {
            self.stalled_since.store(0, Ordering::Relaxed);
        } else if !all && (some || !stalled) {
            self.stalled_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Whether it is to take no more requests.
    pub(crate) fn is_draining(&self) -> bool {
        self.order.load(Ordering::Relaxed) >= Order::Drain as u8
    }

    /// Polls a connection until it ends or is cut, and at every order it is given.
    pub(crate) async fn guard<C: Future>(&self, mut connection: Pin<&mut C>) -> Option<C::Output> {
        let mut known = None;
        poll_fn(|cx| {
            loop {
                let order = self.order.load(Ordering::Relaxed);
                if known == Some(order) {
                    break;
                }
                // Only now: a connection stays with its task, and what is told takes the waker with it. Then once
                // more, for what was told meanwhile.
                self.task.register(cx.waker());
                known = Some(order);
                if order == Order::Cut as u8 {
                    return Poll::Ready(None);
                }
            }
            connection.as_mut().poll(cx).map(Some)
        })
        .await
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

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds(watch: &Watch, time: Duration) {
        (0..time.as_secs() / ROUND.as_secs()).for_each(|_| watch.look());
    }

    fn is_told(activity: &Activity, order: Order) -> bool {
        activity.order.load(Ordering::Relaxed) >= order as u8
    }

    #[test]
    fn who_does_not_take_what_it_is_sent_is_given_up_even_while_busy() {
        let watch = Watch::new();
        let activity = watch.begin();
        let _busy = Busy::new(&activity, None);
        rounds(&watch, IDLE * 2);
        assert!(!is_told(&activity, Order::Cut), "an open stream on which nothing is said");

        activity.stalled_since.store(activity.now(), Ordering::Relaxed);
        rounds(&watch, STALL);
        assert!(!is_told(&activity, Order::Cut));
        watch.look();
        assert!(is_told(&activity, Order::Cut));
    }

    #[test]
    fn a_head_has_its_time_and_idleness_too() {
        let watch = Watch::new();
        let slow = watch.begin();
        rounds(&watch, HEAD);
        assert!(!is_told(&slow, Order::Cut));
        watch.look();
        assert!(is_told(&slow, Order::Cut));

        let idle = watch.begin();
        drop(Busy::new(&idle, None));
        rounds(&watch, IDLE);
        assert!(!is_told(&idle, Order::Cut), "the head came");
        watch.look();
        assert!(is_told(&idle, Order::Cut));
    }

    #[test]
    fn who_ended_is_forgotten_and_who_comes_late_is_told() {
        let watch = Watch::new();
        let gone: Vec<_> = (0..1000).map(|_| watch.begin()).collect();
        drop(gone);
        let stays = watch.begin();
        for _ in 0..10_000 {
            watch.begin();
        }
        assert!(watch.lock().list.capacity() < 5000, "room is made of those that ended");
        watch.look();
        assert_eq!(watch.lock().list.len(), 1);

        watch.tell(Order::Drain);
        assert!(is_told(&stays, Order::Drain) && !is_told(&stays, Order::Cut));
        assert!(is_told(&watch.begin(), Order::Drain));
    }

    #[tokio::test]
    async fn an_order_reaches_a_connection_that_waits() {
        let watch = Arc::new(Watch::new());
        let activity = watch.begin();
        let drained = Arc::new(AtomicU64::new(0));
        let (order, count) = (watch.clone(), drained.clone());
        let guarded = tokio::spawn(async move {
            let connection = std::pin::pin!(poll_fn(|_| {
                count.fetch_add(u64::from(activity.is_draining()), Ordering::Relaxed);
                Poll::<()>::Pending
            }));
            activity.guard(connection).await
        });
        tokio::task::yield_now().await;
        order.tell(Order::Drain);
        tokio::task::yield_now().await;
        assert_eq!(drained.load(Ordering::Relaxed), 1);
        order.tell(Order::Cut);
        assert_eq!(guarded.await.unwrap(), None);
        assert_eq!(drained.load(Ordering::Relaxed), 1);
    }
}
