//! Follows a kind: lists and watches it in every namespace that is watched, and keeps a store of it.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::ready;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, Store};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use crate::merge::{Change, Watch, merge};
use crate::telemetry::Telemetry;

/// How long one watch lasts. It is also how soon a connection that died without a word is noticed,
/// with five seconds of kube's own.
const WATCH: u32 = 30;
/// After a failure: the first delay and the longest, so that an operator that leads again after the
/// apiserver was away hears of changes within a second. After that many seconds without one it is the
/// first again.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_LAST: Duration = Duration::from_millis(500);
const CALM: Duration = Duration::from_secs(10);

/// Where objects are looked for.
#[derive(Clone)]
pub(super) struct Scope {
    pub(super) client: Client,
    /// None for all.
    pub(super) namespaces: Option<Arc<[String]>>,
    pub(super) telemetry: Arc<Telemetry>,
}

/// What happened to an object, once the store has it so.
pub(super) enum Touch<'a, K> {
    /// It is new or another than before.
    Seen(&'a K),
    /// It was seen to go.
    Gone(&'a K),
    /// It is not there any more; nobody saw it go.
    Missing(&'a K),
    /// All there are were seen.
    Listed,
}

impl<'a, K> Touch<'a, K> {
    /// What it is about.
    pub(super) fn object(&self) -> Option<&'a K> {
        match self {
            Self::Seen(object) | Self::Gone(object) | Self::Missing(object) => Some(object),
            Self::Listed => None,
        }
    }
}

/// One or more watches of a kind.
type Watches<K> = Vec<Watch<BoxStream<'static, Event<K>>>>;

impl Scope {
    /// In every namespace that is watched.
    pub(super) fn everywhere<K>(&self, config: &watcher::Config) -> Watches<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let of = |namespace: &String| {
            let api = Api::namespaced(self.client.clone(), namespace);
            (Some(namespace.clone()), self.events(api, config.clone()))
        };
        match &self.namespaces {
            Some(namespaces) => namespaces.iter().map(of).collect(),
            None => vec![(None, self.events(Api::all(self.client.clone()), config.clone()))],
        }
    }

    /// In one namespace.
    pub(super) fn within<K>(&self, namespace: &str, config: watcher::Config) -> Watches<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        vec![(None, self.events(Api::namespaced(self.client.clone(), namespace), config))]
    }

    /// Goes on for ever, whatever goes wrong.
    fn events<K>(&self, api: Api<K>, config: watcher::Config) -> BoxStream<'static, Event<K>>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let telemetry = self.telemetry.clone();
        let mut failing = false;
        watcher(api, config.timeout(WATCH))
            .backoff(Retry::default())
            .inspect(move |event| match event {
                // That a list begins says nothing yet.
                Ok(Event::Init) => {}
                Ok(_) => failing = false,
                Err(error) => {
                    let kind = K::kind(&());
                    telemetry.watch_failed(&kind);
                    if !std::mem::replace(&mut failing, true) {
                        let source = std::error::Error::source(error).map(ToString::to_string);
                        let source = source.unwrap_or_default();
                        tracing::warn!(%kind, %error, source, "a watch failed and is tried again");
                    }
                }
            })
            .filter_map(|event| ready(event.ok()))
            .map(|event| {
                event.modify(|object| {
                    // Large, and of no use here.
                    object.managed_fields_mut().clear();
                })
            })
            .boxed()
    }
}

/// Keeps a store of a kind, as long as the changes are polled. The store holds what `slim` leaves of
/// an object; `touch` sees it whole.
pub(super) fn follow<K>(
    watches: Watches<K>,
    slim: fn(&mut K),
    mut touch: impl FnMut(Touch<'_, K>) + Send + 'static,
) -> (Store<K>, impl Stream<Item = Change<K>> + Send)
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    let (store, mut writer) = reflector::store();
    let changes = merge(watches, store.clone()).inspect(move |change| {
        keep(change, slim, &mut writer);
        match change {
            Change::Listed(all) => {
                all.iter().for_each(|object| touch(Touch::Seen(object)));
                touch(Touch::Listed);
            }
            Change::Seen(object) => touch(Touch::Seen(object)),
            Change::Gone(object) => touch(Touch::Gone(object)),
            Change::Missing(object) => touch(Touch::Missing(object)),
        }
    });
    (store, changes)
}

fn keep<K>(change: &Change<K>, slim: fn(&mut K), writer: &mut Writer<K>)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let slim = |object: &K| {
        let mut object = object.clone();
        slim(&mut object);
        object
    };
    match change {
        Change::Listed(all) => {
            writer.apply_watcher_event(&Event::Init);
            all.iter().for_each(|one| writer.apply_watcher_event(&Event::InitApply(slim(one))));
            writer.apply_watcher_event(&Event::InitDone);
        }
        Change::Seen(object) => writer.apply_watcher_event(&Event::Apply(slim(object))),
        Change::Gone(object) | Change::Missing(object) => {
            writer.apply_watcher_event(&Event::Delete(slim(object)));
        }
    }
}

/// Delays that double. A watcher says that it begins before it fails again, so a success is no
/// reason to begin anew: time is.
#[derive(Debug, Default)]
struct Retry {
    last: Option<(Instant, Duration)>,
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let now = Instant::now();
        let delay = match self.last {
            Some((then, delay)) if now.duration_since(then) < CALM => delay * 2,
            _ => RETRY_FIRST,
        };
        let delay = delay.min(RETRY_LAST);
        self.last = Some((now, delay));
        Some(delay)
    }
}

impl Backoff for Retry {
    fn reset(&mut self) {}
}
