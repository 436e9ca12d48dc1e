//! What a client knows of the lists, and what one of 2026-07-28 asked to be told.

use bytes::Bytes;
use gateway_core::{Principal, Scope};
use mcp::list::Kind;
use mcp::subscription::{self, Filter};
use mcp::tool::text;
use tokio::sync::mpsc;

use super::Downstream;
use super::events::Outgoing;
use crate::upstream::{Ear, Watch};

/// Resources that one client listens to.
const MAX_WATCHES: usize = 256;

/// The lists that changes are told of.
const LISTS: [Kind; 3] = [Kind::Tools, Kind::Prompts, Kind::Resources];

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
    /// prompts and resources that it never saw and that are not there it needs not be told.
    pub(super) fn replace(&mut self, now: Self) -> impl Iterator<Item = Kind> + use<> {
        let before = std::mem::replace(&mut self.0, now.0);
        let nothing = [None, Some(EMPTY), Some(EMPTY_RESOURCES.with(|hash| *hash))];
        let changed: [bool; 3] = std::array::from_fn(|at| {
            let (before, now) = (before.get(at), now.0.get(at));
            before != now && !(before == Some(&None) && now == nothing.get(at))
        });
        LISTS.into_iter().zip(changed).filter(|(_, changed)| *changed).map(|(list, _)| list)
    }
}

/// What a client of 2026-07-28 is told.
#[derive(Debug)]
pub(super) struct Listen {
    /// JSON text of the id of its request.
    id: Bytes,
    lists: Vec<Kind>,
    /// JSON texts of the URIs it is told of.
    uris: Vec<String>,
    _watches: Vec<Watch>,
}

impl Listen {
    pub(super) fn begin(
        app: &Downstream,
        (principal, scope): (&Principal, &Scope),
        id: Bytes,
        filter: &Filter<'_>,
        outlet: &mpsc::Sender<Outgoing>,
    ) -> Self {
        let published = app.table.load();
        let (mut uris, mut watches) = (Vec::new(), Vec::new());
        for raw in filter.resource_subscriptions.iter().take(MAX_WATCHES) {
            let Some(shown) = text(raw) else { continue };
            // Those that the client may not read are not honoured, as those that are not there.
            let found = principal.tenant.resolve_uri(&shown, scope, principal);
            let watch = found.and_then(|(server, own)| {
                let id = (server.namespace.clone(), server.name.clone());
                let upstream = published.upstreams.get(&id)?;
                upstream.watch(&own, &shown, Ear::Stream(outlet.clone()))
            });
            if let Some(watch) = watch {
                uris.push(raw.get().to_owned());
                watches.push(watch);
            }
        }
        let lists = LISTS.into_iter().filter(|list| filter.wants(*list)).collect();
        Self { id, lists, uris, _watches: watches }
    }

    pub(super) fn acknowledgement(&self) -> Bytes {
        let uris: Vec<&str> = self.uris.iter().map(String::as_str).collect();
        subscription::acknowledged(self.id(), &self.lists, &uris)
    }

    /// The news of a list, if it is wanted.
    pub(super) fn changed(&self, list: Kind) -> Option<Bytes> {
        self.lists
            .contains(&list)
            .then(|| self.stamp(&Bytes::from_static(list.changed().as_bytes())))
    }

    /// A notification with the id that tells what it is sent for.
    pub(super) fn stamp(&self, message: &Bytes) -> Bytes {
        subscription::stamp(message, self.id())
    }

    /// The answer to the request: nothing more will be told.
    pub(super) fn completion(&self) -> Bytes {
        subscription::completed(self.id())
    }

    fn id(&self) -> &str {
        std::str::from_utf8(&self.id).unwrap_or("null")
    }
}
