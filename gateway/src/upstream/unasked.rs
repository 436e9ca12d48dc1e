//! What a server says that belongs to no call: on a stream of its own, or on that of HTTP+SSE.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use mcp::Message;
use mcp::json::Json;
use mcp::logging;
use mcp::message::Id;
use mcp::resource::UriParams;
use mcp::splice::{Edit, splice};
use mcp::tool::{CancelledParams, text};
use tokio::sync::mpsc;

use super::Upstream;
use super::leg::Leg;
use super::lodger::Lodger;
use crate::client::may_be_asked;
use crate::home::Home;

/// Questions of a server that wait for one call, and the largest.
const QUESTIONS: usize = 16;
const MAX_QUESTION: usize = 256 * 1024;

/// Hears what comes on a leg and belongs to no call.
#[derive(Debug)]
pub(crate) struct Unasked {
    upstream: Weak<Upstream>,
    /// Whose leg it is; none if it is the gateway's.
    lodger: Option<Lodger>,
    /// Known once the leg is open.
    leg: OnceLock<Weak<Leg>>,
    /// Calls on the leg whose client can be asked with their answer only.
    calls: Mutex<Vec<mpsc::Sender<Bytes>>>,
}

impl Unasked {
    pub(super) fn new(upstream: &Arc<Upstream>, lodger: Option<&Lodger>) -> Arc<Self> {
        let upstream = Arc::downgrade(upstream);
        let (lodger, calls) = (lodger.cloned(), Mutex::default());
        Arc::new(Self { upstream, lodger, leg: OnceLock::new(), calls })
    }

    /// What the server asks besides its answers, for a call of a client that has no stream. Which of
    /// several calls it is for the server does not say: the latest takes it.
    pub(super) fn attend(&self) -> mpsc::Receiver<Bytes> {
        let (call, questions) = mpsc::channel(QUESTIONS);
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.retain(|call| !call.is_closed());
        calls.push(call);
        questions
    }

    fn ask_a_call(&self, bytes: &Bytes) -> bool {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().rev().any(|call| call.try_send(bytes.clone()).is_ok())
    }

    pub(super) fn opened(&self, leg: &Arc<Leg>) {
        // A leg is opened once.
        let _ = self.leg.set(Arc::downgrade(leg));
    }

    /// The leg and its server, as long as they are there.
    pub(super) fn place(&self) -> Option<(Arc<Upstream>, Arc<Leg>)> {
        Some((self.upstream.upgrade()?, self.leg.get()?.upgrade()?))
    }

    /// The client whose leg it is, if it can be spoken to.
    pub(crate) fn home(&self) -> Option<&Arc<Home>> {
        self.lodger.as_ref().and_then(|lodger| lodger.home.as_ref())
    }

    /// The same.
    pub(super) fn lodger(&self) -> Option<&Lodger> {
        self.lodger.as_ref().filter(|lodger| lodger.home.is_some())
    }

    pub(super) const fn is_lodged(&self) -> bool {
        self.lodger.is_some()
    }

    pub(super) fn hear(&self, bytes: &Bytes, message: &Message<'_>) {
        let Some(upstream) = self.upstream.upgrade() else { return };
        match message {
            Message::Notification { method, params } => {
                self.notification(&upstream, bytes, method, *params);
            }
            Message::Request { id, method, params } => {
                self.request(&upstream, bytes, *id, method, *params);
            }
            // Somebody else's answer, or a late one.
            Message::Response { .. } => {}
        }
    }

    fn notification(
        &self,
        upstream: &Arc<Upstream>,
        bytes: &Bytes,
        method: &str,
        params: Option<Json<'_>>,
    ) {
        match method {
            "notifications/tools/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/resources/list_changed" => upstream.refresh(),
            "notifications/resources/updated" => match self.lodger() {
                Some(lodger) => {
                    if let Some(message) = self.updated(upstream, bytes, params) {
                        lodger.say(message);
                    }
                }
                None => upstream.watchers.tell(bytes, params),
            },
            "notifications/message" => {
                if let (Some(home), Some(lodger)) = (self.home(), self.lodger())
                    && home
                        .level()
                        .is_none_or(|level| logging::level_of(params).is_none_or(|of| of >= level))
                {
                    lodger.say(bytes.clone());
                }
            }
            "notifications/cancelled" => {
                if let Some(message) = self.withdrawn(bytes, params) {
                    self.lodger().map(|lodger| lodger.say(message));
                }
            }
            // Told to who listens for it; others poll.
            "notifications/tasks" if self.lodger.is_none() => {
                upstream.watchers.tell_of_task(&upstream.entry(), bytes, params);
            }
            // Of a call that is over.
            "notifications/progress" => {}
            _ => {
                if let Some(lodger) = self.lodger() {
                    lodger.say(lodger.sight.tasks(&upstream.entry(), bytes, method, params));
                }
            }
        }
    }

