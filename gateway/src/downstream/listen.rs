//! What a client knows of the lists, and what one of 2026-07-28 asked to be told.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use gateway_core::{Listening, Principal, Scope};
use mcp::Message;
use mcp::list::List;
use mcp::subscription::{self, Filter};
use tokio::sync::mpsc;

use super::Downstream;
use super::events::Outgoing;
use super::route::open_task;
use crate::upstream::{Ear, Sight, Subject, Watch, Watched};

/// Resources, and tasks, that one client listens to.
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
    let published = app.commons.table.load();
    let upstream = published.upstream(server)?;
    Some(Watched::new(Arc::clone(upstream), Subject::Resource((*own).into()), principal))
}

/// The task that a client knows as `shown`, where its server tells of tasks.
pub(super) fn watched_task(
    app: &Downstream,
    (principal, scope): (&Principal, &Scope),
    shown: &str,
) -> Option<Watched> {
    let (server, own) = open_task(shown, (principal, scope), app)?;
    let published = app.commons.table.load();
    let upstream = published.upstream(server)?;
    let tells = upstream.has_tasks();
    tells.then(|| Watched::new(Arc::clone(upstream), Subject::Task(own.into()), principal))
}

/// What a client of 2026-07-28 is told.
#[derive(Debug)]
pub(super) struct Listen {
    /// JSON text of the id of its request.
    id: Bytes,
    /// What of that is honoured.
    honoured: Filter<'static>,
    watches: Vec<(Box<str>, Watch)>,
    tasks: Vec<(Box<str>, Watch)>,
    sight: Sight,
    outlet: mpsc::Sender<Outgoing>,
    /// Held, so that lists tell this key how long they are good.
    _lists: Listening,
}

impl Listen {
    pub(super) fn begin(
        app: &Downstream,
        (principal, scope): (&Principal, &Scope),
        id: Bytes,
        filter: &Filter<'_>,
        outlet: &mpsc::Sender<Outgoing>,
    ) -> Self {
        let sight = Sight {
            sealer: app.commons.sealer.clone(),
            table: app.commons.table.clone(),
            principal: principal.clone(),
            scope: scope.clone(),
        };
        // Those that the client may not read are not honoured, as those that are not there.
        let watches = begin(&filter.resource_subscriptions, |shown| {
            watched(app, (principal, scope), shown)?.watch(shown, Ear::Stream(outlet.clone()))
        });
        let tasks = begin(&filter.task_ids, |shown| {
            let ear = Ear::Task(outlet.clone(), Box::new(sight.clone()));
            watched_task(app, (principal, scope), shown)?.watch(shown, ear)
        });
        let shown = |watches: &[(Box<str>, Watch)]| {
            watches.iter().map(|(shown, _)| Cow::Owned(shown.to_string())).collect()
        };
        let honoured = Filter {
            tools_list_changed: filter.tools_list_changed,
            prompts_list_changed: filter.prompts_list_changed,
            resources_list_changed: filter.resources_list_changed,
            resource_subscriptions: shown(&watches),
            task_ids: shown(&tasks),
        };
        let lists = List::ALL.into_iter().filter(|list| honoured.wants(*list)).collect();
        let lists = principal.key.account.listen(scope, lists);
        Self { id, honoured, watches, tasks, sight, outlet: outlet.clone(), _lists: lists }
    }

    /// Watches what is still to be found, where it is found now.
    pub(super) fn revise(&mut self, app: &Downstream, whom: (&Principal, &Scope)) {
        let Self { watches, tasks, sight, outlet, .. } = self;
        keep(watches, |shown| watched(app, whom, shown), || Ear::Stream(outlet.clone()));
        let ear = || Ear::Task(outlet.clone(), Box::new(sight.clone()));
        keep(tasks, |shown| watched_task(app, whom, shown), ear);
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

/// Watches what is to be found of what a client asks for.
fn begin(asked: &[Cow<'_, str>], watch: impl Fn(&str) -> Option<Watch>) -> Vec<(Box<str>, Watch)> {
    let found = asked.iter().take(MAX_WATCHES).map(|shown| Some(((**shown).into(), watch(shown)?)));
    found.flatten().collect()
}

fn keep(
    watches: &mut Vec<(Box<str>, Watch)>,
    find: impl Fn(&str) -> Option<Watched>,
    ear: impl Fn() -> Ear,
) {
    let kept = std::mem::take(watches).into_iter().filter_map(|(shown, watch)| {
        let watch = find(&shown)?.keep(watch, &shown, &ear)?;
        Some((shown, watch))
    });
    *watches = kept.collect();
}
