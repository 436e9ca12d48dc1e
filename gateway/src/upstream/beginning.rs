//! The beginning of a session over Streamable HTTP. One that is let go before it is a leg in its place,
//! by a call that was cancelled or because the server said nonsense, leaves no session at the server.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Method, Response};
use tokio::time::timeout;

use super::Upstream;
use super::client::{Body, HttpClient, Sending, Template};
use super::fault::Fault;
use super::leg::NOTIFY;
use super::own::within;

pub(super) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");

/// How long an answer to `initialize` may come late: as long again as a request may take unless its
/// manifest says otherwise.
const LATE: Duration = Duration::from_secs(60);

/// A session that is to begin.
#[derive(Default)]
pub(super) struct Beginning(Option<Begun>);

struct Begun {
    upstream: Arc<Upstream>,
    http: Arc<HttpClient>,
    /// What requests of the session have in common.
    common: Template,
    /// `initialize`, until its answer comes.
    sent: Option<Sending>,
}

impl Beginning {
    /// Sends `initialize`. The head of the answer, and what requests of the session have in common.
    pub(super) async fn ask(
        &mut self,
        upstream: &Arc<Upstream>,
        http: &Arc<HttpClient>,
        initialize: Bytes,
    ) -> Result<(Response<Body>, Template), Fault> {
        let common = upstream.template(&upstream.endpoint.streamable);
        let post = common.clone().posting();
        let sent = Some(upstream.send(http, &post, &Method::POST, initialize, &[]));
        let limit = upstream.entry().timeouts.request;
        let (upstream, http) = (upstream.clone(), http.clone());
        let begun = self.0.insert(Begun { upstream, http, common, sent });
        let response = within(limit, begun.head()).await??;
        Ok((response, begun.common.clone()))
    }

    /// The session is that of a leg, which ends it.
    pub(super) fn succeed(mut self) {
        self.0 = None;
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        let Some(begun) = self.0.take().filter(Begun::may_have_session) else { return };
        // As answers to clients that left: nobody waits for it, and there are only so many.
        let Some(place) = begun.upstream.drain() else { return };
        // Where there is no runtime the gateway is gone.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            begun.end().await;
            drop(place);
        });
    }
}

impl Begun {
    /// The head of the answer, which comes once.
    async fn head(&mut self) -> Result<Response<Body>, Fault> {
        let answered = self.sent.as_mut().ok_or(Fault::SessionLost)?.await;
        self.sent = None;
        let response = answered?;
        if let Some(mut session) = response.headers().get(SESSION_ID).cloned() {
            session.set_sensitive(true);
            self.common = self.common.clone().with(SESSION_ID, session);
        }
        Ok(response)
    }

    fn may_have_session(&self) -> bool {
        self.sent.is_some() || self.common.holds(&SESSION_ID)
    }

    async fn end(mut self) {
        if self.sent.is_some() {
            // An answer that is none has begun no session.
            let _ = timeout(LATE, self.head()).await;
        }
        end(&self.upstream, &self.http, &self.common).await;
    }
}

/// Ends a session, if the server keeps one.
pub(super) async fn end(upstream: &Upstream, http: &Arc<HttpClient>, common: &Template) {
    if common.holds(&SESSION_ID) {
        let sending = upstream.send(http, common, &Method::DELETE, Bytes::new(), &[]);
        // The server may have forgotten the session or never end one: both are fine.
        let _ = within(NOTIFY, sending).await;
    }
}
