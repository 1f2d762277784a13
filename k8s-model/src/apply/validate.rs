//! What is wrong with an applied configuration before it is merged: fields that its type does not
//! have, values of another type, elements of a list with the same keys.

use std::collections::HashSet;

use serde_json::Value;

use super::{
    merge::list_element,
    schema::{Form, List, Map, Relation, Shape},
    set::spell_element,
};
use crate::{decode::SPELLED, patch::spell_go};

/// How many complaints there may be before it is asked how long their paths are.
const FEW: usize = 64;

/// What is found, with upstream's texts; empty if all is well.
pub(super) fn findings(value: &Value, shape: &Shape) -> Vec<String> {
    let mut out = Vec::new();
    visit(value, shape, &mut String::new(), &mut out);
    out
}

/// One text of several findings.
pub(super) fn text(findings: &[String]) -> String {
    match findings {
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    }
}

fn complain(path: &str, text: impl std::fmt::Display, out: &mut Vec<String>) {
    // A long key can be above many faults.
    if out.len() > FEW && out.len().saturating_mul(path.len()) > SPELLED {
        return;
    }
    out.push(if path.is_empty() {
        text.to_string()
    } else {
        format!("{path}: {text}")
    });
}

fn visit(value: &Value, shape: &Shape, path: &mut String, out: &mut Vec<String>) {
    if value.is_null() {
        return;
    }
    match shape.form() {
        Form::Number if !value.is_number() => complain(
            path,
            format_args!("expected numeric (int or float), got {}", go_type(value)),
            out,
        ),
        Form::String if !value.is_string() => complain(
            path,
            format_args!(
                "expected string, got &value.valueUnstructured{{Value:{}}}",
                go_syntax(value)
            ),
            out,
        ),
        Form::Boolean if !value.is_boolean() => complain(
            path,
            format_args!("expected boolean, got &{{{}}}", spell_go(value)),
            out,
        ),
        Form::List(list) => match value {
            Value::Array(items) => visit_list(items, list, path, out),
            other => complain(
                path,
                format_args!("expected list, got &{{{}}}", spell_go(other)),
                out,
            ),
        },
        Form::Map(map) => match value {
            Value::Object(object) => visit_map(object, map, path, out),
            other => complain(
                path,
                format_args!("expected map, got &{{{}}}", spell_go(other)),
                out,
            ),
        },
        _ => {}
    }
}

fn visit_list(items: &[Value], list: &List, path: &mut String, out: &mut Vec<String>) {
    let mut known = HashSet::new();
    for (i, item) in items.iter().enumerate() {
        let element = if list.relation == Relation::Atomic {
            format!("i:{i}")
        } else {
            match list_element(list, item) {
                Ok(element) => element,
                Err(text) => {
                    return complain(path, format_args!("element {i}: {text}"), out);
                }
            }
        };
        let spelled = spell_element(&element);
        if !known.insert(element) {
            complain(
                path,
                format_args!("duplicate entries for key {spelled}"),
                out,
            );
        }
        let length = path.len();
        path.push_str(&spelled);
        visit(item, &list.element, path, out);
        path.truncate(length);
    }
}

fn visit_map(
    object: &serde_json::Map<String, Value>,
    map: &Map,
    path: &mut String,
    out: &mut Vec<String>,
) {
    for (key, value) in object {
        let length = path.len();
        path.push('.');
        path.push_str(key);
        let field = map.field(key.as_bytes()).map(|field| &field.shape);
        match field.or(map.element.as_ref()) {
            Some(shape) => visit(value, shape, path, out),
            None => {
                complain(path, "field not declared in schema", out);
                path.truncate(length);
                return;
            }
        }
        path.truncate(length);
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// As Go's `%#v`.
fn go_syntax(value: &Value) -> String {
    match value {
        Value::Null => "interface {}(nil)".to_owned(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(go_syntax).collect();
            format!("[]interface {{}}{{{}}}", items.join(", "))
        }
        Value::Object(object) => {
            let members: Vec<String> = object
                .iter()
                .map(|(k, v)| format!("{k:?}:{}", go_syntax(v)))
                .collect();
            format!("map[string]interface {{}}{{{}}}", members.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::Type;

    #[test]
    fn long_paths_are_told_a_few_times() {
        let mut out = Vec::new();
        let path = "x".repeat(1 << 20);
        (0..1000).for_each(|_| complain(&path, "no", &mut out));
        assert_eq!(out.len(), FEW + 1);
    }

    #[test]
    fn findings_read_as_upstreams() {
        let pod = Shape::Type(Type::of_kind("", "v1", "Pod").unwrap());
        for (value, expected) in [
            (
                json!({"spec": {"foo": 1}}),
                ".spec.foo: field not declared in schema",
            ),
            (
                json!({"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}),
                ".spec.containers: duplicate entries for key [name=\"a\"]",
            ),
            (
                json!({"spec": {"priority": "x"}}),
                ".spec.priority: expected numeric (int or float), got string",
            ),
            (
                json!({"spec": {"hostname": 5}}),
                ".spec.hostname: expected string, got &value.valueUnstructured{Value:5}",
            ),
            (
                json!({"metadata": {"finalizers": [{}]}}),
                ".metadata.finalizers: element 0: associative list without keys has an element that's a map type",
            ),
            (
                json!({"spec": {"containers": [{"name": "a", "tty": "x"}]}}),
                ".spec.containers[name=\"a\"].tty: expected boolean, got &{x}",
            ),
            (
                json!({"spec": {"containers": {}}}),
                ".spec.containers: expected list, got &{map[]}",
            ),
        ] {
            assert_eq!(text(&findings(&value, &pod)), expected);
        }
        let fine = json!({"metadata": {"name": "a", "creationTimestamp": null},
            "spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": 1}},
                "ports": [{"containerPort": 1}, {"containerPort": 2}]}]}});
        assert!(findings(&fine, &pod).is_empty());
    }
}
