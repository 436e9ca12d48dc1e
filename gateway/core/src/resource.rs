//! One resource to one entry: resolved, validated, defaulted. Performs no I/O.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crds::{
    Effect, McpApiKey, McpPolicy, McpServer, McpServerSpec, SecretKeyRef, Subject as SubjectSpec,
};
use http::uri::{Parts, PathAndQuery};
use http::{HeaderName, HeaderValue, Uri, header};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use crate::entry::{Subject, ToolRules};
use crate::glob::Globs;
use crate::rights::Access;
use crate::{
    Claim, Credential, Endpoint, Entry, KeyEntry, Kind, Namespace, Pepper, PolicyEntry,
    ResourceRef, ServerEntry, ServerName, Timeouts,
};

/// Longest API key and longest credential that is read.
const MAX_SECRET: usize = 4096;
/// Shortest API key: less can be guessed online.
const MIN_KEY: usize = 12;

/// A custom resource of any of our kinds.
#[derive(Debug, Clone)]
pub enum Resource {
    /// McpServer
    Server(Box<McpServer>),
    /// McpApiKey
    Key(Box<McpApiKey>),
    /// McpPolicy
    Policy(Box<McpPolicy>),
}

impl Resource {
    /// Its name. A resource that names no namespace is in `default`, as with kubectl.
    pub fn resource(&self) -> ResourceRef {
        let (kind, namespace, name) = match self {
            Self::Server(server) => (Kind::Server, server.namespace(), server.name_any()),
            Self::Key(key) => (Kind::Key, key.namespace(), key.name_any()),
            Self::Policy(policy) => (Kind::Policy, policy.namespace(), policy.name_any()),
        };
        let namespace = Namespace::new(namespace.as_deref().unwrap_or("default"));
        ResourceRef { namespace, kind, name: name.into() }
    }
}

/// The Secrets that resources may refer to: those of their own namespace.
#[derive(Debug, Default)]
pub struct Secrets(BTreeMap<(Namespace, String), Secret>);

impl Secrets {
    /// Adds a Secret, or puts it in the place of the one of that name.
    pub fn insert(&mut self, secret: Secret) {
        let namespace = Namespace::new(secret.namespace().as_deref().unwrap_or("default"));
        self.0.insert((namespace, secret.name_any()), secret);
    }

    fn get(&self, namespace: &Namespace, reference: &SecretKeyRef) -> Result<String, Invalid> {
        let missing = |what: &str| Invalid::Reference(what.to_owned(), reference.name.clone());
        let secret = self
            .0
            .get(&(namespace.clone(), reference.name.clone()))
            .ok_or_else(|| missing("does not exist in this namespace"))?;
        let key = reference.key.as_str();
        let plain = secret.string_data.as_ref().and_then(|data| data.get(key)).cloned();
        let encoded = || {
            let bytes = secret.data.as_ref()?.get(key)?;
            String::from_utf8(bytes.0.clone()).ok()
        };
        let value = plain
            .or_else(encoded)
            .ok_or_else(|| missing(&format!("has no text under the key {key}")))?;
        // `echo key | base64` leaves a line end that no header can carry.
        let value = value.trim_end_matches(['\r', '\n']).to_owned();
        if value.is_empty() || value.len() > MAX_SECRET {
            return Err(missing(&format!("must hold 1 to {MAX_SECRET} bytes under {key}")));
        }
        Ok(value)
    }
}

/// Why a resource makes no entry. The text says what to change and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Invalid {
    /// A field with a wrong value.
    #[error("{0}: {1}")]
    Field(&'static str, String),
    /// A Secret that is not there or lacks what is asked of it.
    #[error("Secret {1} {0}")]
    Reference(String, String),
}

impl Entry {
    /// The entry of a resource.
    ///
    /// `claim` decides between resources that want one name, `pepper` keys the digests of API keys.
    ///
    /// # Errors
    /// The first thing found wrong with the resource.
    pub fn from_resource(
        resource: &Resource,
        claim: Claim,
        secrets: &Secrets,
        pepper: &Pepper,
    ) -> Result<Self, Invalid> {
        let reference = resource.resource();
        check_name(&reference)?;
        let namespace = reference.namespace;
        match resource {
            Resource::Server(server) => {
                let name = ServerName::new(&reference.name);
                server_entry(&server.spec, namespace, name, claim, secrets).map(Self::Server)
            }
            Resource::Key(key) => key_entry(key, namespace, claim, secrets, pepper).map(Self::Key),
            Resource::Policy(policy) => policy_entry(policy, namespace).map(Self::Policy),
        }
    }
}

