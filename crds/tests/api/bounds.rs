//! The part of OpenAPI validation that our schemas use, as an apiserver would apply it.

use std::ops::RangeInclusive;

use serde_json::Value;

/// What is wrong with `value`, as `PATH: WHAT`.
pub(crate) fn check(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let quantity = schema["x-kubernetes-int-or-string"] == true;
    if schema["type"] != kind && !(quantity && ["integer", "string"].contains(&kind)) {
        return vec![format!("{path}: must be of type {}", schema["type"])];
    }

    let mut wrong = Vec::new();
    let mut size = |keyword: &str, size: usize| {
        let (min, max) = (format!("min{keyword}"), format!("max{keyword}"));
        let limit = |name: &str, none| schema[name].as_u64().map_or(none, |n| n as usize);
        let range: RangeInclusive<usize> = limit(&min, 0)..=limit(&max, usize::MAX);
        if !range.contains(&size) {
            let bound = if size < *range.start() { min } else { max };
            wrong.push(format!("{path}: {bound}"));
        }
    };
    match value {
        Value::String(text) => size("Length", text.chars().count()),
        Value::Array(items) => {
            size("Items", items.len());
            for (index, item) in items.iter().enumerate() {
                wrong.extend(check(&schema["items"], item, &format!("{path}[{index}]")));
            }
        }
        Value::Object(fields) => {
            size("Properties", fields.len());
            for name in schema["required"].as_array().into_iter().flatten() {
                let name = name.as_str().unwrap();
                // An apiserver drops a null that a field does not allow.
                if fields.get(name).is_none_or(Value::is_null) {
                    wrong.push(format!("{path}.{name}: required"));
                }
            }
            for (name, value) in fields {
                let field =
                    schema["properties"].get(name).or_else(|| schema.get("additionalProperties"));
                // It also drops fields that it does not know.
                if let Some(field) = field.filter(|_| !value.is_null()) {
                    wrong.extend(check(field, value, &format!("{path}.{name}")));
                }
            }
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap();
            let limit = |name: &str, none| schema[name].as_f64().unwrap_or(none);
            if number < limit("minimum", f64::MIN) {
                wrong.push(format!("{path}: minimum"));
            }
            if number > limit("maximum", f64::MAX) {
                wrong.push(format!("{path}: maximum"));
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
    if schema["enum"].as_array().is_some_and(|allowed| !allowed.contains(value)) {
        wrong.push(format!("{path}: enum"));
    }
    wrong
}
