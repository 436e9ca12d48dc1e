//! What a server's messages are to the client of a call. The table of what becomes what is in
//! [`mcp::bridge`].

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use gateway_core::Scope;
use mcp::error::{HEADER_MISMATCH, modern_error};
use mcp::input::{InputRequest, input_required, url_elicitations};
use mcp::json::Json;
use mcp::logging::{self, Level};
use mcp::message::{Id, Outcome as Answered};
use mcp::modern::quoted;
use mcp::result::{Cache, ResultType, result_type, to_legacy, to_modern};
use mcp::scan::{Name, Names};
use mcp::splice::{Edit, splice};
use mcp::task::{in_params, in_result};
use mcp::tool::{CancelledParams, ProgressParams, is_own};
use mcp::uri::uris;
use mcp::{Era, Message};

use super::{Call, Caller, Event, Stage, US};
use crate::client::Client;
use crate::telemetry::Outcome;
use crate::upstream::fault::Fault;
use crate::upstream::leg::Leg;
use crate::upstream::unasked::withdraw;
use crate::upstream::{Mends, exposed, sealed};

impl Call {
    /// What a message from the server is to the client; `id` is that of our request.
    pub(super) fn translate(&mut self, bytes: &Bytes, leg: &Arc<Leg>, id: u64) -> Option<Event> {
        match Message::parse(bytes) {
            Ok(Message::Response { id: answered, outcome }) if is_own(answered, id) => {
                let mismatch = matches!(outcome, Answered::Error(error)
                    if mcp::error::code(error) == Some(i64::from(HEADER_MISMATCH)));
                if mismatch && self.relist(bytes, leg, id) {
                    return None;
                }
                self.answer(bytes, answered, outcome, leg)
            }
            Ok(Message::Notification { method, params }) => {
                self.notification(bytes, &method, params, leg, id)
            }
            Ok(Message::Request { id: theirs, method, params }) => {
                self.question(bytes, theirs, &method, params, leg)
            }
            // Somebody else's answer, or none at all.
            Ok(Message::Response { .. }) => None,
            Err(error) => self.recover(Fault::Garbage(error.to_string())),
        }
    }

    fn answer(
        &mut self,
        bytes: &Bytes,
        id: Id<'_>,
        outcome: Answered<'_>,
        leg: &Arc<Leg>,
    ) -> Option<Event> {
        let client = self.caller.client.era();
        if let (Era::Legacy, Era::Modern, Answered::Result(result)) = (client, leg.era(), outcome) {
            match result_type(result) {
                ResultType::InputRequired => return Some(self.ask_client(bytes, result)),
                ResultType::Task => return Some(self.fail(&Fault::Unknowable("a task"))),
                ResultType::Complete | ResultType::Other => {}
            }
        }
        let own = self.order.id.clone();
        let mut edits = vec![Edit::replace(bytes, id.as_json().as_bytes(), &own)?];
        let outcome = match outcome {
            Answered::Result(result) => {
                match (client, leg.era()) {
                    (Era::Legacy, Era::Legacy) => {}
                    (Era::Legacy, Era::Modern) => edits.extend(to_legacy(bytes, result)),
                    (Era::Modern, _) => {
                        let cache = Cache::default();
                        edits.extend(to_modern(bytes, result, &self.order.method, &US, cache));
                    }
                }
                if self.caller.scope == Scope::All {
                    let uris = uris(result, &self.order.method);
                    edits.extend(exposed(bytes, uris, |own| self.expose_uri(own)));
                }
                edits.extend(self.seal_tasks(bytes, in_result(&self.order.method, result)));
                self.note_subscription();
                Outcome::Ok
            }
            Answered::Error(error) => {
                if (client, leg.era()) == (Era::Modern, Era::Legacy) {
                    if let Ok(requests) = url_elicitations(error)
                        && !requests.is_empty()
                        && requests.iter().all(|InputRequest { method, params, .. }| {
                            self.caller.client.may_be_asked(method, *params)
                        })
                    {
                        let id = self.client_id().unwrap_or("null");
                        // Nothing waits: the client visits the pages and calls again.
                        let answer = input_required(id, &requests, "");
                        self.finish(Outcome::Error);
                        return Some(Event::Answer(answer));
                    }
                    edits.extend(modern_error(bytes, error));
                }
                Outcome::Error
            }
        };
        let answer = splice(bytes, &mut edits);
        self.finish(outcome);
        Some(Event::Answer(answer))
    }

    /// A subscription on a leg of the client's own is told to the next one as well.
    fn note_subscription(&self) {
        if self.order.method == "resources/subscribe"
            && let Some(session) = self.caller.client.session()
            && let Some(uri) = &self.order.named
        {
            self.commons.homes.of(session).subscribe(self.upstream.id(), uri);
        }
    }