/// The apiserver checks names; a directory of manifests has nobody else to do it.
fn check_name(reference: &ResourceRef) -> Result<(), Invalid> {
    let label = |name: &str, dots: bool| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        !name.is_empty()
            && name.chars().all(|c| inner(c) || c == '-' || (dots && c == '.'))
            && name.starts_with(inner)
            && name.ends_with(inner)
    };
    let wrong = |field, message: &str| Err(Invalid::Field(field, message.to_owned()));
    let (name, namespace) = (&*reference.name, reference.namespace.as_str());
    if namespace.len() > 63 || !label(namespace, false) {
        return wrong("metadata.namespace", "must be 1 to 63 of a-z, 0-9 and -");
    }
    if reference.kind == Kind::Server {
        if name.len() > 63 || !label(name, false) {
            return wrong("metadata.name", "must be 1 to 63 of a-z, 0-9 and -");
        }
        if matches!(name, "sse" | "messages") {
            return wrong(
                "metadata.name",
                "sse and messages are reserved: /mcp/sse and /mcp/messages are endpoints",
            );
        }
    } else if name.len() > 253 || !label(name, true) {
        return wrong("metadata.name", "must be 1 to 253 of a-z, 0-9, - and .");
    }
    Ok(())
}

fn server_entry(
    spec: &McpServerSpec,
    namespace: Namespace,
    name: ServerName,
    claim: Claim,
    secrets: &Secrets,
) -> Result<Arc<ServerEntry>, Invalid> {
    let endpoint = endpoint(spec)?;
    let credential = match &spec.credentials {
        None => None,
        Some(credentials) => {
            let secret = secrets.get(&namespace, &credentials.secret_ref)?;
            Some(credential(credentials, &secret)?)
        }
    };
    let rules = &spec.tools;
    let prefix = rules.prefix.clone().unwrap_or_else(|| format!("{name}_"));
    if prefix.len() > 64 || !prefix.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)) {
        return field("spec.tools.prefix", "must be at most 40 of A-Z, a-z, 0-9, _ and -");
    }
    let descriptions = rules
        .overrides
        .iter()
        .flatten()
        .filter_map(|(tool, change)| Some((tool.clone(), change.description.clone()?)))
        .collect();
    Ok(Arc::new(ServerEntry {
        claim,
        endpoint,
        session: spec.session,
        credential,
        timeouts: timeouts(spec)?,
        tools: ToolRules {
            prefix,
            allow: rules.allow.as_deref().map(Globs::new),
            deny: rules.deny.as_deref().map(Globs::new),
            descriptions,
        },
        namespace,
        name,
    }))
}

fn field<T>(name: &'static str, message: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid::Field(name, message.into()))
}

fn endpoint(spec: &McpServerSpec) -> Result<Endpoint, Invalid> {
    let Ok(url) = spec.url.parse::<Uri>() else {
        return field("spec.url", "is not a URL; write for instance http://host:8000/mcp");
    };
    let scheme = url.scheme_str().unwrap_or_default();
    let host = url.host().unwrap_or_default();
    if !matches!(scheme, "http" | "https") || host.is_empty() {
        return field("spec.url", "must begin with http:// or https:// and name a host");
    }
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return field("spec.url", "must not hold a user or password; use spec.credentials");
    }
    if spec.url.contains('#') {
        return field("spec.url", "must not have a fragment");
    }
    let own_path = (url.path() != "/").then(|| url.path_and_query().cloned()).flatten();
    let path = match &spec.path {
        None => own_path,
        Some(path) => match path.parse::<PathAndQuery>() {
            Ok(parsed) if path.starts_with('/') => Some(parsed),
            _ => return field("spec.path", "must begin with / and be a valid path"),
        },
    };
    let at = |default: &'static str| {
        let mut parts: Parts = url.clone().into_parts();
        parts.path_and_query =
            Some(path.clone().unwrap_or_else(|| PathAndQuery::from_static(default)));
        Uri::from_parts(parts).or_else(|_| field("spec.url", "is not a URL"))
    };
    let host = match spec.host_header.as_deref().map(HeaderValue::from_str) {
        None => None,
        Some(Ok(host)) => Some(host),
        Some(Err(_)) => return field("spec.hostHeader", "holds characters no header can carry"),
    };
    let (streamable, sse) = (at("/mcp")?, at("/sse")?);
    Ok(Endpoint { streamable, sse, transport: spec.transport, host })
}

fn credential(spec: &crds::Credentials, secret: &str) -> Result<Credential, Invalid> {
    let header = match spec.header.as_deref().map(|name| name.parse::<HeaderName>()) {
        None => header::AUTHORIZATION,
        Some(Ok(name)) => name,
        Some(Err(_)) => return field("spec.credentials.header", "is not the name of a header"),
    };
    if RESERVED_HEADERS.contains(&header.as_str()) {
        return field("spec.credentials.header", "belongs to the transport; choose another header");
    }
    let bearer = (header == header::AUTHORIZATION).then_some("Bearer");
    let scheme = spec.scheme.as_deref().or(bearer).filter(|scheme| !scheme.is_empty());
    let text = scheme.map_or_else(|| secret.to_owned(), |scheme| format!("{scheme} {secret}"));
    match HeaderValue::from_str(&text) {
        Ok(mut value) => {
            value.set_sensitive(true);
            Ok(Credential { header, value })
        }
        Err(_) => field("spec.credentials", "the Secret holds characters no header can carry"),
    }
}

