//! An McpServer to its entry. Performs no I/O.

use std::collections::BTreeMap;
use std::sync::Arc;

use crds::{McpServerSpec, ServiceRef, ToolChanges, Tools};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Uri, header};

use super::authorities::authorities;
use super::field::{MANY, MAX_URL, TOOL, consists, count, description, items, length, path, range};
use super::{Invalid, LABEL, Place, References, Secrets, is_label, resilience, workload};
use crate::entry::ToolRules;
use crate::glob::Globs;
use crate::{Credential, Endpoint, Namespace, ResourceRef, ServerEntry, ServerName};

pub(super) fn entry(
    spec: &McpServerSpec,
    ResourceRef { namespace, name, .. }: ResourceRef,
    References { claim, secrets, place, accepted, .. }: References<'_>,
) -> Result<Arc<ServerEntry>, Invalid> {
    let name = ServerName::new(&name);
    description(spec.description.as_ref())?;
    if let Some(workload) = &spec.workload {
        workload::check(workload)?;
    }
    if let Some(service) = &spec.service {
        check_service(service)?;
    }
    let accepted = accepted.filter(|_| spec.tool_changes == ToolChanges::Quarantine);
    let credential = match &spec.credentials {
        None => None,
        Some(given) => Some(credential(given, secrets, &namespace)?),
    };
    let authorities = match &spec.tls {
        None => None,
        Some(tls) => Some(authorities(tls, secrets, &namespace)?),
    };
    let pods = place.as_ref().and_then(|place| place.pods.as_deref()).map(Into::into);
    Ok(Arc::new(ServerEntry {
        claim,
        pods,
        endpoint: endpoint(spec, place, authorities)?,
        session: spec.session,
        credential,
        timeouts: resilience::timeouts(spec)?,
        retries: resilience::retries(spec)?,
        circuit_breaker: resilience::breaker(spec)?,
        max_concurrency: resilience::max_concurrency(spec)?,
        tools: ToolRules { accepted, ..tool_rules(&spec.tools, &name)? },
        exposed_to: exposed_to(spec, &namespace)?,
        namespace,
        name,
    }))
}

fn endpoint(
    spec: &McpServerSpec,
    place: Option<Place>,
    authorities: Option<Arc<str>>,
) -> Result<Endpoint, Invalid> {
    let in_cluster = |field| {
        let problem =
            "needs a cluster; in a directory of manifests write the server's spec.url instead";
        let Place { host, port, address, .. } =
            place.ok_or_else(|| Invalid::field(field, problem))?;
        let scheme = if spec.tls.is_some() { "https" } else { "http" };
        Ok((format!("{scheme}://{host}:{port}"), Some(address)))
    };
    let (written, address) = match (&spec.url, &spec.workload, &spec.service) {
        (Some(url), None, None) => (url.clone(), None),
        (None, Some(_), None) => in_cluster("spec.workload")?,
        (None, None, Some(_)) => in_cluster("spec.service")?,
        _ => {
            let problem = "must have exactly one of workload, service, url: what to run, a Service \
                           of this namespace, or where else the server is";
            return Err(Invalid::field("spec", problem));
        }
    };
    let url = parse_url(&written)?;
    if spec.tls.is_some() && url.scheme != Scheme::HTTPS {
        return Err(Invalid::field("spec.tls", "needs a spec.url that starts with https://"));
    }
    let wrong_path = |problem| Invalid::field("spec.path", problem);
    let given_path = spec.path.as_deref();
    given_path.map_or(Ok(()), |given| path("spec.path", given, "/mcp"))?;
    let at = |default| {
        let path = given_path.unwrap_or_else(|| if url.path == "/" { default } else { url.path });
        let query = url.query.filter(|_| !path.contains('?'));
        let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        let target: PathAndQuery =
            target.parse().map_err(|_| wrong_path("must be a path as in a URL, such as /mcp"))?;
        Uri::builder()
            .scheme(url.scheme.clone())
            .authority(url.authority.clone())
            .path_and_query(target)
            .build()
            .map_err(|_| no_url())
    };
    Ok(Endpoint {
        streamable: at("/mcp")?,
        sse: at("/sse")?,
        transport: spec.transport,
        host: spec.host_header.as_deref().map(host_header).transpose()?,
        address,
        authorities,
    })
}

