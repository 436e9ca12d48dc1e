//! A gateway that takes its entries from an API server.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use gateway::{Cluster, Gateway, Options, Pod, Source};
use gateway_core::report::{Line, Watermark};
use gateway_core::{Claim, Entry, Pepper, Place, Record, References, Resource, Secrets};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tempfile::TempDir;

use super::apiserver::{ApiServer, ENTRIES};
use super::client::Client;
use super::manifests;
use super::stage::ALICE;
use super::{eventually, within};

/// Opens the admin port.
pub const ADMIN: &str = "admin-token-0123456789";
pub const METRICS: &str = "metrics-token-0123456789";
pub const PEPPER: [u8; 32] = [7; 32];
pub const SEALING: [u8; 32] = [9; 32];

/// What a test plays on.
#[derive(Debug)]
pub struct ClusterStage {
    pub directory: TempDir,
    pub api: ApiServer,
    gateway: Option<Gateway>,
    /// For clients, and the admin port.
    addresses: Option<(SocketAddr, SocketAddr)>,
}

impl ClusterStage {
    /// With a config, and without a gateway.
    pub async fn empty() -> Self {
        let stage = Self {
            directory: tempfile::tempdir().unwrap(),
            api: ApiServer::start().await,
            gateway: None,
            addresses: None,
        };
        fs::write(stage.file("kubeconfig"), stage.api.kubeconfig()).unwrap();
        stage.write_state(&[PEPPER]);
        stage.forbid(&["10.0.0.0/8"], &["127.0.0.0/8"]);
        stage
    }

    /// With alice, who may use everything.
    pub async fn start() -> Self {
        let mut stage = Self::empty().await;
        stage.put(&key("alice", ALICE));
        stage.open().await;
        stage.ready_when("a table", |ready| ready["status"] == "ready").await;
        stage
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn write_state(&self, peppers: &[[u8; 32]]) {
        self.write_keys(peppers, &[SEALING], ADMIN);
    }

    pub fn write_keys(&self, peppers: &[[u8; 32]], sealing: &[[u8; 32]], admin: &str) {
        let encoded = |keys: &[[u8; 32]]| -> Vec<String> {
            keys.iter().map(|key| STANDARD.encode(key)).collect()
        };
        let state = serde_json::json!({
            "peppers": encoded(peppers), "sealing": encoded(sealing),
            "admin": admin, "metrics": METRICS,
        });
        self.write_state_file(&state.to_string());
    }

    /// In one step, as a Secret is mounted.
    pub fn write_state_file(&self, text: &str) {
        let aside = self.file("state.json.new");
        fs::write(&aside, text).unwrap();
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o440)).unwrap();
        fs::rename(aside, self.file("state.json")).unwrap();
    }

    pub fn options(&self) -> Options {
        Options {
            source: Source::Cluster(Cluster {
                namespace: ENTRIES.to_owned(),
                kubeconfig: Some(self.file("kubeconfig")),
            }),
            listen: "127.0.0.1:0".parse().unwrap(),
            admin_listen: "127.0.0.1:0".parse().unwrap(),
            allowed_hosts: Vec::new(),
            state: self.file("state.json"),
            config: None,
            body_memory: Options::BODY_MEMORY,
            pod: Pod { name: "gateway-0".to_owned(), uid: "pod-uid".to_owned() },
            peers: None,
        }
    }

    pub async fn open(&mut self) {
        let gateway = within("a gateway", Gateway::start(self.options())).await.unwrap();
        self.addresses = Some((gateway.address(), gateway.admin_address()));
        self.gateway = Some(gateway);
    }

    /// Goes on with a gateway that runs elsewhere.
    pub fn attach(&mut self, address: SocketAddr, admin: SocketAddr) {
        self.addresses = Some((address, admin));
    }

    pub async fn stop(&mut self) {
        within("the end of the gateway", self.gateway.take().unwrap().stop()).await;
    }

    /// Ranges that servers given by a URL may not, and may all the same, be in.
    pub fn forbid(&self, ranges: &[&str], allowed: &[&str]) -> u64 {
        let json = serde_json::json!({"ranges": ranges, "allowed": allowed}).to_string();
        self.api.put("config", "fairway.dev/config", &[("forbidden", json.as_bytes())])
    }

    pub fn put(&self, record: &Record) -> u64 {
        let json = record.to_json().unwrap();
        self.api.put(&name_of(record), "fairway.dev/entry", &[("entry", &json)])
    }

    pub fn put_unseen(&self, record: &Record) -> u64 {
        let json = record.to_json().unwrap();
        self.api.put_unseen(&name_of(record), "fairway.dev/entry", &[("entry", &json)])
    }

    /// Stores a list of a server.
    pub fn store(&self, server: &str, uid: &str, tools: &Value) -> u64 {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(tools.to_string().as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        let data = [("uid", uid.as_bytes()), ("catalog", &*packed)];
        self.api.put(&format!("catalog.default.{server}"), "fairway.dev/catalog", &data)
    }

    pub fn client(&self) -> Client {
        Client::new(self.addresses.unwrap().0)
    }

    pub fn alice(&self) -> Client {
        self.client().key(ALICE)
    }

    /// Without a token.
    pub fn admin(&self) -> Client {
        Client::new(self.addresses.unwrap().1)
    }

    pub fn operator(&self) -> Client {
        self.admin().with("authorization", &format!("Bearer {ADMIN}"))
    }

    pub async fn readyz(&self) -> Value {
        self.operator().get("/readyz").await.json()
    }

    pub async fn ready_when(&self, what: &str, show: impl Fn(&Value) -> bool) -> Value {
        let look = || async {
            let ready = self.readyz().await;
            show(&ready).then_some(ready)
        };
        eventually(what, look).await
    }

    pub async fn report(&self) -> Report {
        let response = self.operator().send(http::Method::GET, "/report", String::new()).await;
        assert_eq!(response.status(), http::StatusCode::OK, "{response:?}");
        Report { body: response.into_body(), read: Vec::new() }
    }

    /// Waits until everything up to this version is in force.
    pub async fn has_reached(&self, version: u64) {
        self.report().await.reaches(version).await;
    }
}

