//! A directory of manifests that a gateway watches, written as a user writes it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::free_port;

/// The key of alice, who may use everything: in the demo and in [`Manifests::of_alice`].
pub const ALICE: &str = "alice-key-abc123";

/// The key of bob, who may not use files: in the demo.
pub const BOB: &str = "bob-key-xyz789";

/// The key of a user that [`Manifests::user`] added.
pub fn key_of(user: &str) -> String {
    format!("the-key-of-{user}")
}

/// The manifests, which go with the handle.
#[derive(Debug)]
pub struct Manifests {
    directory: TempDir,
}

impl Manifests {
    /// A directory in which alice has a key and may use every server.
    pub fn of_alice() -> Result<Self> {
        let manifests = Self { directory: TempDir::new()? };
        manifests.write("alice-secret", &secret("alice", ALICE))?;
        manifests.write("alice-key", &api_key("alice"))?;
        manifests.write("alice-policy", &policy("alice", "*"))?;

        Ok(manifests)
    }

    /// A copy of the demo's, in which each server has a port of its own.
    pub fn of_demo() -> Result<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../servers/demo/manifests");
        let manifests = Self { directory: TempDir::new()? };
        let mut ports = Ports::default();
        copy(&source, manifests.directory.path(), &mut ports)
            .with_context(|| format!("the demo's manifests in {}", source.display()))?;

        Ok(manifests)
    }

    /// Where they are.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Adds or changes a server. The tools' names begin with `NAME_`.
    pub fn server(&self, name: &str, url: &str, session: &str) -> Result<()> {
        let spec = json!({"url": url, "transport": "StreamableHttp", "session": session});
        self.write(name, &resource("McpServer", name, &spec))
    }

    /// Adds or changes a server whose sessions are as the server likes them.
    pub fn server_over(&self, name: &str, url: &str, transport: &str) -> Result<()> {
        self.write(name, &resource("McpServer", name, &json!({"url": url, "transport": transport})))
    }

    /// Adds a user, whose key is [`key_of`], or changes what it may use: one server but for `without` of its tools.
    pub fn user(&self, user: &str, server: &str, without: &[&str]) -> Result<()> {
        let mut rules = vec![json!({"effect": "Allow", "servers": [server]})];
        if !without.is_empty() {
            rules.push(json!({"effect": "Deny", "servers": [server], "tools": without}));
        }
        let spec = json!({"subjects": [{"user": user}], "rules": rules});
        let policy = resource("McpPolicy", user, &spec);
        self.write(&format!("{user}-policy"), &policy)?;
        if self.file(&format!("{user}-key")).exists() {
            return Ok(());
        }
        self.write(&format!("{user}-secret"), &secret(user, &key_of(user)))?;
        self.write(&format!("{user}-key"), &api_key(user))
    }

    /// Lets a user use a server.
    pub fn allow(&self, user: &str, server: &str) -> Result<()> {
        self.write(&format!("{user}-may-{server}"), &policy(user, server))
    }

    /// Removes what was written under this name.
    pub fn remove(&self, name: &str) -> Result<()> {
        Ok(fs::remove_file(self.file(name))?)
    }

    /// Writes one manifest, at once: a gateway never reads half of it. JSON is YAML.
    fn write(&self, name: &str, manifest: &Value) -> Result<()> {
        let draft = self.directory.path().join(format!(".{name}.draft"));
        fs::write(&draft, serde_json::to_string_pretty(manifest)?)?;
        Ok(fs::rename(draft, self.file(name))?)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.yaml"))
    }
}

fn resource(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "fairway.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    })
}

fn policy(user: &str, servers: &str) -> Value {
    let rules = json!([{"effect": "Allow", "servers": [servers]}]);
    let name = if servers == "*" { format!("{user}-all") } else { format!("{user}-{servers}") };
    resource("McpPolicy", &name, &json!({"subjects": [{"user": user}], "rules": rules}))
}

fn api_key(user: &str) -> Value {
    let reference = json!({"secretKeyRef": {"name": user, "key": "key"}});
    resource("McpApiKey", user, &json!({"user": user, "valueFrom": reference}))
}

fn secret(name: &str, key: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": "default"},
        "stringData": {"key": key},
    })
}

/// New ports for those that manifests name, each the same everywhere.
#[derive(Default)]
struct Ports {
    known: Vec<(String, u16)>,
}

impl Ports {
    fn replace(&mut self, text: &str) -> Result<String> {
        const HOST: &str = "127.0.0.1:";

        let mut pieces = text.split(HOST);
        let mut replaced = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let digits = piece.find(|c: char| !c.is_ascii_digit()).unwrap_or(piece.len());
            let (port, rest) = piece.split_at(digits);
            let port = self.of(port)?;
            replaced += &format!("{HOST}{port}{rest}");
        }
        Ok(replaced)
    }

    fn of(&mut self, port: &str) -> Result<u16> {
        if let Some((_, new)) = self.known.iter().find(|(old, _)| old == port) {
            return Ok(*new);
        }
        let new = free_port()?;
        self.known.push((port.to_owned(), new));
        Ok(new)
    }
}

fn copy(from: &Path, to: &Path, ports: &mut Ports) -> Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy(&entry.path(), &target, ports)?;
        } else {
            fs::write(target, ports.replace(&fs::read_to_string(entry.path())?)?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_replaced_by_the_same_one_everywhere() {
        let text =
            "url: http://127.0.0.1:8081/mcp\nother: http://127.0.0.1:8082\nagain: 127.0.0.1:8081";

        let replaced = Ports::default().replace(text).unwrap();

        let ports: Vec<&str> = replaced
            .split("127.0.0.1:")
            .skip(1)
            .map(|piece| piece.split(|c: char| !c.is_ascii_digit()).next().unwrap())
            .collect();
        assert_eq!(ports[0], ports[2], "{replaced}");
        assert_ne!(ports[0], ports[1], "{replaced}");
        assert_ne!(ports[0], "8081", "{replaced}");
        assert!(replaced.contains("/mcp\nother: http://"), "{replaced}");
    }
}
