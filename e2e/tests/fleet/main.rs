//! Two gateways behind the Ingress: what open sessions notice when gateways are replaced, added, taken away, killed or
//! halted. Prints a table of lost sessions and failed calls for each kind of client and event.
//!
//!     FAIRWAY_FLEET=team cargo test -p e2e --test fleet -- --nocapture     # 100 sessions of each kind wait, 10 call

mod events;
mod flight;
mod groups;
mod strangers;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::atomic::{AtomicUsize, Ordering},
};

use anyhow::Result;
use e2e::cluster::{Program, Release, Tenant, release::RETRIES};
use serde_json::json;

use events::{COSTLY, Event, PLANNED, Toll, UNPLANNED};
use flight::{Airport, Told};
use groups::{Group, KINDS, is_team};

/// Who may use everything.
const USER: &str = "fleet";

#[tokio::test]
async fn sessions_outlive_their_gateways() {
    let release = Release::alone().await.unwrap();
    if !release.cluster().is_own() {
        return;
    }
    release.upgrade(&["gateway.replicas=2", RETRIES]).await.unwrap();
    let tenant = release.tenant("fleet").await.unwrap();
    let key = people(&release, &tenant).await.unwrap();
    let mut groups = Vec::new();
    for kind in &KINDS {
        groups.push(Group::open(kind, &release, &key).await.unwrap());
    }
    let airport = Airport::build(&release, &tenant, &key).await.unwrap();
    let scene = Scene { release, tenant, key, airport, changes: AtomicUsize::new(0) };
    let mut tolls: BTreeMap<&str, Vec<Toll>> = BTreeMap::new();
    let mut flights = Vec::new();

    for event in events() {
        let (cost, told) = event.survive(&scene, &mut groups).await.unwrap();
        for (group, toll) in cost {
            tolls.entry(group).or_default().push(toll);
        }
        flights.push(told);
        eprintln!("{}{}", table(&tolls), flown(&flights));
    }

    // What clients wrote would hide it.
    drop((groups, scene));
    let of_kinds = KINDS.iter().flat_map(|kind| {
        events().zip(&tolls[kind.name]).filter_map(|(event, toll)| event.judge(kind, toll).err())
    });
    let under_way =
        events().zip(&flights).filter_map(|(event, told)| event.judge_flight(told).err());
    let wrong: Vec<String> = of_kinds.chain(under_way).map(|wrong| format!("{wrong:#}")).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Everything but the clients.
#[derive(Debug)]
struct Scene {
    release: Release,
    tenant: Tenant,
    key: String,
    airport: Airport,
    /// How often something changed.
    changes: AtomicUsize,
}

impl Scene {
    /// Changes what everybody's list has.
    async fn change(&self) -> Result<()> {
        let number = self.changes.fetch_add(1, Ordering::Relaxed);
        let tools = json!({"prefix": format!("news{number}_")});
        let spec = json!({"service": {"name": "mcp-tools"}, "tools": tools});
        self.tenant.apply("McpServer", "news", spec).await
    }
}

/// What happens; `FAIRWAY_FLEET_EVENTS=NAME,…` is for those who look into some of it.
fn events() -> impl Iterator<Item = Event> {
    let chosen = std::env::var("FAIRWAY_FLEET_EVENTS").ok();
    let all = is_team() || chosen.is_some();
    let costly = COSTLY.into_iter().filter(move |_| all);
    PLANNED.into_iter().chain(UNPLANNED).chain(costly).filter(move |event| {
        chosen.as_ref().is_none_or(|chosen| chosen.split(',').any(|name| name == event.name()))
    })
}

/// A server that all clients share, one at which each has a connection of its own, and a key for them.
async fn people(release: &Release, tenant: &Tenant) -> Result<String> {
    let image = release.image(Program::Everything)?;
    tenant.run("tools", image, json!({})).await?;
    tenant.run("held", image, json!({"session": "PerClient"})).await?;
    tenant.allow(USER, USER, &["*"]).await?;
    for server in ["tools", "held"] {
        tenant.ready("mcpserver", server).await?;
    }
    tenant.key(USER, json!({"user": USER})).await
}

/// What was under way and did not come to its end.
fn flown(flights: &[Told]) -> String {
    let names: std::collections::BTreeSet<_> = flights.iter().flat_map(BTreeMap::keys).collect();
    let mut text = String::new();
    for name in names {
        let cells = flights.iter().map(|told| match told.get(name) {
            Some(None) => "ended well",
            Some(Some(_)) => "failed",
            None => "–",
        });
        let _ = writeln!(text, "| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    text
}

fn table(tolls: &BTreeMap<&str, Vec<Toll>>) -> String {
    let names: Vec<&str> = events().map(|event| event.name()).collect();
    let mut text =
        format!("| client | {} |\n|---|{}\n", names.join(" | "), "---|".repeat(names.len()));
    for (group, tolls) in tolls {
        let cells: Vec<String> = tolls.iter().map(Toll::to_string).collect();
        let _ = writeln!(text, "| {group} | {} |", cells.join(" | "));
    }
    text
}