struct Url<'a> {
    scheme: Scheme,
    authority: Authority,
    path: &'a str,
    query: Option<&'a str>,
}

fn parse_url(text: &str) -> Result<Url<'_>, Invalid> {
    let wrong = |problem| Err(Invalid::field("spec.url", problem));
    length("spec.url", text, 0..=MAX_URL)?;
    let (scheme, rest) = if let Some(rest) = text.strip_prefix("http://") {
        (Scheme::HTTP, rest)
    } else if let Some(rest) = text.strip_prefix("https://") {
        (Scheme::HTTPS, rest)
    } else {
        return wrong("must start with http:// or https://");
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    if authority.is_empty() || authority.starts_with(':') {
        return wrong("must name a host after the //, such as https://mcp.example.com/mcp");
    }
    if authority.contains('@') {
        return wrong(
            "must not hold a user or password before an '@'; put the secret into a Secret and \
             name it in spec.credentials",
        );
    }
    if target.contains('#') {
        return wrong("must not have a fragment; remove the '#' and what follows it");
    }
    if text.contains(|c: char| c.is_whitespace() || c == '\\') {
        return wrong("must not have spaces or backslashes; write a space as %20");
    }
    let (path, query) =
        target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let authority: Authority = authority.parse().map_err(|_| no_url())?;
    // Else the port of the scheme would be taken for it.
    let port = authority.as_str().strip_prefix(authority.host()).unwrap_or_default();
    if !port.is_empty() && authority.port_u16().is_none_or(|port| port == 0) {
        return wrong("must have a port from 1 to 65535 after the ':', or none");
    }
    let path = if path.is_empty() { "/" } else { path };
    let whole = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    whole.parse::<PathAndQuery>().map_err(|_| no_url())?;
    Ok(Url { scheme, authority, path, query })
}

fn no_url() -> Invalid {
    Invalid::field("spec.url", "is not a URL; write for instance http://host:8000/mcp")
}

fn host_header(text: &str) -> Result<HeaderValue, Invalid> {
    let host = |text: &str| consists(text, |c| c.is_ascii_alphanumeric() || "._-".contains(c));
    let address = |text: &str| consists(text, |c| c.is_ascii_hexdigit() || ":.".contains(c));
    let (is_host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((ip, rest))) => (address(ip), rest),
        Some(None) => (false, ""),
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (host(name), port)
        }
    };
    let is_port = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| {
            (1..=5).contains(&port.len()) && port.chars().all(|c| c.is_ascii_digit())
        });
    HeaderValue::from_str(text).ok().filter(|_| is_host && is_port && text.len() <= 255).ok_or_else(
        || {
            let problem =
                "must be a host name with or without a port, such as weather.example.com:8443";
            Invalid::field("spec.hostHeader", problem)
        },
    )
}

