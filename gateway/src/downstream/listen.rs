//! What a client knows of the lists, and what one of 2026-07-28 asked to be told.

use std::borrow::Cow;

use bytes::Bytes;
use gateway_core::{Listening, Principal, Scope};
use mcp::Message;
use mcp::list::List;
use mcp::subscription::{self, Filter};
use tokio::sync::mpsc;

use super::Downstream;
use super::events::Outgoing;
use crate::upstream::{Ear, Watch, Watched};

/// Resources that one client listens to.
const MAX_WATCHES: usize = 256;

/// Which lists a client has seen, by their hashes; `None` of one that it may not know.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen([Option<u64>; 3]);

impl Seen {
    pub(super) fn now(principal: &Principal, scope: &Scope) -> Self {
        let tenant = &principal.tenant;
        Self([
            Some(tenant.view_hash(scope, principal)),
            Some(tenant.prompts_hash(scope, principal)),
            Some(tenant.resources_hash(scope, principal)),
        ])
    }

    /// As the id of an event, which a client that comes back shows.
    pub(super) fn id(self) -> String {
        let [tools, prompts, resources] = self.0.map(Option::unwrap_or_default);
        format!("{tools:x}-{prompts:x}-{resources:x}")
    }

    /// What the id of an event says. One that is not ours says nothing.
    pub(super) fn of_id(id: &str) -> Self {
        let mut hashes = id.splitn(3, '-').map(|part| u64::from_str_radix(part, 16).ok());
        Self(std::array::from_fn(|_| hashes.next().flatten()))
    }

    /// Takes note of the lists of now, and returns those that the client has to be told of. Of
    /// prompts and resources that it may not know and that are not there it needs not be told.
    pub(super) fn replace(&mut self, now: Self, is_empty: impl Fn(List) -> bool) -> Vec<List> {
        let before = std::mem::replace(self, now);
        let changes = List::ALL.into_iter().zip(before.0).zip(now.0);
        changes
            .filter(|((list, before), now)| {
                before != now && !(before.is_none() && *list != List::Tools && is_empty(*list))
            })
            .map(|((list, _), _)| list)
            .collect()
    }
}

/// Whether a principal sees nothing of a list.
pub(super) fn is_empty(list: List, principal: &Principal, scope: &Scope) -> bool {
    let tenant = &principal.tenant;
    match list {
        List::Tools => tenant.list(scope, principal).next().is_none(),
        List::Prompts => tenant.list_prompts(scope, principal).next().is_none(),
        List::Resources => {
            tenant.list_resources(scope, principal).next().is_none()
                && tenant.list_templates(scope, principal).next().is_none()
        }
    }
}

/// The resource that a client knows as `shown`, if it may read it. Those that it may not read are
/// told like those that are not there.
pub(super) fn watched(
    app: &Downstream,
    (principal, scope): (&Principal, &Scope),
    shown: &str,
) -> Option<Watched> {
    let (server, own) = principal.tenant.resolve_uri(shown, scope, principal)?;
    let published = app.table.load();
    let upstream =
        published.upstreams.get(&(server.namespace.clone(), server.name.clone()))?.clone();
    Some(Watched::new(upstream, &own, principal))
}

/// What a client of 2026-07-28 is told.
#[derive(Debug)]
pub(super) struct Listen {
    /// JSON text of the id of its request.
    id: Bytes,
    /// What of that is honoured.
    honoured: Filter<'static>,
    watches: Vec<(Box<str>, Watch)>,
    outlet: mpsc::Sender<Outgoing>,
}

impl Listen {
    pub(super) fn begin(
        app: &Downstream,
        (principal, scope): (&Principal, &Scope),
        id: Bytes,
        filter: &Filter<'_>,
        outlet: &mpsc::Sender<Outgoing>,
    ) -> Self {
        let (mut uris, mut watches) = (Vec::new(), Vec::new());
        for shown in filter.resource_subscriptions.iter().take(MAX_WATCHES) {
            // Those that the client may not read are not honoured, as those that are not there.
            let found = watched(app, (principal, scope), shown);
            let watch = found.and_then(|at| at.watch(shown, Ear::Stream(outlet.clone())));
            if let Some(watch) = watch {
                uris.push(Cow::Owned(shown.to_string()));
    /// Held, so that lists tell this key how long they are good.
    _lists: Listening,
                watches.push((shown.as_ref().into(), watch));
            }
        }
        let honoured = Filter {
            tools_list_changed: filter.tools_list_changed,
            prompts_list_changed: filter.prompts_list_changed,
            resources_list_changed: filter.resources_list_changed,
            resource_subscriptions: uris,
            task_ids: Vec::new(),
        };
        Self { id, honoured, watches, outlet: outlet.clone() }
    }

    /// Watches what is still to be found, where it is found now.
    pub(super) fn revise(&mut self, find: impl Fn(&str) -> Option<Watched>) {
        self.watches = std::mem::take(&mut self.watches)
            .into_iter()
            .filter_map(|(shown, watch)| {
                let found = find(&shown)?;
                let ear = || Ear::Stream(self.outlet.clone());
                let watch = found.keep(watch, &shown, ear)?;
                Some((shown, watch))
            })
            .collect();
    }

    pub(super) fn acknowledgement(&self) -> Bytes {
        subscription::acknowledged(self.id(), &self.honoured)
    }

    /// The news of a list, if it is wanted.
    pub(super) fn changed(&self, list: List) -> Option<Bytes> {
        self.honoured
            .wants(list)
            .then(|| self.stamp(&Bytes::from_static(list.changed().as_bytes())))
    }

    /// A notification with the id that tells what it is sent for.
    pub(super) fn stamp(&self, message: &Bytes) -> Bytes {
        match Message::parse(message) {
            Ok(Message::Notification { params, .. }) => {
                subscription::stamp(message, params, self.id())
            }
            _ => message.clone(),
        }
    }

    /// The answer to the request: nothing more will be told.
    pub(super) fn completion(&self) -> Bytes {
        subscription::closed(self.id())
    }

    fn id(&self) -> &str {
        std::str::from_utf8(&self.id).unwrap_or("null")
    }
}
