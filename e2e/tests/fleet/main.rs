//! Two gateways behind the Ingress: what open sessions notice when gateways are replaced, added, taken away, killed or
//! halted. Prints a table of lost sessions and failed calls for each kind of client and event.
//!
//!     FAIRWAY_FLEET=team cargo test -p e2e --test fleet -- --nocapture     # 100 sessions of each kind wait, 10 call

mod events;
mod groups;

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::Result;
use e2e::cluster::{Program, Release, Tenant};
use serde_json::json;

use events::{Event, PLANNED, Toll, UNPLANNED};
use groups::{Group, KINDS};

/// Who may use everything.
const USER: &str = "fleet";

#[tokio::test]
async fn sessions_outlive_their_gateways() {
    let release = Release::alone().await.unwrap();
    if !release.cluster().is_own() {
        return;
    }
    release.upgrade(&["gateway.replicas=2"]).await.unwrap();
    let tenant = release.tenant("fleet").await.unwrap();
    let key = people(&release, &tenant).await.unwrap();
    let mut groups = Vec::new();
    for kind in &KINDS {
        groups.push(Group::open(kind, &release, &key).await.unwrap());
    }
    let mut tolls: BTreeMap<&str, Vec<Toll>> = BTreeMap::new();

    for event in events() {
        if Some(&event) == UNPLANNED.first() {
            news_reach_everybody(&release, &tenant, &groups).await.unwrap();
        }
        for (group, toll) in event.survive(&release, &mut groups, &key).await.unwrap() {
            tolls.entry(group).or_default().push(toll);
        }
        eprintln!("{}", table(&tolls));
    }

    for kind in &KINDS {
        for (event, toll) in events().zip(&tolls[kind.name]) {
            event.judge(kind, toll);
        }
    }
}

fn events() -> impl Iterator<Item = Event> {
    PLANNED.into_iter().chain(UNPLANNED)
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

/// Streams are still there, or nobody would hear of a new server. SDKs give one up that is refused twice, as it is
/// while no gateway is there at all.
async fn news_reach_everybody(release: &Release, tenant: &Tenant, groups: &[Group]) -> Result<()> {
    let before: Vec<_> = groups.iter().map(|group| group.idle.list_changes()).collect();
    tenant.run("late", release.image(Program::Everything)?, json!({})).await?;
    tenant.ready("mcpserver", "late").await?;
    for (group, before) in groups.iter().zip(&before) {
        if group.kind.stays {
            group.idle.wait_list_changed(before).await?;
        }
    }
    Ok(())
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
