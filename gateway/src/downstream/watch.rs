//! `resources/subscribe` and `resources/unsubscribe` of the legacy era.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use mcp::error::{INVALID_REQUEST, OVERLOADED};
use mcp::members::members;
use mcp::tool::text;

use super::Downstream;
use super::dispatch::{Asked, Asker, refuse, result};
use super::route::{self, Routed};
use crate::table::id_of;
use crate::upstream::{ClientKey, Ear, Subject, Upstream, Watched};
use crate::worker::Local;

/// What comes of it.
pub(super) enum Subscribing<'a> {
    /// The gateway hears the server for all its clients.
    Done(Bytes),
    /// The client has a leg of its own: its server is told by itself.
    Passed(Routed<'a>),
}

pub(super) fn subscribe<'a>(
    asked: &Asked<'_>,
    asker: &Asker<'a>,
    app: &Downstream,
) -> Subscribing<'a> {
    let routed = match route::resource(asked, asker) {
        Ok(routed) => routed,
        Err(refusal) => return Subscribing::Done(refusal),
    };
    let Some(session) = asker.client.session() else {
        let message = "a subscription belongs to a session; POST initialize first";
        return Subscribing::Done(refuse(asked.id, INVALID_REQUEST, message));
    };
    let published = app.commons.table.load();
    let upstream = published.upstream(routed.server());
    let Some(upstream) = upstream.filter(|upstream| !upstream.keeps_each_apart()) else {
        return Subscribing::Passed(routed);
    };
    let home = app.commons.homes.of(session);
    let (Some(own), Some(shown)) = (routed.named(), uri(asked)) else {
        return Subscribing::Passed(routed);
    };
    let subject = Subject::Resource(own.into());
    let watched = Watched::new(Arc::clone(upstream), subject, asker.principal);
    let watch = watched.watch(&shown, Ear::Session(Arc::downgrade(&home)));
    let kept = watch.is_some_and(|watch| home.watch(&shown, watch));
    Subscribing::Done(if kept {
        result(asked.id, "{}")
    } else {
        refuse(asked.id, OVERLOADED, "too many resources are subscribed to; unsubscribe from some")
    })
}

pub(super) fn unsubscribe<'a>(
    asked: &Asked<'_>,
    asker: &Asker<'a>,
    app: &Downstream,
) -> Subscribing<'a> {
    let home = asker.client.session().and_then(|session| app.commons.homes.get(session));
    let watched = home.as_ref().zip(uri(asked)).is_some_and(|(home, uri)| home.unwatch(&uri));
    if watched {
        return Subscribing::Done(result(asked.id, "{}"));
    }
    match route::resource(asked, asker) {
        Ok(routed) => {
            if let Some((home, own)) = home.zip(routed.named()) {
                home.unsubscribe(&id_of(routed.server()), own);
            }
            let published = app.commons.table.load();
            let upstream = published.upstream(routed.server());
            let key = ClientKey::new(asker.principal, &asker.client);
            // Only a server that was told has to be told again.
            let was_told = |upstream: &Local<Upstream>| {
                upstream.leg_of(&key).is_some() || route::elsewhere(upstream, asker, app).is_some()
            };
            if upstream.is_some_and(was_told) {
                Subscribing::Passed(routed)
            } else {
                Subscribing::Done(result(asked.id, "{}"))
            }
        }
        Err(refusal) => Subscribing::Done(refusal),
    }
}

/// Notes what a session subscribed to, or no longer, at the gateway where its leg is: the next one may
/// be opened here.
pub(super) fn note(asked: &Asked<'_>, asker: &Asker<'_>, app: &Downstream) {
    if asked.method == "resources/unsubscribe" {
        unsubscribe(asked, asker, app);
    } else if let Subscribing::Passed(routed) = subscribe(asked, asker, app)
        && let (Some(session), Some(own)) = (asker.client.session(), routed.named())
    {
        app.commons.homes.of(session).subscribe(id_of(routed.server()), own);
    }
}

fn uri<'a>(asked: &Asked<'a>) -> Option<Cow<'a, str>> {
    let [uri] = members(asked.params?, &["uri"]).ok()?;
    text(uri?)
}
