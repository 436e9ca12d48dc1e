//! Manifests: the documents of a YAML file, each a resource of ours, a Secret, or a mistake.

use std::fmt;

use gateway_core::Resource;
use k8s_openapi::api::core::v1::Secret;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::yaml::{self, UNKNOWN_FIELD, place};

/// One document, read.
#[derive(Clone)]
pub(super) enum Document {
    Resource(Resource),
    Secret(Box<Secret>),
}

/// Names it: a Secret is never shown.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resource(resource) => write!(f, "Resource({})", resource.resource()),
            Self::Secret(secret) => {
                write!(f, "Secret({})", secret.metadata.name.as_deref().unwrap_or_default())
            }
        }
    }
}

/// Why a document cannot be used. Which one is told as far as it can be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unreadable {
    /// Kind, namespace and name.
    pub(super) what: Option<(String, String, String)>,
    pub(super) reason: String,
}

/// The documents of a file.
///
/// # Errors
/// A file that is not YAML has no documents at all.
pub(super) fn read(text: &str) -> Result<Vec<Result<Document, Unreadable>>, String> {
    Ok(yaml::documents(text)?.into_iter().flat_map(items).map(document).collect())
}

/// `kind: List` holds further documents.
fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Object(mut object) if object.get("kind") == Some(&Value::from("List")) => {
            match object.remove("items") {
                Some(Value::Array(items)) => items,
                _ => Vec::new(),
            }
        }
        other => vec![other],
    }
}

fn document(value: Value) -> Result<Document, Unreadable> {
    let text = |path: &str| value.pointer(path).and_then(Value::as_str).map(str::to_owned);
    let kind = text("/kind");
    let version = text("/apiVersion");
    let what = kind.clone().zip(text("/metadata/name")).map(|(kind, name)| {
        let namespace = text("/metadata/namespace").unwrap_or_else(|| "default".to_owned());
        (kind, namespace, name)
    });
    let read = || match (version.as_deref(), kind.as_deref()) {
        (Some("fairway.dev/v1alpha1"), Some("McpServer")) => {
            strict(value).map(|server| Document::Resource(Resource::Server(server)))
        }
        (Some("fairway.dev/v1alpha1"), Some("McpApiKey")) => {
            strict(value).map(|key| Document::Resource(Resource::Key(key)))
        }
        (Some("fairway.dev/v1alpha1"), Some("McpPolicy")) => {
            strict(value).map(|policy| Document::Resource(Resource::Policy(policy)))
        }
        (Some("v1"), Some("Secret")) => secret(value).map(Document::Secret),
        (version, kind) => Err(format!(
            "{}/{} is not a kind that is read here: McpServer, McpApiKey and McpPolicy of \
             fairway.dev/v1alpha1, and Secret of v1 are",
            version.map_or_else(|| "(no apiVersion)".to_owned(), place),
            kind.map_or_else(|| "(no kind)".to_owned(), place),
        )),
    };
    let named = what.is_some();
    match read() {
        Ok(_) if !named => Err(Unreadable { what, reason: "metadata.name is missing".to_owned() }),
        Ok(document) => Ok(document),
        Err(reason) => Err(Unreadable { what, reason }),
    }
}

fn secret(value: Value) -> Result<Box<Secret>, String> {
    strict(value).map_err(|reason| {
        if reason.starts_with(UNKNOWN_FIELD) {
            reason
        } else {
            format!(
                "{reason}; a Secret needs text for each key of stringData, and base64 for each of data"
            )
        }
    })
}