/// A stream of reports.
#[derive(Debug)]
pub struct Report {
    body: Incoming,
    read: Vec<u8>,
}

impl Report {
    /// The next line; `None` for a sign of life.
    pub async fn next(&mut self) -> Option<Line> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                let line = line.trim_ascii();
                return (!line.is_empty()).then(|| serde_json::from_slice(line).unwrap());
            }
            let frame = within("a line", self.body.frame()).await.unwrap().unwrap();
            self.read.extend_from_slice(frame.data_ref().unwrap());
        }
    }

    /// Waits for a line that is looked for.
    pub async fn until<T>(&mut self, what: &str, want: impl Fn(&Line) -> Option<T>) -> T {
        within(what, async {
            loop {
                if let Some(line) = self.next().await
                    && let Some(found) = want(&line)
                {
                    return found;
                }
            }
        })
        .await
    }

    pub async fn reaches(&mut self, version: u64) -> Watermark {
        let reached = |line: &Line| match line {
            Line::Table(mark) if mark.resource_version >= version => Some(*mark),
            _ => None,
        };
        self.until(&format!("version {version}"), reached).await
    }
}

fn name_of(record: &Record) -> String {
    let resource = record.entry.resource();
    let kind = match resource.kind {
        gateway_core::Kind::Server => "server",
        gateway_core::Kind::Key => "key",
        gateway_core::Kind::Policy => "policy",
    };
    format!("{kind}.{}.{}", resource.namespace, resource.name)
}

/// The UID that resources of tests have.
pub fn uid(name: &str) -> String {
    format!("uid-of-{name}")
}

/// A server given by a URL, whose tools keep their own names.
pub fn server(name: &str, url: &str) -> Record {
    record(&manifests::server(name, url), name, None)
}

pub fn server_with(name: &str, url: &str, fields: &str) -> Record {
    record(&manifests::server_with(name, url, fields), name, None)
}

/// A key that may use everything.
pub fn key(name: &str, secret: &str) -> Record {
    key_with(name, secret, "allow: {servers: [\"*\"]}")
}

pub fn key_with(name: &str, secret: &str, fields: &str) -> Record {
    key_peppered(name, secret, fields, &PEPPER)
}

/// A key whose digest is made with this pepper.
pub fn key_peppered(name: &str, secret: &str, fields: &str, pepper: &[u8; 32]) -> Record {
    let manifest = manifests::key_with(name, secret, fields);
    let (first, second) = manifest.split_once("---\n").unwrap();
    let mut secrets = Secrets::default();
    secrets.insert(serde_saphyr::from_str(first).unwrap());
    let resource = Resource::Key(serde_saphyr::from_str(second).unwrap());
    let pepper = Pepper::new(pepper);
    let references = References::without_cluster(claim(name), &secrets, &pepper);
    made(name, Entry::from_resource(&resource, references).unwrap())
}

/// A server that is a Service at this address.
pub fn service(name: &str, address: IpAddr, port: u16) -> Record {
    let spec = format!("tools: {{prefix: \"\"}}\nservice: {{name: svc, port: {port}}}");
    let manifest = manifests::server_with(name, "x", &spec).replace("  url: x\n", "");
    let place = Place { host: "svc.default.svc".to_owned(), port, address, pods: None };
    record(&manifest, name, Some(place))
}

pub fn record(manifest: &str, name: &str, place: Option<Place>) -> Record {
    let (secrets, pepper) = (Secrets::default(), Pepper::new(&PEPPER));
    let resource = Resource::Server(serde_saphyr::from_str(manifest).unwrap());
    let mut references = References::without_cluster(claim(name), &secrets, &pepper);
    references.place = place;
    made(name, Entry::from_resource(&resource, references).unwrap())
}

fn claim(name: &str) -> Claim {
    Claim { created: 1, tie: uid(name).into() }
}

fn made(name: &str, entry: Entry) -> Record {
    Record::new(uid(name), 1, 1, entry)
}
