//! Gateways that serve each other's sessions.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use gateway::{Gateway, Peers};
use serde_json::Value;

use super::client::{Client, Session};
use super::eventually;
use super::fixture::Fixture;
use super::stage::{ALICE, BOB, Stage, find};

/// Gateways by name, over one directory of manifests and one file of keys.
#[derive(Debug)]
pub struct Fleet {
    pub stage: Stage,
    gateways: BTreeMap<&'static str, Gateway>,
}

impl Fleet {
    /// `a`, and `b` that is told where `a` is; each knows the other.
    pub async fn start(manifests: &[String]) -> Self {
        let mut fleet = Self { stage: Stage::set(manifests), gateways: BTreeMap::new() };
        fleet.join("a").await;
        fleet.join("b").await;
        fleet
    }

    /// The same before a server, once it is connected.
    pub async fn before(server: &Fixture) -> Self {
        let fleet = Self::start(&[server.manifest("server")]).await;
        fleet.server_is_connected("server").await;
        fleet
    }

    /// A session that `a` began, at `a` and at `b`.
    pub async fn session(&self, capabilities: Value) -> (Session, Session) {
        let at_a = Session::open_with(&self.alice("a"), "/mcp", capabilities).await;
        let at_b = at_a.with(|client| client.at(self.address("b")));
        (at_a, at_b)
    }

    /// One more, which is told where the others are; it waits until all know all.
    pub async fn join(&mut self, name: &'static str) {
        let names = self.gateways.values().map(|gateway| peer_address(gateway).to_string());
        let names = names.collect();
        self.join_at(name, names).await;
        for gateway in self.gateways.values() {
            knows(gateway, self.gateways.len() - 1).await;
        }
    }

    /// One more, which is told that others are there.
    pub async fn join_at(&mut self, name: &'static str, names: Vec<String>) {
        self.stage.peers = Some(Peers { listen: "127.0.0.1:0".parse().unwrap(), names });
        let gateway = self.stage.another_gateway("127.0.0.1:0".parse().unwrap()).await;
        self.gateways.insert(name, gateway);
    }

    /// Waits until each has connected to a server.
    pub async fn server_is_connected(&self, server: &str) {
        for gateway in self.gateways.values() {
            let admin = Client::new(gateway.admin_address());
            eventually("a server connected", || async {
                let ready = admin.get("/readyz").await.json();
                (find(&ready, server)["state"] == "connected").then_some(())
            })
            .await;
        }
    }

    pub fn gateway(&self, name: &str) -> &Gateway {
        &self.gateways[name]
    }

    /// One that is about to end.
    pub fn take(&mut self, name: &str) -> Gateway {
        self.gateways.remove(name).unwrap()
    }

    pub fn address(&self, name: &str) -> SocketAddr {
        self.gateway(name).address()
    }

    pub fn client(&self, name: &str) -> Client {
        Client::new(self.address(name))
    }

    pub fn alice(&self, name: &str) -> Client {
        self.client(name).key(ALICE)
    }

    pub fn bob(&self, name: &str) -> Client {
        self.client(name).key(BOB)
    }
}

pub fn peer_address(gateway: &Gateway) -> SocketAddr {
    gateway.peer_address().unwrap()
}

/// The value of a metric of a gateway.
pub async fn metric(gateway: &Gateway, name: &str) -> Option<f64> {
    let metrics = Client::new(gateway.admin_address()).get("/metrics").await;
    let text = metrics.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(line.parse().unwrap())
}

/// Waits until a gateway knows that many others that serve.
pub async fn knows(gateway: &Gateway, count: usize) {
    eventually(&format!("{count} other gateways"), || async {
        (metric(gateway, "fairway_peers").await == Some(count as f64)).then_some(())
    })
    .await;
}
