//! Manifests as text.

use std::fmt::Write;

/// A server whose tools keep their own names.
pub fn server(name: &str, url: &str) -> String {
    server_with(name, url, "tools: {prefix: \"\"}")
}

/// A server with more fields of `spec`, one a line.
pub fn server_with(name: &str, url: &str, fields: &str) -> String {
    resource("McpServer", name, &format!("url: {url}\n{fields}"))
}

/// A key and its Secret. It may use everything.
pub fn key(name: &str, secret: &str) -> String {
    key_with(name, secret, "allow: {servers: [\"*\"]}")
}

/// A key of a user of the same name, with more fields of `spec`, one a line.
pub fn key_with(name: &str, secret: &str, fields: &str) -> String {
    key_in("default", name, secret, fields)
}

pub fn key_in(namespace: &str, name: &str, secret: &str, fields: &str) -> String {
    let source = format!("user: {name}\nvalueFrom: {{secretKeyRef: {{name: {name}, key: key}}}}");
    let key = resource("McpApiKey", name, &format!("{source}\n{fields}"));
    format!("{}---\n{key}", self::secret(name, secret))
        .replace("metadata: {", &format!("metadata: {{namespace: {namespace}, "))
}

pub fn secret(name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}}}\nstringData: {{key: {value}}}\n"
    )
}

/// What a user may use, as rules of a policy, one a line.
pub fn policy(user: &str, rules: &[&str]) -> String {
    let rules = rules.iter().fold(String::new(), |mut text, rule| {
        write!(text, "\n- {{{rule}}}").unwrap();
        text
    });
    resource("McpPolicy", user, &format!("subjects: [{{user: {user}}}]\nrules:{rules}"))
}

fn resource(kind: &str, name: &str, spec: &str) -> String {
    let spec = spec.replace('\n', "\n  ");
    format!(
        "apiVersion: fairway.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  {spec}\n"
    )
}
