//! Adding two JSON numbers without losing digits where that can be helped.

use serde_json::Number;

/// The sum as a person would write it: whole numbers without a fraction, integers exactly.
/// `None` if it is too large for a number.
pub(crate) fn add(a: &Number, b: &Number) -> Option<String> {
    if let (Some(a), Some(b)) = (a.as_i128(), b.as_i128()) {
        return Some((a + b).to_string());
    }
    let sum = a.as_f64()? + b.as_f64()?;
    if sum.fract() == 0.0 && sum.abs() < LARGEST_EXACT_INTEGER {
        // Adding zero turns -0 into 0.
        return Some(format!("{:.0}", sum + 0.0));
    }
    Number::from_f64(sum).map(|sum| sum.to_string())
}

/// 2^53: from here on a double no longer tells neighbouring integers apart.
const LARGEST_EXACT_INTEGER: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_read_as_a_person_would_write_them() {
        for (a, b, sum) in [
            ("2", "3", Some("5")),
            ("2.0", "3", Some("5")),
            ("0.5", "0.25", Some("0.75")),
            ("-0.0", "0.0", Some("0")),
            ("-0.0", "-0.0", Some("0")),
            ("-7", "3.5", Some("-3.5")),
            ("9223372036854775807", "1", Some("9223372036854775808")),
            ("18446744073709551615", "18446744073709551615", Some("36893488147419103230")),
            ("1e300", "1e300", Some("2e+300")),
            ("1.7e308", "1.7e308", None),
        ] {
            let (left, right) = (a.parse().unwrap(), b.parse().unwrap());

            assert_eq!(add(&left, &right).as_deref(), sum, "{a} + {b}");
        }
    }
}
