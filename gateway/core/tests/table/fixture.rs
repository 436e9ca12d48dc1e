//! Builders, and a world in which manifests and lists become a table.

use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use gateway_core::{
    Catalog, Claim, Entries, Entry, Invalid, KeyValue, Kind, Minted, Namespace, Pepper, Place,
    Principal, References, Refusal, Resource, ResourceRef, Scope, Secrets, ServerName, Snapshot,
};
use jiff::Timestamp;
use mcp::json::Json;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A moment before every `expiresAt` that a test does not choose itself.
pub(crate) const NOW: Timestamp = Timestamp::UNIX_EPOCH;

pub(crate) static PEPPER: LazyLock<Pepper> = LazyLock::new(|| Pepper::new(b"pepper"));

pub(crate) fn pepper() -> Pepper {
    PEPPER.clone()
}

/// A resource, or why it does not fit the types.
pub(crate) fn resource(manifest: Value) -> Result<Resource, serde_json::Error> {
    fn read<T: DeserializeOwned>(manifest: Value) -> Result<T, serde_json::Error> {
        serde_json::from_value(manifest)
    }
    Ok(match manifest["kind"].as_str().unwrap() {
        "McpServer" => Resource::Server(read(manifest)?),
        "McpApiKey" => Resource::Key(read(manifest)?),
        "McpPolicy" => Resource::Policy(read(manifest)?),
        kind => panic!("unknown kind {kind}"),
    })
}

pub(crate) fn manifest(kind: &str, namespace: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "fairway.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    })
}

pub(crate) fn secret(namespace: &str, name: &str, key: &str, value: &str) -> Secrets {
    let mut secrets = Secrets::default();
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "stringData": {key: value},
    });
    secrets.insert(serde_json::from_value(secret).unwrap());
    secrets
}

pub(crate) fn claim(created: i64) -> Claim {
    Claim { created, tie: "same".into() }
}

pub(crate) fn from_resource(manifest: Value, secrets: &Secrets) -> Result<Entry, Invalid> {
    let references = References::without_cluster(claim(0), secrets, &PEPPER);
    Entry::from_resource(&resource(manifest).unwrap(), references)
}

/// A value that the operator made in 1970.
pub(crate) fn minted(value: &str, not_after: Option<Timestamp>) -> KeyValue {
    let minted = Minted { at: NOW, prefix: value.chars().take(8).collect(), request: None };
    KeyValue { digest: PEPPER.digest(value.as_bytes()), not_after, minted: Some(minted) }
}

/// Where the Service of a server of the namespace `tools` is reached.
pub(crate) fn place() -> Place {
    let address = IpAddr::from([10, 96, 0, 7]);
    Place {
        host: "mcp-git.tools.svc".to_owned(),
        port: 8000,
        address,
        pods: Some("mcph-git.tools.svc".to_owned()),
    }
}

/// As PEM has it; what it certifies is no concern of this crate.
pub(crate) const CERTIFICATE: &str =
    "-----BEGIN CERTIFICATE-----\nMAMCAQA=\n-----END CERTIFICATE-----\n";

fn entry(manifest: Value, created: i64, secrets: &Secrets) -> Entry {
    let resource = resource(manifest).unwrap();
    let references = References::without_cluster(claim(created), secrets, &PEPPER);
    Entry::from_resource(&resource, references).unwrap()
}

/// A server whose manifest is as old as `created`.
pub(crate) fn server(id: &str, created: i64, tools: &Value) -> Entry {
    let (namespace, name) = id.split_once('/').unwrap();
    let spec = json!({"url": "http://host", "tools": tools});
    entry(manifest("McpServer", namespace, name, &spec), created, &Secrets::default())
}

/// A key whose value is `value-of-` and its id, for the user of its name.
pub(crate) fn key(id: &str, spec: Value) -> Entry {
    key_of(id, &value_of(id), 0, spec)
}

pub(crate) fn key_of(id: &str, value: &str, created: i64, mut spec: Value) -> Entry {
    let (namespace, name) = id.split_once('/').unwrap();
    let secrets = secret(namespace, "keys", name, value);
    spec["valueFrom"] = json!({"secretKeyRef": {"name": "keys", "key": name}});
    if spec["user"].is_null() {
        spec["user"] = json!(name);
    }
    entry(manifest("McpApiKey", namespace, name, &spec), created, &secrets)
}

pub(crate) fn value_of(key: &str) -> String {
    format!("value-of-{}", key.replace('/', "-"))
}

pub(crate) fn policy(id: &str, subjects: &Value, rules: &Value) -> Entry {
    let (namespace, name) = id.split_once('/').unwrap();
    let spec = json!({"subjects": subjects, "rules": rules});
    entry(manifest("McpPolicy", namespace, name, &spec), 0, &Secrets::default())
}

