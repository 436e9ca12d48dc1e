//! One request for a server, from the decision to the end of its answer: the guard that owns it.
//!
//! A [`Call`] is polled for what its client is to see, and sends a refused request once more. What its
//! messages become is in [`translate`], what a server asks in between in [`ask`], and how it ends, by
//! itself or not, in [`end`].

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use gateway_core::{Principal, Scope};
use mcp::Era;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};

mod ask;
mod end;
mod order;
mod relist;
mod translate;

pub(crate) use ask::digest;
pub(crate) use order::{Order, Place, Trace, US, trace_of};

use ask::{Asking, Held};
use order::Round;
use relist::Relisting;

use crate::client::Client;
use crate::home::{Home, Homes};
use crate::inflight::Registration;
use crate::room::Room;
use crate::session::Sealer;
use crate::table::Table;
use crate::telemetry::Outcome;
use crate::upstream::exchange::{Exchange, Item};
use crate::upstream::fault::Fault;
use crate::upstream::gate::Waiting;
use crate::upstream::leg::{Leg, Outbound};
use crate::upstream::{Admission, Seat, Slot, Upstream};
use crate::worker::Local;

/// How often the bounds on time, and whether the key is still good, are looked at: a key that is
/// revoked ends its calls within 1 s (DESIGN §4).
const TICK: Duration = Duration::from_millis(800);
/// Messages that concern nobody, after which others have their turn.
const TURN: usize = 32;
/// How often a server may end the stream of one call before the answer.
const MAX_RESUMES: usize = 100;
/// How long a cancelled request may take to end by itself.
const FAREWELL: Duration = Duration::from_secs(1);
/// What the client of a call is to see.
#[derive(Debug)]
pub(crate) enum Event {
    /// A notification that belongs to the call.
    Notification(Bytes),
    /// Nothing has come for so long that the client should see that we are there. Said once.
    Late,
    /// The answer, whole. The call is over.
    Answer(Bytes),
    /// Part of an answer too large to hold; more parts or the end follow at once.
    Chunk(Bytes),
    /// The end of such an answer. The call is over.
    End,
    /// The client took the request back; an answer for those who must say something. The call is
    /// over.
    Cancelled(Bytes),
    /// The answer broke off after a part of it was handed out; an error for those who have passed
    /// no part on. The call is over.
    Broken(Bytes),
    /// The server asks a client of 2026-07-28 for something. The call goes on when it is
    /// [resumed](Call::resume).
    Input,
}

/// Who makes a call, and how it can be spoken to.
#[derive(Debug)]
pub(crate) struct Caller {
    pub(crate) client: Client,
    pub(crate) principal: Principal,
    pub(crate) scope: Scope,
    /// Whether it takes more than the answer on the call's own stream.
    pub(crate) streams: bool,
    pub(crate) registration: Option<Registration>,
}

/// What all calls use.
#[derive(Debug, Clone)]
pub(crate) struct Commons {
    pub(crate) table: Arc<Table>,
    pub(crate) homes: Arc<Homes>,
    pub(crate) sealer: Arc<Sealer>,
    /// For the bodies of requests, and for what servers ask, where that is large.
    pub(crate) room: Arc<Room>,
}

/// A request under way.
pub(crate) struct Call {
    order: Order,
    caller: Caller,
    upstream: Local<Upstream>,
    seat: Seat,
    admission: Admission,
    commons: Arc<Commons>,
    stage: Stage,
    /// What the client is to see before anything else.
    ready: VecDeque<Event>,
    /// What the client answered to a modern server, and how often it was asked.
    round: Option<Round>,
    rounds: usize,
    /// What a legacy server asks a modern client, and for how long more is waited for.
    held: Vec<Held>,
    linger: Option<Pin<Box<Sleep>>>,
    /// What such a server asks elsewhere than with its answer.
    questions: Option<mpsc::Receiver<Bytes>>,
    /// What the client was asked under its own session: withdrawn with the call.
    asked: Vec<(Arc<Home>, u64)>,
    /// Sent again because the server had forgotten the session.
    replayed: bool,
    /// Its server was listed again because it wanted other headers.
    relisted: bool,
    /// The client has seen a message of the call.
    said: bool,
    resumes: usize,
    /// Part of the answer is out: nothing but the rest of it may follow.
    committed: bool,
    late: bool,
    started: Instant,
    /// When the server was last heard of, and how many bytes had come then.
    active: Instant,
    received: usize,
    /// Items handed out since the clock was looked at.
    items: u8,
    tick: Option<Pin<Box<Sleep>>>,
    /// The client wants no answer any more; from then on a second is left.
    cancelled_at: Option<Instant>,
    outcome: Option<Outcome>,
}

