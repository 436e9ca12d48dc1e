//! Labels and selectors as Kubernetes matches them. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::helm::strings;

/// Labels of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Labels(BTreeMap<String, String>);

impl Labels {
    /// From an object such as `metadata.labels`.
    pub(crate) fn from_json(labels: &Value) -> Self {
        let labels = labels.as_object().into_iter().flatten();
        Self(labels.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect())
    }

    /// Whether a LabelSelector selects what has these labels. An empty one selects everything.
    pub(crate) fn matched_by(&self, selector: &Value) -> bool {
        let known = ["matchLabels", "matchExpressions"];
        let fields = selector.as_object().unwrap();
        assert!(fields.keys().all(|key| known.contains(&key.as_str())), "{selector}");

        self.have(&selector["matchLabels"])
            && selector["matchExpressions"].as_array().into_iter().flatten().all(|expression| {
                let value = self.0.get(expression["key"].as_str().unwrap()).map(String::as_str);
                let listed = value.is_some_and(|v| strings(&expression["values"]).contains(&v));
                match expression["operator"].as_str().unwrap() {
                    "In" => listed,
                    "NotIn" => !listed,
                    "Exists" => value.is_some(),
                    "DoesNotExist" => value.is_none(),
                    operator => panic!("unknown operator {operator}"),
                }
            })
    }

    /// Whether these are among the labels, as in a Service's selector.
    pub(crate) fn have(&self, wanted: &Value) -> bool {
        wanted
            .as_object()
            .into_iter()
            .flatten()
            .all(|(key, value)| self.0.get(key).map(String::as_str) == value.as_str())
    }
}

#[test]
fn selectors_match_as_in_kubernetes() {
    let labels = Labels::from_json(&json!({"app": "a", "tier": "web"}));
    let expression = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
    let table = [
        (json!({}), true),
        (json!({"matchLabels": {"app": "a"}}), true),
        (json!({"matchLabels": {"app": "b"}}), false),
        (json!({"matchLabels": {"app": "a", "zone": "1"}}), false),
        (expression("app", "In", json!(["b", "a"])), true),
        (expression("app", "In", json!(["b"])), false),
        (expression("app", "NotIn", json!(["b"])), true),
        (expression("zone", "NotIn", json!(["b"])), true),
        (expression("app", "Exists", json!(null)), true),
        (expression("zone", "DoesNotExist", json!(null)), true),
        (expression("zone", "Exists", json!(null)), false),
    ];

    for (selector, matched) in table {
        assert_eq!(labels.matched_by(&selector), matched, "{selector}");
    }
}