/// A list of tools, each described by where it comes from.
pub(crate) fn catalog(server: &str, tools: &[&str]) -> Arc<Catalog> {
    let mut catalog = Catalog::default();
    for tool in tools {
        let definition = json!({"name": tool, "description": format!("{server}/{tool}")});
        catalog.add(Json::parse(&definition.to_string()).unwrap()).unwrap();
    }
    Arc::new(catalog)
}

/// What a server lists, each item described by where it comes from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lists<'a> {
    pub(crate) tools: &'a [&'a str],
    pub(crate) prompts: &'a [&'a str],
    pub(crate) resources: &'a [&'a str],
    pub(crate) templates: &'a [&'a str],
}

impl Lists<'_> {
    pub(crate) fn catalog(&self, server: &str) -> Arc<Catalog> {
        let define = |key: &str, item: &str| {
            let definition = json!({key: item, "description": format!("{server}/{item}")});
            serde_json::value::to_raw_value(&definition).unwrap()
        };
        let mut catalog = Catalog::default();
        self.tools.iter().for_each(|tool| catalog.add((&*define("name", tool)).into()).unwrap());
        for prompt in self.prompts {
            catalog.add_prompt((&*define("name", prompt)).into()).unwrap();
        }
        for uri in self.resources {
            catalog.add_resource((&*define("uri", uri)).into()).unwrap();
        }
        for template in self.templates {
            catalog.add_template((&*define("uriTemplate", template)).into()).unwrap();
        }
        Arc::new(catalog)
    }
}

/// What clients see of a tool.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listed {
    pub(crate) name: String,
    /// `namespace/server/tool`
    pub(crate) origin: String,
}

#[derive(Default)]
pub(crate) struct World {
    pub(crate) entries: Entries,
    pub(crate) snapshot: Snapshot,
}

impl World {
    pub(crate) fn of(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut world = Self::default();
        for entry in entries {
            world.entries.apply(entry);
        }
        world.build();
        world
    }

    pub(crate) fn apply(&mut self, entry: Entry) {
        self.entries.apply(entry);
        self.build();
    }

    pub(crate) fn delete(&mut self, kind: Kind, id: &str) {
        let (namespace, name) = id.split_once('/').unwrap();
        let namespace = Namespace::new(namespace);
        self.entries.delete(&ResourceRef { namespace, kind, name: name.into() });
        self.build();
    }

    pub(crate) fn offer(&mut self, server: &str, tools: &[&str]) {
        self.keep(server, tools);
        self.build();
    }

    /// Takes a list without building a table.
    pub(crate) fn keep(&mut self, server: &str, tools: &[&str]) {
        self.keep_all(server, catalog(server, tools));
    }

    /// Takes all lists of a server without building a table.
    pub(crate) fn keep_all(&mut self, server: &str, catalog: Arc<Catalog>) {
        let (namespace, name) = server.split_once('/').unwrap();
        self.entries.offer(&Namespace::new(namespace), &ServerName::new(name), catalog);
    }

    pub(crate) fn offer_all(&mut self, server: &str, lists: &Lists<'_>) {
        self.keep_all(server, lists.catalog(server));
        self.build();
    }

    pub(crate) fn build(&mut self) {
        self.snapshot = Snapshot::build(&mut self.entries, &self.snapshot);
    }

    pub(crate) fn present(&self, key: &str, now: Timestamp) -> Result<Principal, Refusal> {
        self.snapshot.authenticate(&pepper().digest(key.as_bytes()), now)
    }

    /// The principal of a key that [`key`] made.
    pub(crate) fn principal(&self, key: &str) -> Principal {
        self.present(&value_of(key), NOW).unwrap()
    }

    /// What a key sees of all servers.
    pub(crate) fn list(&self, key: &str) -> Vec<Listed> {
        list(&self.principal(key), &Scope::All)
    }

    pub(crate) fn names(&self, key: &str) -> Vec<String> {
        self.list(key).into_iter().map(|tool| tool.name).collect()
    }

    /// Whose tool the name calls.
    pub(crate) fn origin(&self, name: &str, key: &str) -> Option<String> {
        find(&self.principal(key), &Scope::All, name)
    }

    pub(crate) fn diagnostics(&self) -> Vec<String> {
        self.snapshot.diagnostics().iter().map(ToString::to_string).collect()
    }
}

pub(crate) fn scope(server: &str) -> Scope {
    Scope::Server(ServerName::new(server))
}

pub(crate) fn list(principal: &Principal, scope: &Scope) -> Vec<Listed> {
    let read = |definition: &[u8]| {
        let definition: Value = serde_json::from_slice(definition).unwrap();
        let text = |field: &str| definition[field].as_str().unwrap().to_owned();
        Listed { name: text("name"), origin: text("description") }
    };
    principal.tenant.list(scope, principal).map(|definition| read(definition)).collect()
}

pub(crate) fn find(principal: &Principal, scope: &Scope, name: &str) -> Option<String> {
    let tool = principal.tenant.find(name, scope, principal)?;
    Some(format!("{}/{}/{}", tool.server.namespace, tool.server.name, tool.name))
}