fn credential(
    given: &crds::Credentials,
    secrets: &Secrets,
    namespace: &Namespace,
) -> Result<Credential, Invalid> {
    let name = given.header.as_deref().unwrap_or("Authorization");
    let wrong_header = |problem| Invalid::field("spec.credentials.header", problem);
    let header: HeaderName = name
        .parse()
        .ok()
        .filter(|_| name.len() <= 128)
        .filter(|_| consists(name, |c| c.is_ascii_alphanumeric() || "_-".contains(c)))
        .ok_or_else(|| {
            wrong_header("must be the name of a header, such as Authorization or X-Api-Key")
        })?;
    if RESERVED_HEADERS.contains(&header.as_str()) || header.as_str().starts_with("mcp-") {
        return Err(wrong_header("belongs to the transport; choose another header"));
    }
    let bearer = (header == header::AUTHORIZATION).then_some("Bearer");
    let scheme = given.scheme.as_deref().or(bearer).unwrap_or_default();
    if scheme.len() > 64 || !scheme.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    {
        let problem = "must be one word such as Bearer or Basic, or empty to send the credential \
                       alone";
        return Err(Invalid::field("spec.credentials.scheme", problem));
    }
    let field = "spec.credentials.secretRef";
    let secret = secrets.read(field, &given.secret_ref, namespace)?;
    let text = if scheme.is_empty() { secret } else { format!("{scheme} {secret}") };
    let mut value = HeaderValue::from_str(&text).map_err(|_| Invalid::Reference {
        field: field.to_owned(),
        secret: given.secret_ref.name.clone(),
        problem: "holds characters that no header can carry".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(Credential { header, value })
}

/// Headers that the gateway or the connection writes itself. Those of MCP are `mcp-*`, which no
/// configured header may override (a gateway decides by the body).
const RESERVED_HEADERS: [&str; 13] = [
    "accept",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "last-event-id",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A Service of the namespace; whether it exists the operator sees.
fn check_service(service: &ServiceRef) -> Result<(), Invalid> {
    if service.name.len() > LABEL || !is_label(&service.name) {
        let problem = "must be the name of a Service: a-z, 0-9 and '-', with a letter or digit at \
                       both ends";
        return Err(Invalid::field("spec.service.name", problem));
    }
    service.port.map_or(Ok(()), |port| range("spec.service.port", port, 1..=65_535))
}

fn exposed_to(spec: &McpServerSpec, namespace: &Namespace) -> Result<Vec<Namespace>, Invalid> {
    let mut all = spec.expose_to.clone().unwrap_or_default();
    items("spec.exposeTo", &all, 64, 0..=LABEL)?;
    if !all.iter().all(|other| is_label(other)) {
        let problem =
            "must be names of namespaces: a-z, 0-9 and '-', with a letter or digit at both ends";
        return Err(Invalid::field("spec.exposeTo", problem));
    }
    all.sort_unstable();
    all.dedup();
    all.retain(|other| other != namespace.as_str());
    Ok(all.iter().map(|other| Namespace::new(other)).collect())
}

fn tool_rules(given: &Tools, server: &ServerName) -> Result<ToolRules, Invalid> {
    if let Some(prefix) = &given.prefix
        && (prefix.len() > 40
            || !prefix.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)))
    {
        let problem = "must be at most 40 of A-Z, a-z, 0-9, '_' and '-'";
        return Err(Invalid::field("spec.tools.prefix", problem));
    }
    let globs = |field, patterns: Option<&Vec<String>>| match patterns {
        None => Ok(None),
        Some(patterns) => items(field, patterns, MANY, TOOL).map(|()| Some(Globs::new(patterns))),
    };
    let mut descriptions = BTreeMap::new();
    for (tool, change) in given.overrides.iter().flatten() {
        if !TOOL.contains(&tool.chars().count()) {
            let problem = "must be keyed by the tool's own name, which has 1 to 128 characters";
            return Err(Invalid::field("spec.tools.overrides", problem));
        }
        if let Some(description) = &change.description {
            let field = format!("spec.tools.overrides.{tool}.description");
            length(field, description, 0..=4096)?;
            descriptions.insert(tool.clone(), description.clone());
        }
    }
    count("spec.tools.overrides", given.overrides.iter().flatten().count(), MANY)?;
    Ok(ToolRules {
        prefix: given.prefix.clone().unwrap_or_else(|| format!("{server}_")),
        allow: globs("spec.tools.allow", given.allow.as_ref())?,
        deny: globs("spec.tools.deny", given.deny.as_ref())?,
        descriptions,
        accepted: None,
    })
}
