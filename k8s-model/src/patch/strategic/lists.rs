//! Lists: of objects with keys, and of primitive values.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{
    DIRECTIVE, Object, clean,
    faults::{mixed, refused, unknown_directive},
    merge_map,
    order::{arrange, places},
    rules::Rule,
};
use crate::patch::{PatchError, spell_go};

/// Whether all of them are objects, or all are lists, or all texts and so on.
pub(super) fn are_alike<'a>(mut items: impl Iterator<Item = &'a Value>) -> bool {
    let kind = |value: &Value| match value {
        Value::Null => 0,
        Value::Bool(_) => 1,
        Value::Number(number) if number.is_f64() => 2,
        Value::Number(_) => 3,
        Value::String(_) => 4,
        Value::Array(_) => 5,
        Value::Object(_) => 6,
    };
    let first = items.next().map(kind);
    first != Some(0) && items.all(|item| Some(kind(item)) == first)
}

pub(super) fn merge_list(
    mut old: Vec<Value>,
    patch: Vec<Value>,
    rule: Rule,
) -> Result<Vec<Value>, PatchError> {
    if !rule.merge {
        return match clean(Value::Array(patch)) {
            Value::Array(items) => Ok(items),
            _ => Ok(Vec::new()),
        };
    }
    if old.is_empty() && patch.is_empty() {
        return Ok(old);
    }
    let are_objects = old.iter().chain(&patch).all(Value::is_object);
    if !are_objects {
        if !are_alike(old.iter().chain(&patch)) {
            return Err(mixed(old, patch));
        }
        if old.iter().chain(&patch).any(Value::is_array) {
            return Err(PatchError::Unprocessable(
                "lists of lists are not supported".to_owned(),
            ));
        }
        let order = patch.clone();
        let mut merged = old.clone();
        merged.extend(patch);
        let mut seen = HashSet::with_capacity(merged.len());
        merged.retain(|item| seen.insert(item.clone()));
        return arrange(merged, &order, &old, "");
    }
    if rule.key.is_empty() {
        return Err(refused(format!(
            "cannot merge lists without merge key for {}",
            rule.scope.element_name()
        )));
    }

    let mut replace = false;
    let mut deleted = HashSet::new();
    let mut changes = Vec::with_capacity(patch.len());
    for item in patch {
        match item.as_object().and_then(|item| item.get(DIRECTIVE)) {
            None => changes.push(item),
            Some(directive) => match directive.as_str() {
                Some("delete") => {
                    deleted.insert(merge_key(&item, rule.key)?.clone());
                }
                Some("replace") => replace = true,
                Some("merge") => {
                    return Err(refused(
                        "merging lists cannot yet be specified in the patch",
                    ));
                }
                _ => {
                    return Err(unknown_directive(
                        item.as_object().unwrap_or(&Object::new()),
                    ));
                }
            },
        }
    }
    if !deleted.is_empty() {
        let stays = |item: &Value| {
            item.get(rule.key)
                .is_none_or(|value| !deleted.contains(value))
        };
        old.retain(stays);
    }
    if replace {
        old = changes;
        changes = Vec::new();
    }
    // Lists of a hundred thousand elements fit into a request: each is looked up, not searched for.
    let mut known: HashMap<Value, usize> = HashMap::with_capacity(old.len());
    for (value, place) in places(&old, rule.key) {
        known.insert(value.clone(), place);
    }
    let server_order = old.clone();
    let order: Vec<Value> = changes.clone();
    let elements = rule.scope.elements();
    for change in changes {
        let value = merge_key(&change, rule.key)?;
        match known.get(value) {
            Some(place) => {
                let slot = &mut old[*place];
                let (Value::Object(before), Value::Object(change)) = (slot.take(), change) else {
                    continue;
                };
                *slot = Value::Object(merge_map(before, change, elements)?);
            }
            None => {
                known.insert(value.clone(), old.len());
                old.push(clean(change));
            }
        }
    }
    arrange(old, &order, &server_order, rule.key)
}

pub(super) fn merge_key<'a>(item: &'a Value, key: &str) -> Result<&'a Value, PatchError> {
    item.get(key).ok_or_else(|| {
        refused(format!(
            "map: {} does not contain declared merge key: {key}",
            spell_go(item)
        ))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{
        strategic,
        tests::{apply, containers},
    };
    use super::*;
    use crate::schema::Type;

    #[test]
    fn elements_merge_by_key_and_take_the_order_of_the_patch() {
        let document =
            containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]));
        let patch = containers(json!([{"name": "c", "image": "3"}, {"name": "b", "image": "4"}]));
        assert_eq!(
            apply(document, patch),
            containers(json!([
                {"name": "c", "image": "3"}, {"name": "a", "image": "1"}, {"name": "b", "image": "4"}
            ]))
        );
    }

    #[test]
    fn long_lists_merge_too() {
        let list = |from: usize| -> Value {
            let item = |n| json!({"name": format!("n{n}"), "value": from.to_string()});
            (from..from + 20_000).map(item).collect()
        };
        let with = |env| containers(json!([{"name": "a", "env": env}]));
        let merged = apply(with(list(0)), with(list(10_000)));
        let env = merged["spec"]["containers"][0]["env"].as_array().unwrap();
        assert_eq!(env.len(), 30_000);
        assert_eq!(env[9_999], json!({"name": "n9999", "value": "0"}));
        assert_eq!(env[10_000], json!({"name": "n10000", "value": "10000"}));
    }

    #[test]
    fn elements_go_by_directive_and_fields_by_null() {
        let document = containers(json!([{"name": "a"}, {"name": "b", "image": "2", "tty": true}]));
        let patch =
            containers(json!([{"name": "a", "$patch": "delete"}, {"name": "b", "tty": null}]));
        assert_eq!(
            apply(document, patch),
            containers(json!([{"name": "b", "image": "2"}]))
        );
    }

    #[test]
    fn primitive_lists_are_sets() {
        let document = json!({"metadata": {"finalizers": ["a", "b"]}});
        let patch = json!({"metadata": {
            "$deleteFromPrimitiveList/finalizers": ["a"],
            "$setElementOrder/finalizers": ["c", "b"],
            "finalizers": ["c", "b"],
        }});
        assert_eq!(
            apply(document, patch),
            json!({"metadata": {"finalizers": ["c", "b"]}})
        );
    }

    #[test]
    fn lists_without_a_strategy_are_replaced() {
        let document = json!({"spec": {"tolerations": [{"key": "a"}], "containers": [{"name": "a", "args": ["1"]}]}});
        let patch = json!({"spec": {"tolerations": [{"key": "b"}], "containers": [{"name": "a", "args": ["2"]}]}});
        assert_eq!(
            apply(document, patch),
            json!({"spec": {"tolerations": [{"key": "b"}], "containers": [{"name": "a", "args": ["2"]}]}})
        );
    }

    #[test]
    fn an_element_without_its_key_is_refused() {
        let document = containers(json!([{"name": "a"}]));
        let result = strategic(
            document,
            containers(json!([{"image": "x"}])),
            Type::of_kind("", "v1", "Pod"),
        );
        assert!(
            matches!(result, Err(PatchError::Refused(text)) if text.contains("declared merge key: name"))
        );
    }
}
