//! Manifests: the documents of a YAML file, each a resource of ours, a Secret, or a mistake.

use gateway_core::Resource;
use k8s_openapi::api::core::v1::Secret;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One document, read.
#[derive(Debug, Clone)]
pub(super) enum Document {
    Resource(Resource),
    Secret(Box<Secret>),
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
    // The lines around a mistake may hold a secret: only its place is told.
    let values: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| error.without_snippet().to_string())?;
    let documents = values.into_iter().filter(|value| !value.is_null());
    Ok(documents.flat_map(items).map(document).collect())
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
            version.unwrap_or("(no apiVersion)"),
            kind.unwrap_or("(no kind)"),
        )),
    };
    let named = what.is_some();
    match read() {
        Ok(_) if !named => Err(Unreadable { what, reason: "metadata.name is missing".to_owned() }),
        Ok(document) => Ok(document),
        Err(reason) => Err(Unreadable { what, reason }),
    }
}

/// What serde says of a value that does not fit holds the value.
fn secret(value: Value) -> Result<Box<Secret>, String> {
    strict(value).map_err(|reason| {
        if reason.starts_with(UNKNOWN_FIELD) {
            reason
        } else {
            "a Secret needs text for each key of stringData, and base64 for each of data".to_owned()
        }
    })
}

/// As strict as `kubectl apply`: a field nobody knows is a mistake, most often in spelling.
fn strict<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    let mut unknown = Vec::new();
    let read = serde_ignored::deserialize(value, |path| unknown.push(path.to_string()));
    // `metadata` may hold what kubectl wrote there; the first two are read elsewhere.
    unknown.retain(|path| {
        !path.starts_with("metadata.") && !matches!(path.as_str(), "apiVersion" | "kind")
    });
    match (read, unknown.first()) {
        (Ok(value), None) => Ok(value),
        (Ok(_), Some(field)) => Err(format!("{UNKNOWN_FIELD}{field}")),
        (Err(error), _) => Err(serde_json::Error::to_string(&error)),
    }
}

const UNKNOWN_FIELD: &str = "unknown field ";

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
            (format!("{head}spec: {{}}"), "missing field `url`"),
            ("kind: Deployment\napiVersion: apps/v1".to_owned(), "apps/v1/Deployment is not"),
            ("just text".to_owned(), "is not a kind"),
        ] {
            let reasons = reasons(&text);
            assert!(reasons.len() == 1 && reasons[0].contains(reason), "{text}: {reasons:?}");
        }
        assert!(read("a: [").is_err());
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
