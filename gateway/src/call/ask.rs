//! What a server asks its client in the middle of a call, between all eras.
//!
//! A legacy server sends a request of its own: a legacy client gets it, under an id of its session,
//! on the stream of the call; for a modern one the call is held, and its answer says which input is
//! required. A modern server answers that input is required: a legacy client is asked by requests,
//! and the call is sent again with what it answered.

use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use gateway_core::Principal;
use mcp::error::error_response;
use mcp::input::{self, InputRequest, InputRequired};
use mcp::json::{Json, JsonBuf};
use mcp::message::{Id, Outcome as Answered};
use mcp::{Era, Message, modern};
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::{Call, Event, Round, Stage, TICK};
use crate::client::Client;
use crate::home::Question;
use crate::parked::Request;
use crate::telemetry::Outcome;
use crate::upstream::exchange::WHOLE;
use crate::upstream::fault::Fault;
use crate::upstream::leg::Leg;
use crate::upstream::unasked::ask;

/// How often a modern server may ask before it answers.
const MAX_ROUNDS: usize = 10;
/// How long further questions of a legacy server are waited for, so that its client is asked once: many
/// times what a server takes to send two, and nothing to a person.
const LINGER: Duration = Duration::from_millis(20);
/// What a legacy server may ask a modern client at once.
const MAX_HELD: usize = 16;
/// Bytes of that: a key may have 64 calls that wait.
const MAX_HELD_BYTES: usize = 256 * 1024;

/// Tells one request from another, by its method and all parameters but those that change when it
/// is sent again.
pub(crate) fn digest(method: &str, params: Option<Json<'_>>) -> Request {
    let mut context = Context::new(&SHA256);
    context.update(method.as_bytes());
    for member in params.into_iter().flat_map(|params| mcp::object::entries(params.get())) {
        if !["_meta", "inputResponses", "requestState"].iter().any(|name| member.is(name)) {
            context.update(member.key().as_bytes());
            context.update(b":");
            context.update(member.value().as_bytes());
            context.update(b",");
        }
    }
    let mut request = Request::default();
    for (to, from) in request.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    request
}

/// What a legacy server asked a modern client: the call is held until it answers.
#[derive(Debug)]
pub(super) struct Held {
    /// Under which the client answers.
    key: String,
    /// JSON text of the server's id.
    id: Bytes,
    method: String,
    params: Option<JsonBuf>,
}

/// Answers of a modern client, by their keys, as JSON.
pub(crate) type Answers = Vec<(String, Bytes)>;

/// What a modern server asked a legacy client.
pub(super) struct Asking {
    answers: mpsc::Receiver<(String, Bytes)>,
    missing: usize,
    got: Vec<(String, Bytes)>,
    /// By key, to tell what an error means.
    methods: Vec<(String, String)>,
    state: Option<Bytes>,
    /// What was put together of the server's answer: what is copied of it has its room.
    _large: Option<Bytes>,
}

impl Asking {
    pub(super) fn poll_answer(
        &mut self,
        cx: &mut task::Context<'_>,
    ) -> Poll<Option<(String, Bytes)>> {
        if self.missing == 0 { Poll::Ready(None) } else { self.answers.poll_recv(cx) }
    }
}

impl Call {
    /// A request that a server makes in the middle of a call.
    pub(super) fn question(
        &mut self,
        bytes: &Bytes,
        id: Id<'_>,
        method: &str,
        params: Option<Json<'_>>,
        leg: &Arc<Leg>,
    ) -> Option<Event> {
        match &self.caller.client {
            client if method == "ping" || !client.may_be_asked(method, params) => {}
            Client::Legacy(_) => {
                if let Some(home) = leg.home()
                    && let Some((number, message)) = ask(home, &self.upstream, leg, bytes, id)
                {
                    // Those that are answered need not be withdrawn.
                    self.asked.retain(|(home, question)| home.waits(*question));
                    if self.caller.streams {
                        self.asked.push((home.clone(), number));
                        return Some(Event::Notification(message));
                    }
                    if home.say(message) {
                        self.asked.push((home.clone(), number));
                        return None;
                    }
                    home.withdraw(number);
                }
            }
            Client::Modern(_) => {
                // There are words for what the protocol knows only.
                if leg.is_lodged()
                    && self.held.len() < MAX_HELD
                    && self.held() + bytes.len() <= MAX_HELD_BYTES
                    && modern::required_capability(method, params).is_some()
                {
                    self.held.push(Held {
                        key: format!("{method}-{}", self.rounds + self.held.len() + 1),
                        id: Bytes::copy_from_slice(id.as_json().as_bytes()),
                        method: method.to_owned(),
                        params: params.map(JsonBuf::from),
                    });
                    self.linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
                    return None;
                }
            }
        }
        leg.decline(&self.upstream, id.as_json(), method);
        None
    }

    /// Bytes of what a server asked a modern client.
    fn held(&self) -> usize {
        let size =
            |held: &Held| held.params.as_ref().map_or(0, |params| params.as_json().get().len());
        self.held.iter().map(size).sum()
    }

