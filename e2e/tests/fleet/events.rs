//! What happens to gateways, and what it cost.

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::{Result, ensure};
use e2e::{
    Span,
    cluster::{
        Component, Others, Release,
        release::{HOME, RELEASE, until},
    },
};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::{
    Scene,
    flight::{Flight, Told},
    groups::{Failed, Group, Kind, Traffic, is_team},
};

/// Longer than anything takes on a machine that others use too.
const MINUTES: Duration = Duration::from_secs(180);
/// How long a gateway stands still.
const HALT: Duration = Duration::from_secs(20);
/// The port that gateways have for each other.
const PEERS: u16 = 9091;
/// The node that can be added.
const SECOND: &str = "fairway-node-2";
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
    OutOfMemory,
    CutFromPeers,
    CutFromApiserver,
    NodeLost,
}

/// Nothing may be lost by these: somebody has planned them.
pub(crate) const PLANNED: [Event; 5] = [
    Event::RollingUpdate,
    Event::ScaledTo(4),
    Event::ScaledTo(1),
    Event::ScaledTo(2),
    Event::Drained,
];

pub(crate) const UNPLANNED: [Event; 5] =
    [Event::Killed, Event::Halted, Event::AllKilled, Event::IngressRestarted, Event::OutOfMemory];

/// These take a minute or two, and a team to notice.
pub(crate) const COSTLY: [Event; 3] =
    [Event::CutFromPeers, Event::CutFromApiserver, Event::NodeLost];

/// What an event cost clients of one kind.
#[derive(Debug)]
pub(crate) struct Toll {
    sessions: usize,
    /// How many of them were calling.
    calling: usize,
    lost: Vec<String>,
    /// How many of those that waited do not hear of changes any more.
    deaf: usize,
    answered: usize,
    failed: Vec<Failed>,
    /// When it is that calls were under way which may have failed over it.
    excuse: Option<Span>,
}

impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = self.answered + self.failed.len();
        write!(f, "{}/{}, {}/{calls}", self.lost.len(), self.sessions, self.failed.len())?;
        if self.deaf > 0 { write!(f, ", {} deaf", self.deaf) } else { Ok(()) }
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
            Self::OutOfMemory => "out of memory",
            Self::CutFromPeers => "cut from its peers",
            Self::CutFromApiserver => "cut from the apiserver",
            Self::NodeLost => "node lost",
        }
    }

    /// Whether questions, long calls and conversations are under way: where the event is as long as they are, or wherever
    /// there is time.
    fn has_flight(self) -> bool {
        let long = [Self::RollingUpdate, Self::Drained, Self::Killed, Self::Halted];
        is_team() || long.contains(&self)
    }

    /// Happens while sessions wait and call. Groups that lost sessions, or lose their streams the next time, are begun anew.
    pub(crate) async fn survive(
        self,
        scene: &Scene,
        groups: &mut [Group],
    ) -> Result<(Vec<(&'static str, Toll)>, Told)> {
        let release = &scene.release;
        self.prepare(release).await?;
        let flight =
            if self.has_flight() { scene.airport.depart().await? } else { Flight::default() };
        let traffic: Vec<Traffic> = groups.iter().map(Group::traffic).collect();
        goes_on(groups, &traffic).await?;
        let (happened, ()) = tokio::join!(self.happen(release), flight.go_on());
        let excuse = happened?;
        release.wait_rolled_out().await?;
        goes_on(groups, &traffic).await?;
        let told = flight.arrive().await;
        for (what, why) in told.iter().filter_map(|(what, why)| Some((what, why.as_ref()?))) {
            eprintln!("{}, {what}: {why}", self.name());
        }
        let calls = join_all(traffic.into_iter().map(Traffic::stop)).await;
        let deaf = deaf(scene, groups).await?;
        let mut tolls = Vec::new();
        for ((group, (answered, failed)), deaf) in groups.iter_mut().zip(calls).zip(deaf) {
            let lost = group.lost().await;
            let calling = group.calling.count();
            let sessions = group.idle.count() + calling;
            let unanswered = failed.iter().map(|failed| &*failed.reason).collect();
            for (what, reasons) in
                [("lost", lost.iter().map(String::as_str).collect()), ("failed", unanswered)]
            {
                for (reason, count) in counted(reasons) {
                    eprintln!("{}, {}: {what} {count}: {reason}", self.name(), group.kind.name);
                }
            }
            let gives_up = group.kind.gives_up_streams && !PLANNED.contains(&self);
            if deaf > 0 || !lost.is_empty() || gives_up {
                *group = Group::open(group.kind, release, &scene.key).await?;
            }
            let toll = Toll { sessions, calling, lost, deaf, answered, failed, excuse };
            tolls.push((group.kind.name, toll));
        }
        Ok((tolls, told))
    }

    /// What has to be so before it can happen, and costs nobody anything.
    async fn prepare(self, release: &Release) -> Result<()> {
        if self == Self::NodeLost {
            release.cluster().fault()?.add_node().await?;
            kubectl(release, &["rollout", "restart", &deployment()]).await?;
            release.wait_rolled_out().await?;
            let there = || async { Ok(on_second_node(release).await?.len() == 1) };
            until("a gateway on the second node", MINUTES, there).await?;
        }
        Ok(())
    }

    /// Tells when it was that calls could fail over it, if they may.
    async fn happen(self, release: &Release) -> Result<Option<Span>> {
        let fault = release.cluster().fault()?;
        let began = Instant::now();
        match self {
            Self::RollingUpdate => {
                let before = gateways(release).await?;
                kubectl(release, &["rollout", "restart", &deployment()]).await?;
                release.wait_rolled_out().await?;
                gone(release, &before).await?;
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
                until("the pods that are too many to go", MINUTES, fewer).await?;
            }
            Self::Drained => {
                let pods = gateways(release).await?;
                kubectl(release, &["delete", "pod", &pods[0]]).await?;
            }
            Self::Killed => {
                return fault.kill_pod(HOME, &gateways(release).await?[0]).await.map(Some);
            }
            Self::Halted => {
                let halted = fault.freeze_pod(HOME, &gateways(release).await?[0]).await?;
                tokio::time::sleep(HALT).await;
                halted.thaw();
            }
            Self::AllKilled => {
                for pod in gateways(release).await? {
                    fault.kill_pod(HOME, &pod).await?;
                }
                release.wait_rolled_out().await?;
                return Ok(Some(Span::since(began)));
            }
            Self::IngressRestarted => {
                fault.restart(Component::Ingress).await?;
                release.wait_rolled_out().await?;
                return Ok(Some(Span::since(began)));
            }
            Self::OutOfMemory => {
                return fault.starve_pod(HOME, &gateways(release).await?[0]).await.map(Some);
            }
            Self::CutFromPeers | Self::CutFromApiserver => {
                let others = match self {
                    Self::CutFromPeers => Others::AtPort(PEERS),
                    _ => Others::Apiserver,
                };
                let cut = fault.cut_pod(HOME, &gateways(release).await?[0], others).await?;
                tokio::time::sleep(HALT).await;
                cut.mend();
            }
            Self::NodeLost => {
                fault.lose_node().await?;
                let path = r#"--output=jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
                let node = ["get", "node", SECOND, path];
                let noticed = || async { Ok(release.cluster().kubectl(&node).await? == "Unknown") };
                until("the loss of the node to be noticed", MINUTES, noticed).await?;
                fault.remove_node().await?;
                return Ok(Some(Span::since(began)));
            }
        }
        Ok(None)
    }

    /// How many calls of a session may fail. Each makes one at a time, so where a gateway is gone from one moment to the
    /// next it is the one that was under way there. What other trouble costs is told and not bounded.
    fn most_failed(self) -> Option<usize> {
        match self {
            Self::Killed => Some(1),
            planned if PLANNED.contains(&planned) => Some(0),
            _ => None,
        }
    }

    /// Nobody loses a session, but for the SDK that ends its own when a call breaks off. What was planned costs nothing else
    /// either; what was not costs the calls that were under way.
    pub(crate) fn judge(self, kind: &Kind, toll: &Toll) -> Result<()> {
        if !kind.stays {
            return Ok(());
        }
        let Toll { calling, lost, deaf, failed, excuse, .. } = toll;
        let of = format!("{}, {}", self.name(), kind.name);
        ensure!(lost.is_empty() || kind.ends_at_502, "{of}: lost {lost:#?}");
        let Some(most) = self.most_failed().map(|most| most.saturating_mul(*calling)) else {
            return Ok(());
        };
        let mut failed: Vec<&Failed> = failed.iter().collect();
        if kind.ends_at_502 {
            // Once its session is over nothing else can come of its calls.
            failed.dedup_by_key(|failed| failed.session);
            ensure!(lost.len() <= failed.len(), "{of}: who waited lost its session: {lost:#?}");
        }
        ensure!(*deaf == 0, "{of}: {deaf} do not hear of changes");
        ensure!(failed.len() <= most, "{of}: more than {most} calls failed: {failed:#?}");
        failed.retain(|failed| !excuse.is_some_and(|excuse| excuse.meets(&failed.when)));
        ensure!(failed.is_empty(), "{of}: these were not under way: {failed:#?}");
        Ok(())
    }

    /// What was planned lets everything under way come to its end, and what is one gateway's trouble lets a conversation go
    /// on whose model thinks meanwhile.
    pub(crate) fn judge_flight(self, told: &Told) -> Result<()> {
        let planned = PLANNED.contains(&self);
        let one = matches!(self, Self::Killed | Self::Halted);
        let bound = |what: &str| planned || (one && what.starts_with("Claude"));
        let failed: Vec<_> =
            told.iter().filter(|(what, why)| bound(what) && why.is_some()).collect();
        ensure!(failed.is_empty(), "{}: {failed:#?}", self.name());
        Ok(())
    }
}

/// How many of each group do not hear that something changes.
async fn deaf(scene: &Scene, groups: &[Group]) -> Result<Vec<usize>> {
    let before: Vec<_> = groups.iter().map(|group| group.idle.list_changes()).collect();
    scene.change().await?;
    let deaf = groups
        .iter()
        .zip(&before)
        .map(async |(group, before)| if group.kind.stays { group.deaf(before).await } else { 0 });
    Ok(join_all(deaf).await)
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
fn counted(reasons: Vec<&str>) -> BTreeMap<&str, usize> {
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

/// Those of them that run on the node that was added.
async fn on_second_node(release: &Release) -> Result<Vec<String>> {
    let of = "--selector=app.kubernetes.io/component=gateway";
    let there = format!("--field-selector=spec.nodeName={SECOND},status.phase=Running");
    let arguments = ["--namespace", HOME, "get", "pods", of, &there, "--output=name"];
    let names = release.cluster().kubectl(&arguments).await?;
    Ok(names.split_whitespace().map(str::to_owned).collect())
}

async fn gone(release: &Release, pods: &[String]) -> Result<()> {
    let gone = || async { Ok(gateways(release).await?.iter().all(|pod| !pods.contains(pod))) };
    until("the pods of before to go", MINUTES, gone).await
}
