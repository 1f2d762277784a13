//! Validation of numbers: ranges of formats, bounds and factors.

use serde_json::{Number, Value};

use super::{At, invalid};
use crate::{
    field::{self, Error, ErrorList, Path},
    structural::{Kind, Schema},
};

pub(super) fn judge(schema: &Schema, number: &Number, at: At<'_>, out: &mut ErrorList) {
    let value = Value::Number(number.clone());
    let n = number.as_f64().unwrap_or(f64::NAN);
    if !number.is_i64() || schema.format.as_deref() == Some("int32") {
        out.extend(out_of_range(schema, "Checked", n, at));
    }
    let mut check = |what: &str, bound: f64, fault: Option<String>| {
        out.extend(out_of_range(schema, what, bound, at));
        out.extend(fault.map(|why| invalid(at, value.clone(), why)));
    };
    if let Some(factor) = schema.multiple_of {
        let quotient = n / factor;
        let is_none =
            factor > 0.0 && (quotient - quotient.round()).abs() > f64::EPSILON * quotient.abs();
        let fault = is_none.then(|| format!("should be a multiple of {}", go(factor)));
        check("MultipleOf", factor, fault);
    }
    if let Some(max) = schema.maximum {
        let fault = if schema.exclusive_maximum && n >= max {
            Some(format!("should be less than {}", go(max)))
        } else {
            (n > max).then(|| format!("should be less than or equal to {}", go(max)))
        };
        check("Maximum boundary", max, fault);
    }
    if let Some(min) = schema.minimum {
        let fault = if schema.exclusive_minimum && n <= min {
            Some(format!("should be greater than {}", go(min)))
        } else {
            (n < min).then(|| format!("should be greater than or equal to {}", go(min)))
        };
        check("Minimum boundary", min, fault);
    }
}

/// What upstream says of a number that its format has no room for. It says so of the bounds of a schema too, of each
/// object that has a value there.
fn out_of_range(schema: &Schema, what: &str, number: f64, at: At<'_>) -> Option<Error> {
    let format = schema.format.as_deref()?;
    let whole =
        |least: f64, beyond: f64| number.fract() == 0.0 && (least..beyond).contains(&number);
    let (of, fits) = match (schema.kind?, format) {
        (Kind::Integer, "int32") => ("integer", whole(-2_147_483_648.0, 2_147_483_648.0)),
        (Kind::Integer, _) => (
            "integer",
            whole(-9_223_372_036_854_775_808.0, 9_223_372_036_854_775_808.0),
        ),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "what it is cut to is asked"
        )]
        (Kind::Number, "float") => ("number", (number as f32).is_finite()),
        _ => return None,
    };
    let text = format!("{what} value must be of type {of} with format {format} in {at}");
    (!fits).then(|| field::invalid(Path::default(), "", text))
}

/// A number as Go's `%v` has it.
fn go(number: f64) -> String {
    if number.fract() == 0.0 && number.abs() < 1e21 {
        format!("{number:.0}")
    } else {
        number.to_string()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_that_its_format_has_no_room_for_is_refused() {
        let told = |of: &str, format: &str, value: Value| {
            let schema =
                json!({"type": "object", "properties": {"a": {"type": of, "format": format}}});
            let schema = Schema::new(&serde_json::from_value(schema).unwrap());
            let found = schema.validate(&json!({ "a": value }));
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        for (of, format, good, bad) in [
            (
                "integer",
                "int32",
                json!(2_147_483_647),
                json!(2_147_483_648_u32),
            ),
            (
                "integer",
                "int32",
                json!(-2_147_483_648.0),
                json!(-2_147_483_649_i64),
            ),
            ("number", "float", json!(3.4e38), json!(3.5e38)),
        ] {
            assert_eq!(told(of, format, good), [""; 0]);
            let text = format!("Checked value must be of type {of} with format {format} in a");
            let expected = format!("<nil>: Invalid value: \"\": {text}");
            assert_eq!(told(of, format, bad), [expected]);
        }
        let too_great = json!(9_223_372_036_854_775_808_u64);
        assert_eq!(
            told("integer", "int64", too_great),
            [
                "a: Invalid value: \"float64\": a in body must be of type int64: \"float64\"",
                "<nil>: Invalid value: \"\": Checked value must be of type integer with format int64 in a",
            ]
        );
        for (of, format, good) in [
            ("integer", "int64", json!(i64::MAX)),
            ("number", "double", json!(3.5e38)),
            ("integer", "uint8", json!(256)),
            ("integer", "", json!(2_147_483_648_u32)),
        ] {
            assert_eq!(told(of, format, good), [""; 0]);
        }
    }

    #[test]
    fn bounds_that_a_format_has_no_room_for_let_nothing_through() {
        let schema = json!({"type": "integer", "format": "int32", "minimum": 0.0, "maximum": 4_294_967_295.0});
        let schema = json!({"type": "object", "properties": {"asn": schema}});
        let schema = Schema::new(&serde_json::from_value(schema).unwrap());
        let found = schema.validate(&json!({"asn": 1}));
        assert_eq!(
            found.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "<nil>: Invalid value: \"\": Maximum boundary value must be of type integer with format int32 in asn"
            ]
        );
        assert!(schema.validate(&json!({})).is_empty());
    }
}
