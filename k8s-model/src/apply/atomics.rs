//! What of a configuration is set as one value.

use std::fmt::Write;

use serde_json::Value;

use super::schema::{Form, Shape};

/// The paths of the lists and objects in a configuration whose types are one value, as `.spec.selector` or
/// `.spec.containers[0].args`: who applies a part of one replaces all of it. Upstream's `MutatingAdmissionPolicy`
/// does not let an `ApplyConfiguration` have any.
pub fn atomics(configuration: &Value, shape: &Shape) -> Vec<String> {
    let mut out = Vec::new();
    visit(configuration, shape, &mut String::new(), &mut out);
    out
}

fn visit(value: &Value, shape: &Shape, path: &mut String, out: &mut Vec<String>) {
    let length = path.len();
    match (value, shape.form()) {
        (Value::Object(object), Form::Map(map)) => {
            if map.atomic {
                out.push(path.clone());
            }
            for (key, value) in object {
                if let Some(field) = map.field(key.as_bytes()) {
                    let _ = write!(path, ".{key}");
                    visit(value, &field.shape, path, out);
                    path.truncate(length);
                }
            }
        }
        (Value::Array(items), Form::List(list)) => {
            if list.is_atomic() {
                out.push(path.clone());
            }
            for (i, item) in items.iter().enumerate() {
                let _ = write!(path, "[{i}]");
                visit(item, &list.element, path, out);
                path.truncate(length);
            }
        }
        // Of what nothing is known, lists are one value, and objects are not.
        (Value::Array(_), Form::Untyped | Form::Atomic) | (Value::Object(_), Form::Atomic) => {
            out.push(path.clone());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::Type;

    #[test]
    fn lists_and_objects_that_are_one_value_are_found_with_their_places() {
        let shape = Shape::Type(Type::of_kind("apps", "v1", "Deployment").unwrap());
        let found = |configuration: Value| atomics(&configuration, &shape);
        assert!(
            found(json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 1}})).is_empty()
        );
        assert_eq!(
            found(json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}})),
            [".spec.selector"]
        );
        let containers = json!([{"name": "a", "env": [{"name": "x", "value": "y"}]}, {"name": "b", "args": ["c"]}]);
        assert_eq!(
            found(json!({"spec": {"template": {"spec": {"containers": containers}}}})),
            [".spec.template.spec.containers[1].args"]
        );
    }

    #[test]
    fn of_what_nothing_is_known_lists_are_one_value() {
        let untyped = json!({"a": {"b": [1]}, "metadata": {"finalizers": ["x"]}});
        assert_eq!(
            atomics(&untyped, &Shape::unknown_kind()),
            Vec::<String>::new()
        );
        assert_eq!(atomics(&json!([1]), &Shape::Untyped), [""]);
    }
}
