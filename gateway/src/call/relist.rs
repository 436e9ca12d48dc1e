//! A tool that wants other arguments as headers than its definition said: the list is read again and
//! the call sent once more (2026-07-28, basic/transports/streamable-http, custom headers).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use mcp::Era;
use mcp::header::ParamHeaders;
use mcp::tool::{CallParams, text};
use tokio::time::timeout;

use super::{Call, Event, Stage};
use crate::upstream::leg::Leg;

/// How long a list may take before its call fails as the server said.
const LISTED: Duration = Duration::from_secs(5);

/// A refusal, kept while the list is read again.
pub(super) struct Relisting {
    pub(super) listed: BoxFuture<'static, ()>,
    answer: Bytes,
    leg: Arc<Leg>,
    id: u64,
}

impl Call {
    /// Begins to read the list again. False if the call is not to be sent once more: it was, it is no
    /// tool's, or the client has seen something of it.
    pub(super) fn relist(&mut self, answer: &Bytes, leg: &Arc<Leg>, id: u64) -> bool {
        if leg.era() == Era::Legacy || self.order.method != "tools/call" {
            return false;
        }
        if self.said || self.committed || self.rounds > 0 || self.relisted {
            // For the calls that follow.
            self.upstream.refresh();
            return false;
        }
        self.relisted = true;
        let listed = self.upstream.listed_anew();
        self.stage = Stage::Relisting(Box::new(Relisting {
            listed: Box::pin(async move {
                let _ = timeout(LISTED, listed).await;
            }),
            answer: answer.clone(),
            leg: leg.clone(),
            id,
        }));
        true
    }

    /// Sends the call by the list of now. A tool that is gone, or not for this client any more, leaves
    /// it at the refusal.
    pub(super) fn relisted(&mut self) -> Option<Event> {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let Stage::Relisting(refused) = stage else { return None };
        match self.wanted_now() {
            Some(headers) => {
                self.order.headers = headers;
                self.begin();
                None
            }
            None => self.translate(&refused.answer, &refused.leg, refused.id),
        }
    }

    /// The headers that the tool wants by the table of now; `None` if the client has no such tool.
    fn wanted_now(&self) -> Option<Option<Arc<ParamHeaders>>> {
        let principal = self.commons.table.renew(&self.caller.principal)?;
        let name = CallParams::parse(self.order.params()?).ok()?.name;
        let tool = principal.tenant.find(&text(name)?, &self.caller.scope, &principal)?;
        let server = (tool.server.namespace.clone(), tool.server.name.clone());
        let same = server == self.upstream.id() && Some(&tool.name) == self.order.named.as_ref();
        same.then(|| tool.headers.clone())
    }
}
