//! Merging of what is applied into what is there, and taking out what is applied no more.

use std::collections::{HashMap, HashSet};

use serde_json::{Map as Object, Value};

use super::{
    schema::{List, Map, Relation, Shape, Treat},
    set::FieldSet,
};

fn treat<'s>(shape: &'s Shape, value: &Value) -> Treat<'s> {
    shape.treat(value.is_object(), value.is_array())
}

/// The element of a path to an element of a list, or what is wrong with it.
pub(super) fn list_element(list: &List, value: &Value) -> Result<String, String> {
    match &list.relation {
        Relation::Keys(keys) => {
            let object = match value {
                Value::Object(object) => object,
                Value::Null => {
                    return Err("associative list with keys may not have a null element".into());
                }
                _ => {
                    return Err("associative list with keys may not have non-map elements".into());
                }
            };
            let mut out = String::from("k:{");
            for (i, key) in keys.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                let value = match (object.get(&key.name), &key.default) {
                    (Some(value), _) => value.to_string(),
                    (None, Some(default)) => default.clone(),
                    (None, None) => {
                        return Err(format!(
                            "associative list with keys has an element that omits key field {:?} (and doesn't have default value)",
                            key.name
                        ));
                    }
                };
                out.push_str(&format!("\"{}\":{value}", key.name));
            }
            out.push('}');
            Ok(out)
        }
        _ => match value {
            Value::Object(_) => {
                Err("associative list without keys has an element that's a map type".into())
            }
            Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
            Value::Null => {
                Err("associative list without keys has an element that's an explicit null".into())
            }
            scalar => Ok(format!("v:{scalar}")),
        },
    }
}

/// What is there with what is applied merged into it: leaves as they are applied, maps and lists
/// with keys element by element.
pub(super) fn merge(live: Value, applied: &Value, shape: &Shape) -> Value {
    match (treat(shape, &live), treat(shape, applied), live, applied) {
        (Treat::Map(map), _, Value::Object(live), Value::Object(applied)) => {
            merge_maps(live, applied, map)
        }
        (_, Treat::Map(map), _, Value::Object(applied)) => merge_maps(Object::new(), applied, map),
        (Treat::List(list), _, Value::Array(live), Value::Array(applied)) => {
            merge_lists(live, applied, list)
        }
        // Nothing in place of a map or a list leaves it as it is, if anything is in it.
        (Treat::Map(_) | Treat::List(_), _, live, Value::Null) if !is_empty(&live) => live,
        (.., applied) => applied.clone(),
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        other => other.is_null(),
    }
}

fn merge_maps(
    mut live: Object<String, Value>,
    applied: &Object<String, Value>,
    map: &Map,
) -> Value {
    for (key, value) in applied {
        let shape = map.below(key.as_bytes());
        let merged = match live.remove(key) {
            Some(old) => merge(old, value, shape),
            None => merge(Value::Null, value, shape),
        };
        live.insert(key.clone(), merged);
    }
    Value::Object(live)
}

/// The elements of both in the order in which they are applied, with those that are only there
/// staying before whatever follows them.
fn merge_lists(live: Vec<Value>, applied: &[Value], list: &List) -> Value {
    let mut out = Vec::with_capacity(live.len().max(applied.len()));
    let right: Vec<(String, &Value)> = applied
        .iter()
        .filter_map(|v| Some((list_element(list, v).ok()?, v)))
        .collect();
    let in_right: HashSet<&str> = right.iter().map(|(e, _)| e.as_str()).collect();
    let left_order: Vec<String> = live
        .iter()
        .map(|v| list_element(list, v).unwrap_or_default())
        .collect();
    let in_left: HashSet<&str> = left_order.iter().map(String::as_str).collect();
    // Elements of both, in the order in which they are applied.
    let mut shared = right
        .iter()
        .map(|(e, _)| e.as_str())
        .filter(|e| in_left.contains(e));
    let mut next_shared = shared.next();
    let mut old: HashMap<&str, Value> = HashMap::new();
    let mut only_left: Vec<Option<Value>> = Vec::with_capacity(live.len());
    for (element, value) in left_order.iter().zip(live) {
        if in_right.contains(element.as_str()) {
            // Of what is there twice the first is merged into.
            old.entry(element).or_insert(value);
            only_left.push(None);
        } else {
            only_left.push(Some(value));
        }
    }
    let merge_one = |old: &mut HashMap<&str, Value>, element: &str, value: &Value| {
        let before = old.remove(element).unwrap_or(Value::Null);
        merge(before, value, &list.element)
    };
    let (mut l, mut r) = (0, 0);
    while l < left_order.len() || r < right.len() {
        if l < left_order.len() && r < right.len() {
            let element = left_order[l].as_str();
            if element == right[r].0 {
                out.push(merge_one(&mut old, element, right[r].1));
                l += 1;
                r += 1;
                next_shared = shared.next();
                continue;
            }
            if in_right.contains(element) && next_shared.is_some_and(|next| next != element) {
                // Its turn comes later.
                l += 1;
                continue;
            }
        }
        if l < left_order.len() {
            if let Some(value) = only_left[l].take() {
                out.push(value);
                l += 1;
                continue;
            }
            if r >= right.len() {
                l += 1;
                continue;
            }
        }
        if r < right.len() {
            let (element, value) = &right[r];
            out.push(merge_one(&mut old, element, value));
            r += 1;
            if next_shared == Some(element.as_str()) {
                next_shared = shared.next();
            }
        }
    }
    Value::Array(out)
}

