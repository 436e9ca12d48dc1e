//! Whether an object of the cluster is what it should be already. Performs no I/O.

use serde_json::Value;

/// Fields in which every text is a quantity: the apiserver writes them in its own way.
const QUANTITIES: [&str; 4] = ["limits", "requests", "sizeLimit", "divisor"];

/// Whether `live` has everything that `desired` has. What the apiserver adds, such as defaults, is
/// not ours to compare; what it leaves out because it is empty, and how it writes quantities, is no
/// difference: else the same would be written again and again.
pub(crate) fn says(live: &Value, desired: &Value) -> bool {
    has(Some(live), desired, false)
}

fn has(live: Option<&Value>, desired: &Value, is_quantity: bool) -> bool {
    let Some(live) = live else { return is_empty(desired) };
    match (live, desired) {
        (_, Value::Null) => true,
        (Value::Object(live), Value::Object(desired)) => desired.iter().all(|(name, desired)| {
            let is_quantity = is_quantity || QUANTITIES.contains(&name.as_str());
            has(live.get(name), desired, is_quantity)
        }),
        (Value::Array(live), Value::Array(desired)) => {
            live.len() == desired.len()
                && live.iter().zip(desired).all(|(live, desired)| has(Some(live), desired, false))
        }
        (Value::String(live), Value::String(desired)) if is_quantity => {
            live == desired || nanos(live).is_some_and(|live| Some(live) == nanos(desired))
        }
        (live, desired) => live == desired,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A quantity as Kubernetes reads it, in billionths, below which it knows no difference.
fn nanos(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scaled = digits.checked_mul(multiplier(suffix)?)?;
    let divisor = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    Some(scaled.div_euclid(divisor) + i128::from(scaled.rem_euclid(divisor) > 0))
}

fn multiplier(suffix: &str) -> Option<i128> {
    let decimal = |exponent: i32| {
        let exponent = u32::try_from(exponent.checked_add(9)?).ok()?;
        10_i128.checked_pow(exponent)
    };
    let binary = |power: u32| Some((1 << (10 * power)) * 1_000_000_000);
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => decimal(suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn defaults_are_no_difference_and_drift_is() {
        let desired =
            json!({"spec": {"ports": [{"port": 80}], "type": null}, "labels": {"a": "b"}});

        for (live, same) in [
            (
                json!({"spec": {"ports": [{"port": 80, "protocol": "TCP"}]}, "labels": {"a": "b"}}),
                true,
            ),
            (json!({"spec": {"ports": [{"port": 81}]}, "labels": {"a": "b"}}), false),
            (json!({"spec": {"ports": []}, "labels": {"a": "b"}}), false),
            (json!({"spec": {"ports": [{"port": 80}, {"port": 1}]}, "labels": {"a": "b"}}), false),
            (json!({"spec": {"ports": [{"port": 80}]}, "labels": {"a": "b", "c": "d"}}), true),
            (json!({"labels": {"a": "b"}}), false),
        ] {
            assert_eq!(says(&live, &desired), same, "{live}");
        }
    }

    #[test]
    fn what_is_empty_may_be_left_out() {
        for (desired, same) in [
            (json!({"args": []}), true),
            (json!({"value": ""}), true),
            (json!({"resources": {"limits": {}}}), true),
            (json!({"args": [""]}), false),
            (json!({"automount": false}), false),
            (json!({"replicas": 0}), false),
        ] {
            assert_eq!(says(&json!({}), &desired), same, "{desired}");
        }
    }

    #[test]
    fn quantities_are_compared_as_numbers() {
        for (live, desired, same) in [
            ("1", "1000m", true),
            ("500m", "0.5", true),
            ("1Gi", "1024Mi", true),
            ("1536Mi", "1.5Gi", true),
            ("1k", "1e3", true),
            ("1k", "1E3", true),
            ("1n", "0.0000000001", true),
            ("100m", "0.1001", false),
            ("1Gi", "1G", false),
            ("1", "2", false),
            ("1", "x", false),
            ("x", "x", true),
            ("1E", "999999999999999999999999E", false),
        ] {
            let limits = |cpu: &str| json!({"resources": {"limits": {"cpu": cpu}}});
            assert_eq!(says(&limits(live), &limits(desired)), same, "{live} {desired}");
        }
    }

    #[test]
    fn other_texts_are_compared_as_they_are() {
        let value = |value: &str| json!({"env": [{"name": "A", "value": value}]});

        assert!(!says(&value("1"), &value("1000m")));
    }
}