enum Stage {
    /// As many calls as the server takes are under way.
    Waiting(Waiting),
    /// A leg is being opened.
    Opening(BoxFuture<'static, Result<Arc<Leg>, Fault>>),
    /// The request is out.
    Running(Box<Running>),
    /// A stream that ended before the answer is opened again.
    Resuming(BoxFuture<'static, Result<Box<Running>, Fault>>, Arc<Leg>, u64),
    /// A modern server waits for answers of a legacy client.
    Asking(Box<Asking>),
    /// The tools of a modern server are listed again.
    Relisting(Box<Relisting>),
    Over,
}

/// A request that is out.
struct Running {
    exchange: Exchange,
    leg: Arc<Leg>,
    id: u64,
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Call").field("id", &self.order.id).finish_non_exhaustive()
    }
}

impl Call {
    /// Sends the request, or begins to open the leg for it.
    pub(crate) fn start(
        order: Order,
        caller: Caller,
        (upstream, seat, admission): (Local<Upstream>, Seat, Admission),
        commons: Arc<Commons>,
    ) -> Self {
        let now = Instant::now();
        let mut call = Self {
            order,
            caller,
            upstream,
            seat,
            admission,
            commons,
            stage: Stage::Over,
            ready: VecDeque::new(),
            round: None,
            rounds: 0,
            held: Vec::new(),
            linger: None,
            questions: None,
            asked: Vec::new(),
            replayed: false,
            relisted: false,
            said: false,
            resumes: 0,
            committed: false,
            late: false,
            started: now,
            active: now,
            received: 0,
            items: 0,
            tick: None,
            cancelled_at: None,
            outcome: None,
        };
        call.begin();
        call
    }

    fn begin(&mut self) {
        match self.admission.enter() {
            Ok(None) => self.set_out(),
            Ok(Some(waiting)) => self.stage = Stage::Waiting(waiting),
            Err(fault) => self.stage = Stage::Opening(Box::pin(std::future::ready(Err(fault)))),
        }
    }

    fn slot(&self) -> &Arc<Slot> {
        self.seat.slot(&self.upstream)
    }

    fn set_out(&mut self) {
        match self.slot().current() {
            Some(leg) => {
                if let Err(fault) = self.send(leg) {
                    self.reopen(None, fault);
                }
            }
            None => self.open(None),
        }
    }

    fn send(&mut self, leg: Arc<Leg>) -> Result<(), Fault> {
        let (id, era) = (leg.next_id(), leg.era());
        // Only a modern server is told with each request.
        let level = (era == Era::Modern).then(|| self.level()).flatten();
        let body = self.order.compose(id, era, &self.caller.client, level, self.round.as_ref());
        let headers = self.order.head(era);
        // What a server says to the second attempt is the client's to read, whatever it is.
        let may_be_lost = !self.replayed;
        let client_id = self.order.id.clone();
        let mends = self.mends(era);
        if let Client::Modern(guest) = &self.caller.client
            && leg.is_lodged()
        {
            self.questions = Some(leg.attend());
            if let Some(message) = guest.level.and_then(|level| leg.levelled(level)) {
                self.upstream.tell(&leg, message);
            }
        }
        let out = Outbound { id, body, client_id, may_be_lost, headers, mends, is_call: true };
        let exchange = leg.send(&self.upstream, out)?;
        self.received = 0;
        self.stage = Stage::Running(Box::new(Running { exchange, leg, id }));
        Ok(())
    }

    fn open(&mut self, broken: Option<Arc<Leg>>) {
        let (slot, upstream) = (self.slot().clone(), self.upstream.clone());
        self.stage =
            Stage::Opening(Box::pin(async move { slot.open(&upstream, broken.as_ref()).await }));
    }

