//! How long a change takes among many entries.
//!
//! For figures run these with `--nocapture`, with GATEWAY_BINARY for a program that was built to be
//! fast, and with FAIRWAY_SCALE for another number of entries.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use http::StatusCode;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::apiserver::ENTRIES;
use crate::support::client::request;
use crate::support::cluster::{ClusterStage, key, server_with, uid};
use crate::support::eventually;
use crate::support::fixture::{Fixture, tool};
use crate::support::stage::ALICE;

/// So many servers, each with a stored list of five tools, and as many keys.
async fn many(count: usize, fixture: &Fixture) -> ClusterStage {
    let stage = ClusterStage::empty().await;
    let tools: Vec<_> = (0..5).map(|number| tool(&format!("tool-{number}"))).collect();
    let prefix = |name: &str| format!("tools: {{prefix: {name}_}}");
    for number in 0..count {
        let name = format!("server-{number}");
        stage.put(&server_with(&name, &fixture.url(), &prefix(&name)));
        stage.store(&name, &uid(&name), &json!(tools));
        let name = format!("key-number-{number}");
        stage.put(&key(&name, &name));
    }
    stage.put(&key("alice", ALICE));
    fixture.offer_definitions(tools);
    stage
}

#[derive(Debug)]
struct Figures {
    cold: Duration,
    settled: Duration,
    key: [Duration; 2],
    server: [Duration; 2],
}

fn median_and_worst(mut times: Vec<Duration>) -> [Duration; 2] {
    times.sort_unstable();
    [times[times.len() / 2], times[times.len() - 1]]
}

/// Opens a gateway in this process, or runs the program that is given.
async fn open(stage: &mut ClusterStage) -> Option<tokio::process::Child> {
    let Some(binary) = std::env::var_os("GATEWAY_BINARY") else {
        stage.open().await;
        return None;
    };
    let [address, admin] = [free_address(), free_address()];
    let options = stage.options();
    let program = tokio::process::Command::new(binary)
        .args(["--source", "cluster", "--entries-namespace", ENTRIES, "--kubeconfig"])
        .arg(stage.file("kubeconfig"))
        .arg("--state")
        .arg(options.state)
        .args(["--listen", &address.to_string(), "--admin-listen", &admin.to_string()])
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    stage.attach(address, admin);
    eventually("the program", || async { TcpStream::connect(address).await.ok() }).await;
    Some(program)
}

fn free_address() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn measure(count: usize) -> Figures {
    let fixture = Fixture::start().await;
    let mut stage = many(count, &fixture).await;
    let began = Instant::now();
    let _program = open(&mut stage).await;
    let list = eventually("a list", || async {
        let list = stage.alice().post("/mcp", request(1, "tools/list", json!({}))).await;
        (list.status == StatusCode::OK).then_some(list)
    })
    .await;
    let cold = began.elapsed();
    assert!(list.text().contains("tool-4"), "{list:?}");
    eventually("all servers", || async {
        let ready = stage.readyz().await;
        let servers = ready["servers"].as_array().unwrap();
        servers.iter().all(|server| server["state"] == "connected").then_some(())
    })
    .await;
    let settled = began.elapsed();

    let mut report = stage.report().await;
    report.reaches(1).await;
    let (mut keys, mut servers) = (Vec::new(), Vec::new());
    for number in 0..50 {
        let record = key("alice", &format!("another-key-{number}"));
        let began = Instant::now();
        let version = stage.put(&record);
        report.reaches(version).await;
        keys.push(began.elapsed());
        let name = format!("server-{number}");
        let record = server_with(&name, &fixture.url(), &format!("tools: {{prefix: p{number}_}}"));
        let began = Instant::now();
        let version = stage.put(&record);
        report.reaches(version).await;
        servers.push(began.elapsed());
    }
    Figures { cold, settled, key: median_and_worst(keys), server: median_and_worst(servers) }
}

#[tokio::test]
async fn a_change_among_many_takes_milliseconds() {
    let count = std::env::var("FAIRWAY_SCALE").map_or(200, |count| count.parse().unwrap());
    let Figures { cold, settled, key, server } = measure(count).await;

    println!(
        "{count} servers and keys: first answer after {cold:.1?}, all connected after \
         {settled:.1?}; a key {key:.1?}, a server {server:.1?} (median, worst)"
    );
    // Far more than it takes, on a machine that does other things as well.
    for [median, _] in [key, server] {
        assert!(median < Duration::from_millis(100), "{median:?}");
    }
}

#[tokio::test]
async fn thousands_of_servers_do_not_shake_hands_at_once() {
    let (slow, quick) = (Fixture::start().await, Fixture::start().await);
    let gate = slow.hold("initialize");
    let mut stage = ClusterStage::empty().await;
    for number in 0..300 {
        stage.put(&server_with(&format!("slow-{number}"), &slow.url(), ""));
    }
    stage.open().await;

    assert!(slow.sees("initialize", 48).await.len() <= 64);
    // Who takes long gives its place up: a server that comes later gets its turn.
    stage.put(&server_with("late", &quick.url(), ""));
    quick.sees("initialize", 1).await;
    gate.cancel();
}