/// A value without some fields. Nothing is left of a map or a list that ends up empty.
pub(super) fn remove(value: Value, fields: &FieldSet, shape: &Shape) -> Value {
    if fields.is_empty() {
        return value;
    }
    match (treat(shape, &value), value) {
        (Treat::Map(map), Value::Object(object)) => {
            if object.is_empty() {
                return Value::Null;
            }
            let mut out = Object::new();
            for (key, value) in object {
                match fields.entries.get(&format!("f:{key}")) {
                    Some(entry) if entry.member => {}
                    Some(entry) => {
                        let shape = map.below(key.as_bytes());
                        let kept = remove(value, &entry.children, shape);
                        out.insert(key, kept);
                    }
                    None => {
                        out.insert(key, value);
                    }
                }
            }
            if out.is_empty() {
                Value::Null
            } else {
                Value::Object(out)
            }
        }
        (Treat::List(list), Value::Array(items)) => {
            let mut out = Vec::with_capacity(items.len());
            for item in items {
                let element = list_element(list, &item).ok();
                match element.and_then(|element| fields.entries.get(&element)) {
                    Some(entry) if entry.member => {}
                    Some(entry) => out.push(remove(item, &entry.children, &list.element)),
                    None => out.push(item),
                }
            }
            if out.is_empty() {
                Value::Null
            } else {
                Value::Array(out)
            }
        }
        (_, value) => value,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::schema::Type;

    fn pod() -> Shape {
        Shape::Type(Type::of_kind("", "v1", "Pod").unwrap())
    }

    fn names(value: &Value) -> Vec<&str> {
        value["spec"]["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap())
            .collect()
    }

    fn containers(names: &[&str]) -> Value {
        let all: Vec<Value> = names.iter().map(|n| json!({"name": n})).collect();
        json!({"spec": {"containers": all}})
    }

    #[test]
    fn elements_come_in_the_applied_order() {
        for (live, applied, expected) in [
            (&["a", "b", "c"][..], &["c", "a"][..], &["b", "c", "a"][..]),
            (&["a", "b"], &["c"], &["a", "b", "c"]),
            (&["a", "b", "c"], &["x", "b"], &["a", "x", "b", "c"]),
            (&[], &["b", "a"], &["b", "a"]),
            (&["a", "b", "c", "d"], &["d", "a"], &["b", "c", "d", "a"]),
        ] {
            let merged = merge(containers(live), &containers(applied), &pod());
            assert_eq!(names(&merged), expected, "{live:?} {applied:?}");
        }
    }

    #[test]
    fn leaves_and_atomic_values_are_replaced() {
        let merged = merge(
            json!({"spec": {"hostname": "a", "nodeSelector": {"a": "1"}, "tolerations": [{"key": "a"}],
                "containers": [{"name": "x", "image": "1", "tty": true}]}}),
            &json!({"spec": {"hostname": "b", "nodeSelector": {"b": "1"}, "tolerations": [{"key": "b"}],
                "containers": [{"name": "x", "image": "2"}], "initContainers": null}}),
            &pod(),
        );
        assert_eq!(
            merged,
            json!({"spec": {"hostname": "b", "nodeSelector": {"b": "1"}, "tolerations": [{"key": "b"}],
                "containers": [{"name": "x", "image": "2", "tty": true}], "initContainers": null}})
        );
    }

    #[test]
    fn fields_are_taken_out() {
        let value = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"containers": [
            {"name": "x", "image": "1"}, {"name": "y"}], "nodeSelector": {"a": "1"}}});
        let fields = FieldSet::parse(
            br#"{"f:metadata":{"f:labels":{"f:a":{}}},"f:spec":{"f:containers":{"k:{\"name\":\"y\"}":{},"k:{\"name\":\"x\"}":{"f:image":{}}},"f:nodeSelector":{"f:a":{}}}}"#,
        )
        .unwrap();
        assert_eq!(
            remove(value, &fields, &pod()),
            json!({"metadata": {"labels": {"b": "2"}}, "spec": {"containers": [{"name": "x"}],
                "nodeSelector": {"a": "1"}}})
        );
    }
}