    fn reopen(&mut self, broken: Option<Arc<Leg>>, fault: Fault) {
        if self.replayed {
            self.stage = Stage::Opening(Box::pin(std::future::ready(Err(fault))));
        } else {
            self.replayed = true;
            self.open(broken);
        }
    }

    /// Sends the request again after a pause, if that may help and the server's budget has it.
    fn retry(&mut self, broken: Option<Arc<Leg>>, fault: &Fault) -> bool {
        let Some(pause) = self.admission.again(fault) else { return false };
        let (slot, upstream) = (self.slot().clone(), self.upstream.clone());
        self.stage = Stage::Opening(Box::pin(async move {
            sleep(pause).await;
            slot.open(&upstream, broken.as_ref()).await
        }));
        true
    }

    /// The next thing for the client to see. Not to be called once the call is over.
    pub(crate) fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(event) = self.ready.pop_front() {
            return Poll::Ready(event);
        }
        if let Some(registration) = &self.caller.registration
            && registration.cancel.poll(cx.waker())
            && self.cancelled_at.is_none()
        {
            if !matches!(&self.stage, Stage::Running(running) if running.leg.era() == Era::Legacy) {
                // Nothing is to be waited for: the end is all that a modern server has to be told.
                self.cancel_upstream();
                return Poll::Ready(self.cancelled());
            }
            self.cancel_upstream();
            self.cancelled_at = Some(Instant::now());
            // The tick must come in time for the end of the farewell.
            self.tick = Some(Box::pin(sleep(FAREWELL)));
        }
        for _ in 0..TURN {
            // A server that never pauses gets no more time than others.
            self.items = self.items.wrapping_add(1);
            if self.items == 0
                && let Some(event) = self.look_at_the_clock()
            {
                return Poll::Ready(event);
            }
            match self.poll_stage(cx) {
                Poll::Ready(Some(event)) => {
                    self.said |= matches!(event, Event::Notification(_));
                    return Poll::Ready(event);
                }
                Poll::Ready(None) => {}
                Poll::Pending => return self.poll_tick(cx),
            }
        }
        // Nor the thread to itself.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            let tick = self.tick.get_or_insert_with(|| Box::pin(sleep(TICK)));
            ready!(tick.as_mut().poll(cx));
            tick.as_mut().reset(Instant::now() + TICK);
            if let Some(event) = self.look_at_the_clock() {
                return Poll::Ready(event);
            }
        }
    }

    /// One step; `None` when there is another to make.
    fn poll_stage(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        match &mut self.stage {
            Stage::Waiting(waiting) => {
                let waited = ready!(waiting.as_mut().poll(cx));
                self.active = Instant::now();
                if let Err(fault) = self.admission.seat(waited) {
                    return Poll::Ready(Some(self.fail(&fault)));
                }
                self.set_out();
                Poll::Ready(None)
            }
            Stage::Opening(opening) => {
                let opened = ready!(opening.as_mut().poll(cx));
                self.active = Instant::now();
                if let Err(fault) = opened.and_then(|leg| self.send(leg)) {
                    if fault.is_outage() {
                        self.upstream.refresh();
                    }
                    // The request never left.
                    if !self.retry(None, &fault) {
                        return Poll::Ready(Some(self.fail(&fault)));
                    }
                }
                Poll::Ready(None)
            }
            Stage::Asking(asking) => {
                let answer = ready!(asking.poll_answer(cx));
                self.active = Instant::now();
                Poll::Ready(self.answered(answer))
            }
            Stage::Relisting(relisting) => {
                ready!(relisting.listed.as_mut().poll(cx));
                self.active = Instant::now();
                Poll::Ready(self.relisted())
            }
            // The client is asked when the server has asked all it wants to know; after that the server
            // waits for it.
            Stage::Running(_) if !self.held.is_empty() => {
                let Some(linger) = &mut self.linger else { return Poll::Pending };
                if linger.as_mut().poll(cx).is_ready() {
                    self.linger = None;
                    return Poll::Ready(Some(Event::Input));
                }
                self.poll_running(cx)
            }
            Stage::Running(_) => self.poll_running(cx),
            Stage::Resuming(resuming, ..) => {
                let resumed = ready!(resuming.as_mut().poll(cx));
                self.active = Instant::now();
                match resumed {
                    Ok(running) => self.stage = Stage::Running(running),
                    Err(fault) => return Poll::Ready(Some(self.fail(&fault))),
                }
                Poll::Ready(None)
            }
            Stage::Over => Poll::Pending,
        }
    }

    fn poll_running(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let Stage::Running(running) = &mut self.stage else { return Poll::Ready(None) };
        if let Some(questions) = &mut self.questions
            && let Poll::Ready(Some(question)) = questions.poll_recv(cx)
        {
            let (leg, id) = (running.leg.clone(), running.id);
            return Poll::Ready(self.translate(&question, &leg, id));
        }
        match ready!(running.exchange.poll_next(cx)) {
            Ok(Some(Item::Message(message))) => {
                let (leg, id) = (running.leg.clone(), running.id);
                Poll::Ready(self.translate(&message, &leg, id))
            }
            Ok(Some(Item::Chunk(chunk))) => {
                self.committed = true;
                Poll::Ready(Some(Event::Chunk(chunk)))
            }
            Ok(Some(Item::Name(name, text))) => {
                self.committed = true;
                Poll::Ready(Some(Event::Chunk(self.rename(name, text))))
            }
            Ok(Some(Item::Unheard { id })) => {
                running.leg.leave_unheard(&self.upstream, &id);
                Poll::Ready(None)
            }
            Ok(Some(Item::End { error })) => {
                self.finish(if error { Outcome::Error } else { Outcome::Ok });
                Poll::Ready(Some(Event::End))
            }
            Ok(None) => Poll::Ready(self.resume_stream()),
            Err(fault) => Poll::Ready(self.recover(fault)),
        }
    }

    /// A stream that ended before the answer goes on elsewhere if the server said how (2025-11-25,
    /// basic/transports, resumability).
    fn resume_stream(&mut self) -> Option<Event> {
        let lost = Fault::Closed("no answer came".to_owned());
        if self.resumes >= MAX_RESUMES || self.cancelled_at.is_some() {
            return self.recover(lost);
        }
        let Stage::Running(running) = &self.stage else { return None };
        let Some((event, pause)) = running.exchange.resumable() else { return self.recover(lost) };
        self.resumes += 1;
        let Stage::Running(running) = std::mem::replace(&mut self.stage, Stage::Over) else {
            return None;
        };
        let (upstream, client_id) = (self.upstream.clone(), self.order.id.clone());
        let Running { leg, id, .. } = *running;
        let (resumed, mends) = (leg.clone(), self.mends(leg.era()));
        let resuming = Box::pin(async move {
            sleep(pause).await;
            let exchange = resumed.resume(&upstream, &event, id, client_id)?.mending(mends);
            Ok(Box::new(Running { exchange, leg: resumed, id }))
        });
        self.stage = Stage::Resuming(resuming, leg, id);
        None
    }

    /// Sends the request again where that is safe: if the server did not take it, or if it may be
    /// called twice. Never once a part of the answer is out.
    fn recover(&mut self, fault: Fault) -> Option<Event> {
        if fault.is_outage() {
            self.upstream.refresh();
        }
        let Stage::Running(running) = &self.stage else {
            return Some(self.fail(&fault));
        };
        if self.committed || self.cancelled_at.is_some() {
            return Some(self.fail(&fault));
        }
        let lost = fault == Fault::SessionLost || running.leg.is_closed();
        let broken = lost.then(|| running.leg.clone());
        let again = match &fault {
            Fault::SessionLost if !self.replayed => {
                self.reopen(broken, fault);
                return None;
            }
            Fault::Unreachable(_) => true,
            Fault::Status(_) => self.order.replayable,
            _ => self.order.replayable && !running.exchange.has_begun(),
        };
        if again && self.retry(broken, &fault) { None } else { Some(self.fail(&fault)) }
    }

    /// JSON text of the id the client chose.
    pub(crate) fn client_id(&self) -> Option<&str> {
        std::str::from_utf8(&self.order.id).ok()
    }

    /// Whether nothing more will come.
    pub(crate) fn is_over(&self) -> bool {
        self.outcome.is_some() && self.ready.is_empty()
    }
}
