//! Numbers in value trees, as Go's decoder for unstructured objects has them.

use serde_json::{Number, Value};

/// The largest whole number up to which each has a `f64` of its own: 2⁵³ - 1.
pub(crate) const MAX_SAFE: f64 = 9_007_199_254_740_991.0;

/// Makes whole numbers integers however they are written (`1.0`, `1e3`, `-0.0`), as upstream writes them once it has read
/// them, and those that are too large for an `i64` floating point. Whole numbers beyond 2⁵³ that are written with a point or
/// an exponent stay as they are: no schema takes them for integers.
pub fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(same) = as_go(number) {
                *number = same;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

fn as_go(number: &Number) -> Option<Number> {
    if number.is_i64() {
        return None;
    }
    let float = number.as_f64()?;
    if number.is_u64() {
        return Number::from_f64(float);
    }
    (float.fract() == 0.0 && float.abs() <= MAX_SAFE).then(|| Number::from(float as i64))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whole_numbers_are_integers_however_they_are_written() {
        let mut value: Value = serde_json::from_str(
            r#"{"a": [1.0, 1e3, -0.0, 1.5, -2.0, 7], "b": {"c": 4503599627370496.0, "d": 1e17}, "e": 9223372036854775808}"#,
        )
        .unwrap();
        whole_numbers(&mut value);
        assert_eq!(
            value,
            json!({"a": [1, 1000, 0, 1.5, -2, 7], "b": {"c": 4_503_599_627_370_496_i64, "d": 1e17}, "e": 9_223_372_036_854_775_808.0})
        );
    }
}