/// As strict as `kubectl apply`.
fn strict<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    // `metadata` may hold what kubectl wrote there; the first two are read elsewhere.
    yaml::strict(value, |path| {
        path.starts_with("metadata.") || matches!(path, "apiVersion" | "kind")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasons(text: &str) -> Vec<String> {
        let documents = read(text).expect("YAML");
        documents.into_iter().filter_map(|document| document.err().map(|e| e.reason)).collect()
    }

    #[test]
    fn documents_lists_and_empty_ones_are_read() {
        let text = r"
apiVersion: fairway.dev/v1alpha1
kind: McpServer
metadata: {name: git}
spec: {url: http://git:8000}
---
---
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Secret
  metadata: {name: alice}
  stringData: {key: secret-of-alice}
- apiVersion: fairway.dev/v1alpha1
  kind: McpPolicy
  metadata: {name: all}
  spec: {subjects: [{user: alice}], rules: [{servers: [git]}]}
";
        let documents = read(text).unwrap();

        assert_eq!(documents.len(), 3);
        assert!(documents.iter().all(Result::is_ok), "{documents:?}");
    }

    #[test]
    fn mistakes_are_named() {
        let head = "apiVersion: fairway.dev/v1alpha1\nkind: McpServer\nmetadata: {name: git}\n";
        for (text, reason) in [
            (format!("{head}spec: {{url: 'http://a', tols: {{}}}}"), "unknown field spec.tols"),
            (format!("{head}spec: {{workload: {{}}}}"), "missing field `image`"),
            ("kind: Deployment\napiVersion: apps/v1".to_owned(), "apps/v1/Deployment is not"),
            ("just text".to_owned(), "is not a kind"),
        ] {
            let reasons = reasons(&text);
            assert!(reasons.len() == 1 && reasons[0].contains(reason), "{text}: {reasons:?}");
        }
        assert!(read("a: [").is_err());
    }

    #[test]
    fn no_reason_repeats_a_value() {
        const KEY: &str = "sk-live-REALKEY-123456";
        let ours = |kind: &str, spec: &str| {
            format!(
                "apiVersion: fairway.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}\n"
            )
        };
        let policy = |rule: &str| ours("McpPolicy", &format!("{{subjects: [], rules: [{rule}]}}"));
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n";
        for (text, expected) in [
            (ours("McpApiKey", &format!("{{user: a, valueFrom: {KEY}}}")), "spec.valueFrom: "),
            (ours("McpApiKey", &format!("{{user: a, expiresAt: {KEY}}}")), "spec.expiresAt: "),
            (ours("McpApiKey", &format!("{{user: a, disabled: {KEY}}}")), "a boolean"),
            (ours("McpApiKey", &format!("{{user: a, '{KEY}': 1}}")), "unknown field spec."),
            (
                ours(
                    "McpServer",
                    &format!("{{url: 'http://a', credentials: {{secretRef: {KEY}}}}}"),
                ),
                "spec.credentials.secretRef: ",
            ),
            (ours("McpServer", &format!("{{url: 'http://a', transport: {KEY}}}")), "one of"),
            (policy(&format!("{{effect: {KEY}}}")), "spec.rules.0.effect: expected "),
            (
                policy(&format!("{{effect: 'x`, expected {KEY}'}}")),
                "spec.rules.0.effect: expected ",
            ),
            (format!("{secret}stringData: {KEY}\n"), "stringData: "),
            (format!("{secret}stringData: {{key: [{KEY}]}}\n"), "stringData.key: "),
            (format!("{secret}data: {{key: {KEY}}}\n"), "data.key: "),
            (format!("kind: {KEY}\napiVersion: v1\n"), "is not a kind"),
        ] {
            let reasons = reasons(&text);
            assert_eq!(reasons.len(), 1, "{text}");
            assert!(reasons[0].contains(expected), "{text}: {}", reasons[0]);
            assert!(!reasons[0].contains("REALKEY"), "{text}: {}", reasons[0]);
        }
        for (text, place) in [
            (format!("a: 1\nkey: '{KEY}\n"), "line "),
            (format!("a: 1\n {KEY}: ]{KEY}\n"), "line 2"),
            (format!("a: 1\nb: *{KEY}\n"), "line 2"),
            (format!("{KEY}: 1\n{KEY}: 2\n"), "line 2"),
            (format!("a: !{KEY}!x {KEY}\n"), "line 1"),
            (format!("? [{KEY}]\n: 1\n"), "line 1"),
        ] {
            let reason = read(&text).expect_err(&text);
            assert!(reason.contains(place), "{text}: {reason}");
            assert!(!reason.contains("REALKEY"), "{text}: {reason}");
        }
    }

    #[test]
    fn a_secret_is_not_shown_when_debugged() {
        let text = "{apiVersion: v1, kind: Secret, metadata: {name: a}, stringData: {k: hidden}}";

        let documents = read(text).unwrap();

        assert_eq!(format!("{documents:?}"), "[Ok(Secret(a))]");
    }

    /// Within seconds and some tens of megabytes whatever a file of 4 MiB asks for.
    #[test]
    fn what_aliases_and_nesting_ask_for_is_bounded() {
        let laughs: String = (0..30)
            .map(|n| match n {
                0 => "a0: &a0 x\n".to_owned(),
                n => format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(",")),
            })
            .collect();
        let anchors: String = (0..5_000).map(|n| format!("  - &b{n} x\n")).collect();
        let text = "x".repeat(1024 * 1024);
        let long = format!("a: &a {text}\nb:\n{anchors}c:\n{}", "  - *a\n".repeat(900));
        let many = format!("a: &a x\nb:\n{anchors}c:\n{}", "  - *a\n".repeat(400_000));
        let deep = "[".repeat(4 << 20);
        let block: String = (0..2_000).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
        for (what, text) in
            [("laughs", laughs), ("long", long), ("many", many), ("deep", deep), ("block", block)]
        {
            let began = tokio::time::Instant::now();

            let refused = read(&text).is_err();

            assert!(refused, "{what}");
            assert!(began.elapsed().as_secs() < 3, "{what} took {:?}", began.elapsed());
        }
    }

    #[test]
    fn the_manifests_of_the_readme_are_read() {
        let readme = include_str!("../../../README.md");
        let blocks: Vec<&str> =
            readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();

        assert!(!blocks.is_empty());
        for block in blocks {
            assert_eq!(reasons(block), Vec::<String>::new(), "{block}");
        }
    }
}