/// Headers the gateway writes itself (PROTOCOL: configured headers must not override them).
const RESERVED_HEADERS: [&str; 11] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "host",
    "last-event-id",
    "mcp-method",
    "mcp-name",
    "mcp-protocol-version",
    "mcp-session-id",
    "transfer-encoding",
];

fn timeouts(spec: &McpServerSpec) -> Result<Timeouts, Invalid> {
    let defaults = Timeouts::default();
    let Some(given) = &spec.timeouts else { return Ok(defaults) };
    let read = |name: &'static str, text: Option<&String>, default: Duration| {
        let Some(text) = text else { return Ok(default) };
        match text.parse::<SignedDuration>().ok().and_then(|given| given.try_into().ok()) {
            Some(duration) if (SHORTEST..=LONGEST).contains(&duration) => Ok(duration),
            _ => field(
                name,
                format!("{text} is not a duration from 1ms to 24h, such as 500ms, 2s or 15m"),
            ),
        }
    };
    Ok(Timeouts {
        connect: read("spec.timeouts.connect", given.connect.as_ref(), defaults.connect)?,
        request: read("spec.timeouts.request", given.request.as_ref(), defaults.request)?,
        total: read("spec.timeouts.total", given.total.as_ref(), defaults.total)?,
    })
}

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

fn key_entry(
    key: &McpApiKey,
    namespace: Namespace,
    claim: Claim,
    secrets: &Secrets,
    pepper: &Pepper,
) -> Result<Arc<KeyEntry>, Invalid> {
    let spec = &key.spec;
    if spec.user.is_empty() {
        return field("spec.user", "must name who holds the key");
    }
    let Some(source) = &spec.value_from else {
        return field(
            "spec.valueFrom",
            "is needed: without a cluster nobody mints keys, so name a Secret of this directory",
        );
    };
    let value = secrets.get(&namespace, &source.secret_key_ref)?;
    if value.len() < MIN_KEY {
        return field("spec.valueFrom", format!("the key is shorter than {MIN_KEY} characters"));
    }
    let allow = match &spec.allow {
        None => None,
        Some(allow) => Some(access("spec.allow", &allow.servers, &allow.tools)?),
    };
    Ok(Arc::new(KeyEntry {
        namespace,
        name: key.name_any().into(),
        user: spec.user.as_str().into(),
        claim,
        disabled: spec.disabled,
        expires_at: spec.expires_at.as_ref().map(|time| time.0),
        digest: pepper.digest(value.as_bytes()),
        groups: spec.groups.clone(),
        allow,
    }))
}

fn access(
    name: &'static str,
    servers: &[String],
    tools: &[String],
) -> Result<Arc<Access>, Invalid> {
    if servers.is_empty() || tools.is_empty() {
        return field(name, "an empty list allows nothing; leave the field out to mean all");
    }
    Ok(Arc::new(Access { servers: Globs::new(servers), tools: Globs::new(tools) }))
}

fn policy_entry(policy: &McpPolicy, namespace: Namespace) -> Result<Arc<PolicyEntry>, Invalid> {
    let spec = &policy.spec;
    if spec.subjects.is_empty() {
        return field("spec.subjects", "must name at least one user, group or key");
    }
    if spec.rules.is_empty() {
        return field("spec.rules", "must hold at least one rule");
    }
    let subjects = spec.subjects.iter().map(subject).collect::<Result<_, _>>()?;
    let (mut allow, mut deny) = (Vec::new(), Vec::new());
    for rule in &spec.rules {
        let access = access("spec.rules", &rule.servers, &rule.tools)?;
        match rule.effect {
            Effect::Allow => allow.push(access),
            Effect::Deny => deny.push(access),
        }
    }
    let name = policy.name_any().into();
    Ok(Arc::new(PolicyEntry { namespace, name, subjects, allow, deny }))
}

fn subject(subject: &SubjectSpec) -> Result<Subject, Invalid> {
    match (&subject.user, &subject.group, &subject.key) {
        (Some(user), None, None) => Ok(Subject::User(user.clone())),
        (None, Some(group), None) => Ok(Subject::Group(group.clone())),
        (None, None, Some(key)) => Ok(Subject::Key(key.clone())),
        _ => field("spec.subjects", "each must be exactly one of user, group and key"),
    }
}
