//! Why a value tree was refused, in the words of upstream's converter of trees.

use serde_json::Value;

use super::explain;
use crate::schema::{Shape, Type};

/// What upstream says of the first value in a tree that is of another type than its place in a kind.
///
/// Upstream makes objects of what strategic merge patches result in without writing it as JSON first, and has other
/// words there than its decoder of JSON. `None` if every value is of its type, and for values of the types with a text
/// form of their own, such as quantities and times, whose faults are the same in both.
#[must_use]
pub fn misfit(ty: Type, tree: &Value) -> Option<String> {
    unfit(Shape::Type(ty), tree)
}

fn unfit(shape: Shape, value: &Value) -> Option<String> {
    if value.is_null() {
        return None;
    }
    match (shape.resolved(), value) {
        (Shape::Any | Shape::Quantity, _) => None,
        (Shape::IntOrString | Shape::String("date-time"), Value::String(_)) => None,
        (Shape::IntOrString, Value::Number(number)) => {
            let fits = number.as_i64().is_some_and(|n| i32::try_from(n).is_ok());
            (!fits).then(|| {
                format!("json: cannot unmarshal number {number} into Go value of type int32")
            })
        }
        (Shape::IntOrString, other) => Some(into_value(other, "int32")),
        (Shape::String("date-time"), other) => Some(into_value(other, "string")),
        (Shape::String("byte"), Value::String(_)) => None,
        (Shape::String("byte"), other) => {
            Some(format!("cannot restore slice from {}", kind_of(other)))
        }
        (Shape::String(_), Value::String(_)) => None,
        (Shape::String(_), Value::Number(number)) if !number.is_f64() => {
            Some("cannot convert int64 to string".to_owned())
        }
        (Shape::String(_), _) => Some("unrecognized type: string".to_owned()),
        (Shape::Integer(format), Value::Number(number)) => number
            .as_f64()
            .is_some_and(|n| n.fract() != 0.0)
            .then(|| format!("cannot convert float64 to {format}")),
        (Shape::Integer(format), _) => Some(format!("unrecognized type: {format}")),
        (Shape::Number, Value::Number(_)) | (Shape::Boolean, Value::Bool(_)) => None,
        (Shape::Number, _) => Some("unrecognized type: float64".to_owned()),
        (Shape::Boolean, _) => Some("unrecognized type: bool".to_owned()),
        (Shape::Object, Value::Object(_)) => None,
        (Shape::Map(elements), Value::Object(entries)) => {
            let shape = elements.shape();
            entries.values().find_map(|entry| unfit(shape, entry))
        }
        (Shape::Type(ty), Value::Object(fields)) => fields
            .iter()
            .find_map(|(name, value)| unfit(ty.field(name)?.shape(), value)),
        (Shape::List(elements), Value::Array(items)) => {
            let shape = elements.shape();
            items.iter().find_map(|item| unfit(shape, item))
        }
        (Shape::Object | Shape::Map(_), other) => {
            Some(format!("cannot restore map from {}", kind_of(other)))
        }
        (Shape::Type(_), other) => Some(format!("cannot restore struct from: {}", kind_of(other))),
        (Shape::List(_), other) => Some(format!("cannot restore slice from {}", kind_of(other))),
    }
}

/// What Go says of a value of another type than the one its place has, without the place.
fn into_value(value: &Value, ty: &str) -> String {
    let kind = explain::go_kind(value);
    format!("json: cannot unmarshal {kind} into Go value of type {ty}")
}

/// What Go's reflection calls the type of a value in a tree.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "invalid",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of_a_pod(tree: Value) -> Option<String> {
        misfit(Type::of_kind("", "v1", "Pod").unwrap(), &tree)
    }

    #[test]
    fn the_first_value_of_another_type_is_told_as_upstream_does() {
        for (tree, text) in [
            (
                json!({"metadata": {"labels": "x"}}),
                "cannot restore map from string",
            ),
            (
                json!({"metadata": {"labels": {"a": 1}}}),
                "cannot convert int64 to string",
            ),
            (
                json!({"metadata": {"labels": {"a": true}}}),
                "unrecognized type: string",
            ),
            (json!({"spec": []}), "cannot restore struct from: slice"),
            (
                json!({"spec": {"containers": {}}}),
                "cannot restore slice from map",
            ),
            (
                json!({"spec": {"hostNetwork": "no"}}),
                "unrecognized type: bool",
            ),
            (
                json!({"spec": {"containers": [{"ports": [{"containerPort": "80"}]}]}}),
                "unrecognized type: int32",
            ),
            (
                json!({"spec": {"containers": [{"ports": [{"containerPort": 8.5}]}]}}),
                "cannot convert float64 to int32",
            ),
            (
                json!({"spec": {"containers": [{"livenessProbe": {"httpGet": {"port": 1.5}}}]}}),
                "json: cannot unmarshal number 1.5 into Go value of type int32",
            ),
            (
                json!({"spec": {"containers": [{"livenessProbe": {"httpGet": {"port": []}}}]}}),
                "json: cannot unmarshal array into Go value of type int32",
            ),
            (
                json!({"metadata": {"creationTimestamp": 5}}),
                "json: cannot unmarshal number into Go value of type string",
            ),
        ] {
            assert_eq!(of_a_pod(tree.clone()).as_deref(), Some(text), "{tree}");
        }
    }

    #[test]
    fn what_fits_and_what_has_a_text_form_of_its_own_is_passed() {
        let tree = json!({
            "metadata": {"labels": {"a": "b"}, "creationTimestamp": "x", "annotations": null},
            "spec": {"containers": [{"resources": {"limits": {"cpu": []}}}], "unknown": 1},
        });
        assert_eq!(of_a_pod(tree), None);
    }
}