    /// A URI as the client knows it, if that is not as the server does.
    fn expose_uri(&self, own: &str) -> Option<String> {
        let Caller { principal, scope, .. } = &self.caller;
        match principal.tenant.expose_uri(own, &self.upstream.entry(), scope) {
            Cow::Borrowed(_) => None,
            Cow::Owned(shown) => Some(shown),
        }
    }

    /// What an answer that is too large to hold needs on its way to the client from a server of that
    /// era.
    pub(super) fn mends(&self, era: Era) -> Mends {
        // Only tasks are known otherwise at the URL of one server.
        let mapped = |names: &Names| self.caller.scope == Scope::All || *names == Names::Task;
        let may_ask = (self.caller.client.era(), era) == (Era::Legacy, Era::Modern);
        Mends {
            share: may_ask.then(|| self.commons.room.share(&self.caller.principal.key.account)),
            additions: self.order.additions(&self.caller.client),
            names: Names::of(&self.order.method).filter(mapped),
        }
    }

    /// A name in such an answer as the client knows it.
    pub(super) fn rename(&self, name: Name, text: Bytes) -> Bytes {
        let Some(own) = serde_json::from_slice(&text).ok().and_then(mcp::tool::text) else {
            return text;
        };
        let shown = match name {
            Name::Uri => self.expose_uri(&own),
            Name::Task => {
                let (server, principal) = (self.upstream.id(), &self.caller.principal);
                self.commons.sealer.seal_task(&server, &own, principal)
            }
        };
        shown.map_or(text, |shown| quoted(&shown).into())
    }

    fn notification(
        &mut self,
        bytes: &Bytes,
        method: &str,
        params: Option<Json<'_>>,
        leg: &Arc<Leg>,
        id: u64,
    ) -> Option<Event> {
        match method {
            "notifications/progress" => {
                let (token, _) = self.order.token.as_ref()?;
                let progress: ProgressParams<'_> = serde_json::from_str(params?.get()).ok()?;
                let text = progress.progress_token.get();
                if text.trim_matches('"').parse() != Ok(id) {
                    return None;
                }
                let mut edits = [Edit::replace(bytes, text.as_bytes(), token)?];
                Some(Event::Notification(splice(bytes, &mut edits)))
            }
            "notifications/message" => {
                let wanted = match &self.caller.client {
                    Client::Legacy(_) => self.level().unwrap_or(Level::Debug),
                    // Without a level there are none (2026-07-28, server/utilities/logging).
                    Client::Modern(guest) => guest.level?,
                };
                logging::level_of(params)
                    .is_none_or(|of| of >= wanted)
                    .then(|| Event::Notification(bytes.clone()))
            }
            "notifications/tools/list_changed"
            | "notifications/prompts/list_changed"
            | "notifications/resources/list_changed" => {
                self.upstream.refresh();
                None
            }
            "notifications/resources/updated" => {
                if let Ok(message) = Message::parse(bytes) {
                    leg.hear(bytes, &message);
                }
                None
            }
            "notifications/cancelled" => {
                let params: CancelledParams<'_> = serde_json::from_str(params?.get()).ok()?;
                let message = withdraw(leg.home()?, leg, bytes, params.request_id)?;
                Some(Event::Notification(message))
            }
            // Those of sessions mean nothing to a client that has none.
            "notifications/elicitation/complete" | "notifications/tasks/status"
                if self.caller.client.era() == Era::Modern =>
            {
                None
            }
            _ => {
                let mut edits = self.seal_tasks(bytes, in_params(method, params));
                Some(Event::Notification(splice(bytes, &mut edits)))
            }
        }
    }

    /// Ids of tasks as the client knows them.
    fn seal_tasks(&self, bytes: &Bytes, ids: Vec<Json<'_>>) -> Vec<Edit<'static>> {
        if ids.is_empty() {
            return Vec::new();
        }
        let entry = self.upstream.entry();
        let server = (entry.namespace.clone(), entry.name.clone());
        sealed(&self.commons.sealer, &server, &self.caller.principal, bytes, ids)
    }

    /// The least severe log message a client of the legacy era wants, if it ever said.
    pub(super) fn level(&self) -> Option<Level> {
        let session = self.caller.client.session()?;
        self.commons.homes.get(session)?.level()
    }

    /// Whether nothing comes because the client has not answered.
    pub(super) fn waits_for_client(&self) -> bool {
        matches!(self.stage, Stage::Asking(_))
            || self.asked.iter().any(|(home, question)| home.waits(*question))
    }
}
