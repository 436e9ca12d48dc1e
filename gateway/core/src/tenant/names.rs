//! Who holds which name among all servers of a tenant. Performs no I/O.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::compiled::Offer;
use super::offers::{Offers, Span};
use super::{Offered, Server};
use crate::catalog::Listed;
use crate::{Diagnostic, Entry, Reason, ServerName};

/// The tenant's own servers first, whatever others expose to it and when, then by claim.
pub(super) fn by_claim(servers: &BTreeMap<ServerName, Server>) -> Vec<&Server> {
    let mut by_claim: Vec<&Server> = servers.values().collect();
    // Stable: equal claims, as of two servers in one file, are decided by name.
    by_claim.sort_by_key(|server| (!server.own, &server.entry.claim));
    by_claim
}

/// Gives each exposed name to one item: the earliest claim among the servers, except that an item
/// added later to a server's list never takes a name from the one that holds it.
pub(super) fn settle_names<T: Offer>(
    items: Vec<Arc<T>>,
    servers: &BTreeMap<ServerName, Server>,
    by_claim: &[&Server],
    span: fn(&Server) -> &Span,
    previous: Option<(&Offered, &Offers<T>)>,
) -> Offers<T> {
    let held = Held { servers, items: &items, span, previous };
    let mut holders: HashMap<Arc<str>, usize> = HashMap::with_capacity(items.len());
    let mut nameless = HashSet::new();
    for at in by_claim.iter().flat_map(|server| span(server).range()) {
        let Some(item) = items.get(at) else { continue };
        match holders.entry(item.exposed().clone()) {
            MapEntry::Vacant(free) => {
                free.insert(at);
            }
            MapEntry::Occupied(mut taken) => {
                let earlier = *taken.get();
                let holder = held.holder(taken.key());
                let may_hold =
                    |at| holder.is_none_or(|holder| holder == at || held.is_first_claim(at));
                if may_hold(at) && !may_hold(earlier) {
                    taken.insert(at);
                    nameless.insert(earlier);
                } else {
                    nameless.insert(at);
                }
            }
        }
    }
    Offers { items, holders, nameless }
}

/// Looks up what the table before says of items of this one.
struct Held<'a, T> {
    servers: &'a BTreeMap<ServerName, Server>,
    items: &'a [Arc<T>],
    span: fn(&Server) -> &Span,
    previous: Option<(&'a Offered, &'a Offers<T>)>,
}

impl<T: Offer> Held<'_, T> {
    /// The server of the table before, if it is the same: one that was deleted and made anew under
    /// its name has a claim of its own.
    fn before(&self, name: &ServerName) -> Option<&Server> {
        let server = self.servers.get(name)?;
        let (previous, _) = self.previous?;
        previous.servers.get(name).filter(|before| before.entry.claim == server.entry.claim)
    }

    /// Index of the item that held the name and still claims it.
    fn holder(&self, name: &str) -> Option<usize> {
        let (_, previous) = self.previous?;
        let item = previous.get(previous.holder(name)?)?;
        let server = self.servers.get(item.known_as())?;
        self.before(item.known_as())?;
        let at = (self.span)(server).find(item.name())?;
        self.items.get(at).filter(|item| **item.exposed() == *name).map(|_| at)
    }

    /// Whether the item is of its server's first lists. Which server lists first is chance, so the
    /// first lists of an earlier claim take their names; after that it comes too late.
    fn is_first_claim(&self, item: usize) -> bool {
        self.items
            .get(item)
            .and_then(|item| self.before(item.known_as()))
            .is_none_or(|before| before.catalog.is_none())
    }
}

/// What to tell of items that hold no name, and are hidden.
pub(super) fn conflicts<T: Offer>(listed: Listed, offers: &Offers<T>) -> Vec<Diagnostic> {
    let mut losers: Vec<usize> = offers.nameless.iter().copied().collect();
    losers.sort_unstable();
    let conflict = |at| {
        let item = offers.get(at)?;
        let holder = offers.get(offers.holder(item.exposed())?)?;
        Some(Diagnostic {
            resource: Entry::Server(item.server().clone()).resource(),
            reason: Reason::NameConflict,
            message: format!(
                "{listed} {} is hidden: the name {} is held by {listed} {} of McpServer {}; set \
                 another tools.prefix",
                item.name(),
                item.exposed(),
                holder.name(),
                holder.server().name,
            ),
        })
    };
    losers.into_iter().filter_map(conflict).collect()
}
