//! What happens to gateways, and what it cost.

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::Result;
use e2e::cluster::{
    Component, Release,
    release::{HOME, RELEASE, until},
};
use futures_util::future::join_all;

use super::groups::{Group, Kind, Traffic};

/// Longer than anything takes on a machine that others use too.
const MINUTES: Duration = Duration::from_secs(180);
/// How long a gateway stands still.
const HALT: Duration = Duration::from_secs(20);
/// Calls of each kind of client that show that it goes on.
const ENOUGH: usize = 40;

/// Something that happens to gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    RollingUpdate,
    ScaledTo(u32),
    Drained,
    Killed,
    Halted,
    AllKilled,
    IngressRestarted,
}

/// Nothing may be lost by these: somebody has planned them.
pub(crate) const PLANNED: [Event; 5] = [
    Event::RollingUpdate,
    Event::ScaledTo(4),
    Event::ScaledTo(1),
    Event::ScaledTo(2),
    Event::Drained,
];

pub(crate) const UNPLANNED: [Event; 4] =
    [Event::Killed, Event::Halted, Event::AllKilled, Event::IngressRestarted];

/// What an event cost clients of one kind.
#[derive(Debug)]
pub(crate) struct Toll {
    sessions: usize,
    /// How many of them were calling.
    calling: usize,
    lost: Vec<String>,
    answered: usize,
    failed: Vec<String>,
}

impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = self.answered + self.failed.len();
        write!(f, "{}/{}, {}/{calls}", self.lost.len(), self.sessions, self.failed.len())
    }
}

impl Event {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::RollingUpdate => "rolling update",
            Self::ScaledTo(4) => "2 → 4",
            Self::ScaledTo(1) => "4 → 1",
            Self::ScaledTo(_) => "1 → 2",
            Self::Drained => "drained",
            Self::Killed => "killed",
            Self::Halted => "halted 20 s",
            Self::AllKilled => "both killed",
            Self::IngressRestarted => "Ingress restarted",
        }
    }

    /// Happens while sessions wait and call. Sessions that are lost are begun anew.
    pub(crate) async fn survive(
        self,
        release: &Release,
        groups: &mut [Group],
        key: &str,
    ) -> Result<Vec<(&'static str, Toll)>> {
        let traffic: Vec<Traffic> = groups.iter().map(Group::traffic).collect();
        goes_on(groups, &traffic).await?;
        self.happen(release).await?;
        release.wait_rolled_out().await?;
        goes_on(groups, &traffic).await?;
        let calls = join_all(traffic.into_iter().map(Traffic::stop)).await;
        let mut tolls = Vec::new();
        for (group, (answered, failed)) in groups.iter_mut().zip(calls) {
            let lost = group.lost().await;
            let calling = group.calling.count();
            let sessions = group.idle.count() + calling;
            for (what, reasons) in [("lost", &lost), ("failed", &failed)] {
                for (reason, count) in counted(reasons) {
                    eprintln!("{}, {}: {what} {count}: {reason}", self.name(), group.kind.name);
                }
            }
            if !lost.is_empty() {
                *group = Group::open(group.kind, release, key).await?;
            }
            tolls.push((group.kind.name, Toll { sessions, calling, lost, answered, failed }));
        }
        Ok(tolls)
    }

    async fn happen(self, release: &Release) -> Result<()> {
        let fault = release.cluster().fault()?;
        match self {
            Self::RollingUpdate => {
                let before = gateways(release).await?;
                kubectl(release, &["rollout", "restart", &deployment()]).await?;
                release.wait_rolled_out().await?;
                gone(release, &before).await
            }
            Self::ScaledTo(replicas) => {
                let replicas = format!("--replicas={replicas}");
                let before = gateways(release).await?;
                kubectl(release, &["scale", &deployment(), &replicas]).await?;
                release.wait_rolled_out().await?;
                let fewer = || async {
                    let now = gateways(release).await?;
                    Ok(now.len() > before.len() || replicas == format!("--replicas={}", now.len()))
                };
                until("the pods that are too many to go", MINUTES, fewer).await
            }
            Self::Drained => {
                let pods = gateways(release).await?;
                kubectl(release, &["delete", "pod", &pods[0]]).await
            }
            Self::Killed => fault.kill_pod(HOME, &gateways(release).await?[0]).await,
            Self::Halted => {
                let halted = fault.freeze_pod(HOME, &gateways(release).await?[0]).await?;
                tokio::time::sleep(HALT).await;
                halted.thaw();
                Ok(())
            }
            Self::AllKilled => {
                for pod in gateways(release).await? {
                    fault.kill_pod(HOME, &pod).await?;
                }
                Ok(())
            }
            Self::IngressRestarted => fault.restart(Component::Ingress).await,
        }
    }

    /// Nothing may be lost by what was planned. What was not costs what was under way: while an Ingress controller sends
    /// requests to a pod that is gone it answers with a 502 of its own, which ends the session for SDK 1.30.
    pub(crate) fn judge(self, kind: &Kind, toll: &Toll) {
        let Toll { calling, lost, failed, .. } = toll;
        if !kind.stays {
            return;
        }
        let (name, kind) = (self.name(), kind.name);
        if PLANNED.contains(&self) {
            assert!(lost.is_empty(), "{name}, {kind}: {lost:#?}");
            assert!(failed.is_empty(), "{name}, {kind}: {failed:#?}");
        }
        let by_ingress =
            |reason: &String| ["502", "503", "504"].iter().any(|status| reason.contains(status));
        assert!(lost.iter().all(by_ingress), "{name}, {kind}: {lost:#?}");
        assert!(lost.len() <= *calling, "{name}, {kind}: who waited lost its session: {lost:#?}");
    }
}

/// Every kind of client gets answers, of which a session is left.
async fn goes_on(groups: &[Group], traffic: &[Traffic]) -> Result<()> {
    let before: Vec<usize> = traffic.iter().map(Traffic::answered).collect();
    let on = || async {
        let going = |at: usize| {
            let may_end = !groups[at].kind.stays || groups[at].is_over();
            may_end || traffic[at].answered() - before[at] >= ENOUGH
        };
        Ok((0..groups.len()).all(going))
    };
    until("calls to go on", MINUTES, on).await
}

/// Reasons, and how often each was given.
fn counted(reasons: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for reason in reasons {
        // What follows is what the client's process printed.
        *counts.entry(reason.lines().next().unwrap_or_default()).or_default() += 1;
    }
    counts
}

fn deployment() -> String {
    format!("deployment/{RELEASE}-gateway")
}

async fn kubectl(release: &Release, arguments: &[&str]) -> Result<()> {
    let arguments = [&["--namespace", HOME], arguments].concat();
    release.cluster().kubectl_for(&arguments, MINUTES).await.map(drop)
}

/// The names of the pods of gateways.
async fn gateways(release: &Release) -> Result<Vec<String>> {
    let of = "--selector=app.kubernetes.io/component=gateway";
    let arguments =
        ["--namespace", HOME, "get", "pods", of, "--output=jsonpath={.items[*].metadata.name}"];
    let names = release.cluster().kubectl(&arguments).await?;
    Ok(names.split_whitespace().map(str::to_owned).collect())
}

async fn gone(release: &Release, pods: &[String]) -> Result<()> {
    let gone = || async { Ok(gateways(release).await?.iter().all(|pod| !pods.contains(pod))) };
    until("the pods of before to go", MINUTES, gone).await
}
