//! A gateway with a directory of manifests of its own.

use std::cell::Cell;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use axum::Router;
use gateway::{Gateway, Options, Peers, Source};
use serde_json::Value;
use server_sql::DatabaseUrl;
use tempfile::TempDir;
use tokio::time::timeout;

use super::client::Client;
use super::manifests::key;
use super::running::Running;
use super::{DEADLINE, eventually, within};

pub const ALICE: &str = "alice-key-abc123";
pub const BOB: &str = "bob-key-xyz789";
pub const CAROL: &str = "carol-key-def456";

/// What a test plays on.
#[derive(Debug)]
pub struct Stage {
    pub directory: TempDir,
    /// For the gateways that are started.
    pub config: Option<PathBuf>,
    pub body_memory: usize,
    pub peers: Option<Peers>,
    gateway: Option<Gateway>,
}

impl Stage {
    /// Without any manifest and without a gateway.
    pub fn empty() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("manifests")).unwrap();
        let body_memory = Options::BODY_MEMORY;
        Self { directory, config: None, body_memory, peers: None, gateway: None }
    }

    /// Alice and bob, who may use everything, and these manifests, under a gateway.
    pub async fn start(manifests: &[String]) -> Self {
        let mut stage = Self::set(manifests);
        stage.open().await;
        stage
    }

    /// The same before there is a gateway.
    pub fn set(manifests: &[String]) -> Self {
        let stage = Self::empty();
        stage.write("alice.yaml", &key("alice", ALICE));
        stage.write("bob.yaml", &key("bob", BOB));
        if !manifests.is_empty() {
            stage.write("rest.yaml", &manifests.join("---\n"));
        }
        stage
    }

    /// Starts the gateway, on the port it had if it had one.
    pub async fn open(&mut self) {
        self.open_at("127.0.0.1:0".parse().unwrap()).await;
    }

    pub async fn open_at(&mut self, address: SocketAddr) {
        self.gateway = Some(self.another_gateway(address).await);
    }

    /// A further gateway with the same manifests and the same state.
    pub async fn another_gateway(&self, address: SocketAddr) -> Gateway {
        let start = Gateway::start(Options {
            source: Source::Directories(vec![self.manifests()]),
            listen: address,
            admin_listen: "127.0.0.1:0".parse().unwrap(),
            allowed_hosts: Vec::new(),
            state: self.directory.path().join("state.json"),
            config: self.config.clone(),
            body_memory: self.body_memory,
            pod: gateway::Pod::default(),
            peers: self.peers.clone(),
        });
        within("a gateway", start).await.unwrap()
    }

    pub async fn stop(&mut self) {
        within("the end of the gateway", self.gateway.take().unwrap().stop()).await;
    }

    fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().unwrap()
    }

    pub fn address(&self) -> SocketAddr {
        self.gateway().address()
    }

    pub fn manifests(&self) -> PathBuf {
        self.directory.path().join("manifests")
    }

    /// Puts a manifest into place, as one step.
    pub fn write(&self, file: &str, text: &str) {
        let aside = self.directory.path().join("aside");
        fs::write(&aside, text).unwrap();
        fs::rename(aside, self.manifests().join(file)).unwrap();
    }

    pub fn remove(&self, file: &str) {
        fs::remove_file(self.manifests().join(file)).unwrap();
    }

    /// A client without a key.
    pub fn client(&self) -> Client {
        Client::new(self.address())
    }

    pub fn alice(&self) -> Client {
        self.client().key(ALICE)
    }

    pub fn bob(&self) -> Client {
        self.client().key(BOB)
    }

    pub fn admin(&self) -> Client {
        Client::new(self.gateway().admin_address())
    }

    /// Readiness in detail.
    pub async fn readyz(&self) -> Value {
        self.admin().get("/readyz").await.json()
    }

    /// Waits until readiness shows what is looked for.
    pub async fn ready_when(&self, what: &str, show: impl Fn(&Value) -> bool) -> Value {
        let last = Cell::new(Value::Null);
        let look = || async {
            let ready = self.readyz().await;
            last.set(ready.clone());
            show(&ready).then_some(ready)
        };
        let seen = timeout(DEADLINE.mul_f32(0.9), eventually(what, look)).await;
        seen.unwrap_or_else(|_| panic!("{what}: not shown by {}", last.take()))
    }

    /// Waits until a server is in a state.
    pub async fn server_is(&self, server: &str, state: &str) -> Value {
        let what = format!("{server} is {state}");
        let ready = self.ready_when(&what, |ready| find(ready, server)["state"] == state).await;
        find(&ready, server).clone()
    }

    pub async fn metrics(&self) -> String {
        self.admin().get("/metrics").await.text().to_owned()
    }

    /// The value of a metric, by its name with labels.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let metrics = self.metrics().await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        Some(line.parse().unwrap())
    }
}

/// What readiness says of a server.
pub fn find<'a>(ready: &'a Value, server: &str) -> &'a Value {
    static NONE: Value = Value::Null;
    let servers = ready["servers"].as_array().unwrap();
    servers.iter().find(|entry| entry["name"] == server).unwrap_or(&NONE)
}

/// The demo: its manifests at other ports, its three servers, a gateway.
#[derive(Debug)]
pub struct Demo {
    pub stage: Stage,
    pub servers: [Running; 3],
    pub files: PathBuf,
}

impl Demo {
    pub async fn start() -> Self {
        let mut stage = Stage::empty();
        let (everything, files) = (everything().await, stage.directory.path().join("files"));
        let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../servers/demo");
        copy(&samples.join("sample-files"), &files, str::to_owned);
        let config = server_filesystem::Config { root: files.clone(), allowed_hosts: Vec::new() };
        let filesystem = Running::start(server_filesystem::router(&config).unwrap()).await;
        let database = Running::start(database(stage.directory.path()).await).await;
        let servers = [everything, filesystem, database];
        let port = |text: &str| {
            let text = text.to_owned();
            ["18101", "18102", "18103"].iter().zip(&servers).fold(text, |text, (port, server)| {
                text.replace(port, &server.address.port().to_string())
            })
        };
        copy(&samples.join("manifests"), &stage.manifests(), port);
        copy(&samples.join("manifests/sqlite"), &stage.manifests(), port);
        stage.open().await;
        Self { stage, servers, files }
    }
}

fn copy(from: &Path, to: &Path, change: impl Fn(&str) -> String) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let text = fs::read_to_string(&path).unwrap();
            fs::write(to.join(path.file_name().unwrap()), change(&text)).unwrap();
        }
    }
}

async fn database(directory: &Path) -> Router {
    let url = DatabaseUrl::sqlite_file(&directory.join("sample.db"));
    server_sql::seed(&url).await.unwrap();
    server_sql::router(&server_sql::Config::new(url)).unwrap()
}

pub async fn everything() -> Running {
    let config = server_everything::Config::default();
    Running::start(server_everything::router(&config)).await
}

/// With the tool `slow`.
pub async fn slow() -> Running {
    let config =
        server_everything::Config { slow_tools: true, ..server_everything::Config::default() };
    Running::start(server_everything::router(&config)).await
}