    fn capabilities(&self) -> Option<Json<'_>> {
        Json::parse(self.caller.client.capabilities()).ok()
    }

    /// The result that tells a modern client which input is required, to be sent again with `state`.
    pub(crate) fn input_required(&self, state: &str) -> Bytes {
        let requests: Vec<InputRequest<'_>> = self
            .held
            .iter()
            .map(|held| InputRequest {
                key: held.key.as_str().into(),
                method: held.method.as_str().into(),
                params: held.params.as_ref().map(JsonBuf::as_json),
            })
            .collect();
        input::input_required(self.client_id().unwrap_or("null"), &requests, state)
    }

    /// Resolves when the key of the client is not good any more: nobody polls a call that waits.
    pub(crate) fn revoked(&self) -> impl Future<Output = ()> + use<> {
        let (table, principal) = (self.commons.table.clone(), self.caller.principal.clone());
        async move {
            while table.renew(&principal).is_some() {
                sleep(TICK).await;
            }
        }
    }

    /// Goes on with what a modern client answered. `id` is the JSON text of its new request's id,
    /// `token` that of its progress token.
    pub(crate) fn resume(&mut self, id: Bytes, token: Option<Bytes>, answers: &Answers) {
        self.rounds += self.held.len();
        let Stage::Running(running) = &mut self.stage else { return };
        running.exchange.answer_to(id.clone());
        self.order.id = id;
        // A server that was told of no token makes no progress known.
        self.order.token = self.order.token.take().and_then(|(_, place)| Some((token?, place)));
        let leg = running.leg.clone();
        self.held.retain(|held| {
            let Some((_, answer)) = answers.iter().find(|(key, _)| *key == held.key) else {
                return true;
            };
            let answer = [br#"{"jsonrpc":"2.0","id":"#, &*held.id, br#","result":"#, answer, b"}"];
            self.upstream.tell(&leg, answer.concat().into());
            false
        });
        if !self.held.is_empty() {
            self.ready.push_back(Event::Input);
        }
        self.active = tokio::time::Instant::now();
    }

    /// Asks a legacy client what a modern server wants to know.
    pub(super) fn ask_client(&mut self, bytes: &Bytes, result: Json<'_>) -> Event {
        let required = match InputRequired::parse(result) {
            Ok(required) => required,
            Err(error) => return self.fail(&Fault::Garbage(error.to_string())),
        };
        self.rounds += 1;
        if self.rounds > MAX_ROUNDS {
            return self.fail(&Fault::Unknowable("more answers than ten rounds give it"));
        }
        let state = required.request_state.map(|raw| Bytes::copy_from_slice(raw.get().as_bytes()));
        let home = self.caller.client.session().map(|session| self.commons.homes.of(session));
        let capabilities = self.capabilities().map(JsonBuf::from);
        let capabilities = capabilities.as_ref().map(JsonBuf::as_json);
        let (sender, answers) = mpsc::channel(input::MAX_REQUESTS);
        let mut asking = Asking {
            answers,
            missing: required.input_requests.len(),
            got: Vec::new(),
            methods: Vec::new(),
            state,
            _large: (bytes.len() > WHOLE).then(|| bytes.clone()),
        };
        for InputRequest { key, method, params } in required.input_requests {
            let Some(home) =
                home.as_ref().filter(|_| modern::declares(capabilities, &method, params))
            else {
                return self.fail(&Fault::Unknowable("input that this client does not give"));
            };
            let question = Question::Call { key: key.to_string(), answers: sender.clone() };
            let Some(number) = home.ask(question) else {
                return self.fail(&Fault::Unknowable("too much input at once"));
            };
            self.asked.push((home.clone(), number));
            let message = input::request(&number.to_string(), &method, params);
            if self.caller.streams {
                self.ready.push_back(Event::Notification(message));
            } else if !home.say(message) {
                return self.fail(&Fault::Unknowable("input, and this client has no open stream"));
            }
            asking.methods.push((key.into_owned(), method.into_owned()));
        }
        self.stage = Stage::Asking(Box::new(asking));
        // The server has nothing to do until it is sent again.
        drop(self.admission.leave());
        // The client sees a sign of life at once, and the questions next.
        self.ready.pop_front().unwrap_or(Event::Late)
    }

    /// An answer of a legacy client to what a modern server asked; `None` when all are there.
    pub(super) fn answered(&mut self, answer: Option<(String, Bytes)>) -> Option<Event> {
        let Stage::Asking(asking) = &mut self.stage else { return None };
        let Some((key, message)) = answer else {
            let responses = std::mem::take(&mut asking.got);
            let state = asking.state.take();
            self.round = Some(Round { responses, state });
            self.begin();
            return None;
        };
        asking.missing = asking.missing.saturating_sub(1);
        match Message::parse(&message) {
            Ok(Message::Response { outcome: Answered::Result(result), .. }) => {
                asking.got.push((key, message.slice_ref(result.get().as_bytes())));
                None
            }
            Ok(Message::Response { outcome: Answered::Error(error), .. }) => {
                let asked = asking.methods.iter().find(|(asked, _)| *asked == key);
                if asked.is_some_and(|(_, method)| method == "elicitation/create") {
                    asking.got.push((key, Bytes::from_static(br#"{"action":"cancel"}"#)));
                    return None;
                }
                let code = mcp::error::code(error).unwrap_or_default();
                let text = format!("the client answered what the server asked with error {code}");
                let answer = error_response(self.client_id(), mcp::error::UPSTREAM, &text);
                self.finish(Outcome::Failed);
                Some(Event::Answer(answer))
            }
            _ => None,
        }
    }

    pub(crate) const fn principal(&self) -> &Principal {
        &self.caller.principal
    }

    /// Tells the request from others.
    pub(crate) fn digest(&self) -> Request {
        digest(&self.order.method, self.order.params())
    }

    /// Whether the client is one of 2026-07-28.
    pub(crate) fn is_modern(&self) -> bool {
        self.caller.client.era() == Era::Modern
    }
}
