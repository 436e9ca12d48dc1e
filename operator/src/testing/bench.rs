//! A replica without its controllers: it watches an apiserver in memory, and a test has it
//! reconcile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crds::{McpApiKey, McpPolicy, McpServer};
use futures_util::StreamExt;
use gateway_core::Record;
use gateway_core::report::{Line, Watermark};
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::events::{Recorder, Reporter};
use serde_json::Value;
use tokio::task::{JoinSet, yield_now};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Api;
use super::resources::{ENTRIES, KEYS, POLICIES, SERVERS};
use crate::context::{Context, Failures, Settings};
use crate::control::Action;
use crate::entries::Entries;
use crate::gateways::stream::Followers;
use crate::gateways::{Bells, Gateways};
use crate::keyring::Keyring;
use crate::lease::Leadership;
use crate::objects::{Error, FIELD_MANAGER};
use crate::server::catalogs::Catalogs;
use crate::sweep::Departed;
use crate::telemetry::Telemetry;
use crate::world::{Listeners, Where, World};
use crate::{key, policy, server};

/// A replica, in term 1.
pub(crate) struct Bench {
    pub(crate) api: Api,
    pub(crate) ctx: Arc<Context>,
    pub(crate) departed: Arc<Departed>,
    _watches: JoinSet<()>,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::over(Api::default()).await
    }

    /// Looks at what is there already.
    pub(crate) async fn over(api: Api) -> Self {
        Self::with(api, None).await
    }

    /// Looks at some namespaces only.
    pub(crate) async fn watching(api: Api, namespaces: &[&str]) -> Self {
        Self::with(api, Some(namespaces.iter().map(|one| (*one).to_owned()).collect())).await
    }

    async fn with(api: Api, watch_namespaces: Option<BTreeSet<String>>) -> Self {
        let client = api.client();
        let telemetry = Telemetry::new();
        let leadership = Arc::new(Leadership::default());
        leadership.hold(1);
        let bells = Arc::new(Bells::default());
        let gateways = Arc::new(Gateways::new(bells.clone()));
        let entries = Arc::new(Entries::new(
            client.clone(),
            "entries",
            leadership.clone(),
            telemetry.clone(),
        ));
        let catalogs = Arc::new(Catalogs::new(client.clone(), "entries", leadership.clone()));
        let (departed, failures) = (Arc::new(Departed::default()), Arc::new(Failures::default()));
        let listeners = Listeners {
            bells: bells.clone(),
            departed: departed.clone(),
            entries: entries.clone(),
            catalogs: catalogs.clone(),
            gateways: gateways.clone(),
            failures: failures.clone(),
        };
        let settings = Settings {
            namespace: "fairway".to_owned(),
            watch_namespaces,
            gateway_labels: vec![("component".to_owned(), "gateway".to_owned())],
            lease: "fairway-operator".to_owned(),
            public_url: "https://mcp.example.com".to_owned(),
        };
        let places = Where {
            own: "fairway",
            entries: "entries",
            resources: settings.watch_namespaces.as_ref(),
            gateway_labels: &settings.gateway_labels,
        };
        let keyring = Keyring::any();
        let followers = Followers::new(gateways.clone(), keyring.clone(), CancellationToken::new());
        let (world, watches) = World::watch(&client, &places, &listeners, followers, &telemetry);
        let mut tasks = JoinSet::new();
        watches.others.into_iter().for_each(|other| drop(tasks.spawn(other)));
        tasks.spawn(watches.servers.for_each(|_| std::future::ready(())));
        tasks.spawn(watches.keys.for_each(|_| std::future::ready(())));
        tasks.spawn(watches.policies.for_each(|_| std::future::ready(())));
        watches.listed.await;
        let reporter = Reporter { controller: FIELD_MANAGER.to_owned(), instance: None };
        let ctx = Arc::new(Context {
            recorder: Recorder::new(client.clone(), reporter),
            settings,
            client,
            world,
            entries,
            catalogs,
            gateways,
            bells,
            leadership,
            keyring,
            telemetry,
            failures,
        });
        let bench = Self { api, ctx, departed, _watches: tasks };
        bench.settle().await;
        bench.api.calls();
        bench
    }

    /// Until everything that happened is taken in.
    pub(crate) async fn settle(&self) {
        // So many turns are enough for anything that can be done without a clock.
        for _ in 0..10_000 {
            yield_now().await;
            if self.api.watches() >= self.expected() && self.api.is_taken_in() {
                return;
            }
        }
        panic!("what happened is not taken in");
    }

    /// Watches: nine kinds in each namespace, pods of gateways and entries.
    fn expected(&self) -> usize {
        9 * self.ctx.settings.watch_namespaces.as_ref().map_or(1, BTreeSet::len) + 2
    }

    /// Puts an object there, and waits until it is seen.
    pub(crate) async fn put(&self, object: Value) -> Value {
        let object = self.api.put(object);
        self.settle().await;
        object
    }

    /// Has a server of the team looked at.
    pub(crate) async fn server(&self, name: &str) -> Result<Action, Error> {
        self.look(async || {
            let server: McpServer = self.api.get(&format!("{SERVERS}/{name}"));
            server::reconcile(&server, &self.ctx).await
        })
        .await
    }

    /// Has a key of the team looked at.
    pub(crate) async fn key(&self, name: &str) -> Result<Action, Error> {
        self.look(async || {
            let key: McpApiKey = self.api.get(&format!("{KEYS}/{name}"));
            key::reconcile(&key, &self.ctx).await
        })
        .await
    }

    /// Has a policy of the team looked at.
    pub(crate) async fn policy(&self, name: &str) -> Result<Action, Error> {
        self.look(async || {
            let policy: McpPolicy = self.api.get(&format!("{POLICIES}/{name}"));
            policy::reconcile(&policy, &self.ctx).await
        })
        .await
    }

    /// Looks again as long as that is asked for in a moment, as a controller does.
    async fn look(
        &self,
        reconcile: impl AsyncFn() -> Result<Action, Error>,
    ) -> Result<Action, Error> {
        loop {
            self.settle().await;
            let done = reconcile().await;
            self.settle().await;
            match done.as_ref().ok().and_then(soon) {
                Some(wait) => sleep(wait).await,
                None => return done,
            }
        }
    }

    /// One gateway, ready, that knows everything written so far and later.
    pub(crate) fn gateway(&self, pod: &str) {
        self.ctx.gateways.set_pod(pod, pod, true);
        let watermark = Watermark { resource_version: u64::MAX, complete: true };
        self.ctx.gateways.take(pod, Line::Table(watermark));
    }

    /// The entry of a resource of the team, such as `key.team.alice`.
    pub(crate) fn record(&self, name: &str) -> Option<Record> {
        let secret = self.api.find(&format!("{ENTRIES}/{name}"))?;
        let secret: Secret = serde_json::from_value(secret).unwrap();
        Some(Record::parse(&secret.data.unwrap()["entry"].0).unwrap())
    }

    /// The condition of an object: status, reason and message.
    pub(crate) fn condition(&self, path: &str, type_: &str) -> (String, String, String) {
        let object = self.api.find(path).unwrap();
        let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let found = all.iter().find(|condition| condition["type"] == type_);
        let found = found.unwrap_or_else(|| panic!("no condition {type_} in {all:?}"));
        let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"), text("message"))
    }
}

/// The time after which something is looked at again, if that is a moment.
fn soon(action: &Action) -> Option<Duration> {
    action.after.filter(|after| *after <= Duration::from_millis(100))
}