    /// The notification that a resource changed, with the URI by which the client knows it.
    fn updated(
        &self,
        upstream: &Upstream,
        bytes: &Bytes,
        params: Option<Json<'_>>,
    ) -> Option<Bytes> {
        let lodger = self.lodger.as_ref()?;
        let uri = UriParams::parse(params?).ok()?.uri;
        let own = text(uri)?;
        let shown = lodger.sight.expose(&upstream.entry(), &own);
        if *shown == *own {
            return Some(bytes.clone());
        }
        let quoted = mcp::modern::quoted(&shown);
        let edit = Edit::replace(bytes, uri.get().as_bytes(), quoted.as_bytes())?;
        Some(splice(bytes, &mut [edit]))
    }

    /// A server takes back what it asked.
    fn withdrawn(&self, bytes: &Bytes, params: Option<Json<'_>>) -> Option<Bytes> {
        let params: CancelledParams<'_> = serde_json::from_str(params?.get()).ok()?;
        let (home, leg) = (self.home()?, self.leg.get()?.upgrade()?);
        withdraw(home, &leg, bytes, params.request_id)
    }

    fn request(
        &self,
        upstream: &Arc<Upstream>,
        bytes: &Bytes,
        id: Id<'_>,
        method: &str,
        params: Option<Json<'_>>,
    ) {
        let Some(leg) = self.leg.get().and_then(Weak::upgrade) else { return };
        if method != "ping"
            && self.may_be_asked(method, params)
            && let (Some(home), Some(lodger)) = (self.home(), self.lodger())
            && let Some((number, message)) = ask(home, upstream, &leg, bytes, id)
        {
            let unheard = {
                let (home, upstream, leg) = (home.clone(), upstream.clone(), leg.clone());
                let (id, method) = (id.as_json().to_owned(), method.to_owned());
                move || {
                    home.withdraw(number);
                    leg.decline(&upstream, &id, &method);
                }
            };
            if lodger.say_or(message, unheard) {
                return;
            }
            home.withdraw(number);
        }
        if method != "ping"
            && self.home().is_none()
            && bytes.len() <= MAX_QUESTION
            && self.ask_a_call(bytes)
        {
            return;
        }
        leg.decline(upstream, id.as_json(), method);
    }

    fn may_be_asked(&self, method: &str, params: Option<Json<'_>>) -> bool {
        let capabilities = self.lodger.as_ref().map(|lodger| &lodger.capabilities[..]);
        let capabilities = capabilities.and_then(|text| std::str::from_utf8(text).ok());
        may_be_asked(capabilities.unwrap_or_default(), method, params)
    }
}

/// A request of a server as its client is asked, and the number under which it is. `None` if too
/// much was asked already.
pub(crate) fn ask(
    home: &Home,
    upstream: &Arc<Upstream>,
    leg: &Arc<Leg>,
    bytes: &Bytes,
    id: Id<'_>,
) -> Option<(u64, Bytes)> {
    let number = home.ask_for(upstream, leg, id.as_json().as_bytes())?;
    let text = number.to_string();
    let edit = Edit::replace(bytes, id.as_json().as_bytes(), text.as_bytes())?;
    Some((number, splice(bytes, &mut [edit])))
}

/// A server's cancellation of what it asked, as the client is told of it.
pub(crate) fn withdraw(
    home: &Home,
    leg: &Arc<Leg>,
    bytes: &Bytes,
    request: Json<'_>,
) -> Option<Bytes> {
    let number = home.asked(leg, request.get().as_bytes())?;
    home.withdraw(number);
    let text = number.to_string();
    let edit = Edit::replace(bytes, request.get().as_bytes(), text.as_bytes())?;
    Some(splice(bytes, &mut [edit]))
}
