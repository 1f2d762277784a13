//! Strategic merge patches: merge patches that know which lists are maps.
//!
//! See [Update API Objects in Place](https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/)
//! and upstream's design notes on
//! [strategic merge patches](https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md)
//! for the directives `$patch`, `$retainKeys`, `$setElementOrder/…` and
//! `$deleteFromPrimitiveList/…`.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
};

use serde_json::{Map, Value};

use super::{PatchError, spell_go};
use crate::schema::{Field, Shape, Type};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

type Object = Map<String, Value>;

/// Carries out a strategic merge patch on an object of a type.
///
/// # Errors
///
/// Fails if a directive is malformed, contradicts the patch, or does not fit the object.
///
/// ```
/// # use k8s_model::{patch, schema::Type};
/// # use serde_json::json;
/// let pod = json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b"}]}});
/// let change = json!({"spec": {"containers": [{"name": "a", "image": "y"}]}});
/// let patched = patch::strategic(pod, change, Type::of_kind("", "v1", "Pod"))?;
/// assert_eq!(patched["spec"]["containers"], json!([{"name": "a", "image": "y"}, {"name": "b"}]));
/// # Ok::<(), patch::PatchError>(())
/// ```
pub fn strategic(document: Value, patch: Value, ty: Option<Type>) -> Result<Value, PatchError> {
    let (Value::Object(document), Value::Object(patch)) = (document, patch) else {
        return Err(PatchError::Malformed("invalid JSON document".to_owned()));
    };
    merge_map(document, patch, Scope(ty.map(Shape::Type))).map(Value::Object)
}

/// What is known of the object at hand.
#[derive(Clone, Copy)]
struct Scope(Option<Shape>);

/// How a field merges.
#[derive(Clone, Copy)]
struct Rule {
    scope: Scope,
    merge: bool,
    replace: bool,
    key: &'static str,
}

impl Scope {
    fn rule(self, name: &str) -> Rule {
        match self.0 {
            Some(Shape::Type(ty)) => match ty.field(name) {
                Some(field) => Rule::of(&field),
                None => Rule::unknown(None),
            },
            Some(Shape::Map(elements)) => Rule::unknown(Some(elements.shape())),
            _ => Rule::unknown(None),
        }
    }

    /// How a field merges that must be there.
    fn list_rule(self, name: &str) -> Result<Rule, PatchError> {
        match self.0 {
            Some(Shape::Type(ty)) if ty.field(name).is_none() => Err(refused(format!(
                "unable to find api field in struct {} for the json field {name:?}",
                ty.base_name()
            ))),
            _ => Ok(self.rule(name)),
        }
    }

    /// What Go calls the type of the elements of the list at hand.
    fn element_name(self) -> &'static str {
        match self.elements().0 {
            Some(Shape::Type(ty)) => ty.base_name(),
            _ => "",
        }
    }

    /// What is known of the elements of the list at hand.
    fn elements(self) -> Scope {
        match self.0 {
            Some(Shape::List(elements)) => Scope(Some(elements.shape())),
            _ => Scope(None),
        }
    }
}

impl Rule {
    fn of(field: &Field) -> Rule {
        let has = |strategy| {
            field
                .patch_strategy()
                .is_some_and(|s| s.split(',').any(|s| s == strategy))
        };
        Rule {
            scope: Scope(Some(field.shape())),
            merge: has("merge"),
            replace: has("replace"),
            key: field.patch_merge_key().unwrap_or(""),
        }
    }

    fn unknown(shape: Option<Shape>) -> Rule {
        Rule {
            scope: Scope(shape),
            merge: false,
            replace: false,
            key: "",
        }
    }
}

fn malformed(text: &str) -> PatchError {
    PatchError::Malformed(text.to_owned())
}

fn refused(text: impl Into<String>) -> PatchError {
    PatchError::Refused(text.into())
}

/// A value that is no list where one must be, in the words of Go.
fn no_list(value: &Value) -> PatchError {
    let kind = match value {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    };
    refused(format!(
        "expected a []interface {{}}, but received a {kind}"
    ))
}

/// A `$patch` that is none of those there are.
fn unknown_directive(patch: &Object) -> PatchError {
    let directive = match patch.get(DIRECTIVE).unwrap_or(&Value::Null) {
        Value::Null => "%!s(<nil>)".to_owned(),
        Value::Bool(value) => format!("%!s(bool={value})"),
        Value::Number(number) if number.is_f64() => format!("%!s(float64={number})"),
        Value::Number(number) => format!("%!s(int64={number})"),
        other => spell_go(other),
    };
    let map = spell_go(&Value::Object(patch.clone()));
    refused(format!("unknown patch type: {directive} in map: {map}"))
}

/// Two lists whose elements are not all of one type.
fn mixed(old: Vec<Value>, new: Vec<Value>) -> PatchError {
    let lists = spell_go(&Value::Array(vec![Value::Array(old), Value::Array(new)]));
    refused(format!("list element types are not identical: {lists}"))
}

/// Whether all of them are objects, or all are lists, or all texts and so on.
fn are_alike<'a>(mut items: impl Iterator<Item = &'a Value>) -> bool {
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

fn merge_map(mut document: Object, mut patch: Object, scope: Scope) -> Result<Object, PatchError> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(DIRECTIVE);
                Ok(patch)
            }
            Some("delete") => Ok(Object::new()),
            _ => Err(unknown_directive(&patch)),
        };
    }
    retain_keys(&mut document, &mut patch)?;
    set_orders(&mut document, &mut patch, scope)?;
    for (key, change) in patch {
        let (key, deletes) = match key.strip_prefix(DELETE_FROM) {
            Some(list) => (list.to_owned(), true),
            None => (key, false),
        };
        if change.is_null() && !deletes {
            document.remove(&key);
            continue;
        }
        let merged = match (document.get_mut(&key).map(Value::take), change) {
            (None | Some(Value::Null), _) if deletes => continue,
            (_, change) if deletes && !change.is_array() => {
                return Err(malformed("invalid patch format of primitive list"));
            }
            (Some(Value::Object(old)), Value::Object(new)) => {
                let rule = scope.rule(&key);
                if rule.replace {
                    clean(Value::Object(new))
                } else {
                    merge_map(old, new, rule.scope).map(Value::Object)?
                }
            }
            (Some(Value::Array(old)), Value::Array(new))
                if deletes && !are_alike(old.iter().chain(&new)) =>
            {
                return Err(mixed(old, new));
            }
            (Some(Value::Array(old)), Value::Array(new)) if deletes => {
                Value::Array(old.into_iter().filter(|item| !new.contains(item)).collect())
            }
            (Some(Value::Array(old)), Value::Array(new)) => {
                merge_list(old, new, scope.rule(&key)).map(Value::Array)?
            }
            (Some(old), _) if deletes => old,
            (_, new) => clean(new),
        };
        document.insert(key, merged);
    }
    Ok(document)
}

/// What a patch adds as it is: without nulls and directives.
fn clean(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let directive = |key: &str| {
                key == DIRECTIVE
                    || key == RETAIN_KEYS
                    || key.starts_with(SET_ORDER)
                    || key.starts_with(DELETE_FROM)
            };
            let kept = map
                .into_iter()
                .filter(|(key, value)| !value.is_null() && !directive(key));
            Value::Object(kept.map(|(key, value)| (key, clean(value))).collect())
        }
        Value::Array(items) => {
            let deletes = |item: &Value| {
                item.get(DIRECTIVE)
                    .is_some_and(|directive| directive == "delete")
            };
            let marker = |item: &Value| {
                item.as_object()
                    .is_some_and(|o| o.len() == 1 && o.contains_key(DIRECTIVE))
            };
            let kept = items
                .into_iter()
                .filter(|item| !deletes(item) && !marker(item));
            Value::Array(kept.map(clean).collect())
        }
        value => value,
    }
}

/// `$retainKeys`: fields that are not in the list go.
fn retain_keys(document: &mut Object, patch: &mut Object) -> Result<(), PatchError> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let Value::Array(keys) = keys else {
        return Err(malformed("invalid patch format of retainKeys"));
    };
    let keeps = |key: &str| keys.iter().any(|kept| kept == key);
    for (key, value) in &*patch {
        if !value.is_null()
            && !key.starts_with(DELETE_FROM)
            && !key.starts_with(SET_ORDER)
            && !keeps(key)
        {
            return Err(malformed("invalid patch format of retainKeys"));
        }
    }
    document.retain(|key, _| keeps(key));
    Ok(())
}

/// `$setElementOrder/…`: merges the lists it is for, and puts their elements in that order.
fn set_orders(document: &mut Object, patch: &mut Object, scope: Scope) -> Result<(), PatchError> {
    let directives: Vec<String> = patch
        .keys()
        .filter(|key| key.starts_with(SET_ORDER))
        .cloned()
        .collect();
    for directive in directives {
        let order = match patch.remove(&directive) {
            Some(Value::Array(order)) => order,
            other => return Err(no_list(&other.unwrap_or_default())),
        };
        let key = directive[SET_ORDER.len()..].to_owned();
        let list = |value: Option<&Value>| match value {
            None => Ok(None),
            Some(Value::Array(items)) => Ok(Some(items.clone())),
            Some(other) => Err(no_list(other)),
        };
        // Nothing that is written as null is a list without elements.
        let old = list(document.get(&key).filter(|old| !old.is_null()))?;
        let new = list(patch.get(&key))?;
        let rule = scope.list_rule(&key)?;
        check_order(new.as_deref().unwrap_or_default(), &order, rule.key)?;
        let merged = match (&old, new) {
            (None, None) => continue,
            (Some(old), None) => old.clone(),
            (None, Some(new)) => match clean(Value::Array(new)) {
                Value::Array(new) => new,
                _ => Vec::new(),
            },
            (Some(old), Some(new)) => merge_list(old.clone(), new, rule)?,
        };
        let merged = arrange(merged, &order, old.as_deref().unwrap_or_default(), rule.key)?;
        document.insert(key.clone(), Value::Array(merged));
        patch.remove(&key);
    }
    Ok(())
}

/// The elements of a patch must be in its order directive, in that order.
fn check_order(patch: &[Value], order: &[Value], key: &str) -> Result<(), PatchError> {
    let mut left = order.iter();
    for item in patch.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        let value = identity(item, key);
        if !left.any(|other| identity(other, key) == value) {
            let told = |list: &[Value]| spell_go(&Value::Array(list.to_vec()));
            let (patch, order) = (told(patch), told(order));
            let directive = SET_ORDER.trim_end_matches('/');
            return Err(refused(format!(
                "The order in patch list:\n{patch}\n doesn't match {directive} list:\n{order}\n"
            )));
        }
    }
    Ok(())
}

fn merge_list(
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

fn merge_key<'a>(item: &'a Value, key: &str) -> Result<&'a Value, PatchError> {
    item.get(key).ok_or_else(|| {
        refused(format!(
            "map: {} does not contain declared merge key: {key}",
            spell_go(item)
        ))
    })
}

/// What tells an element from others: its key, or itself.
fn identity<'a>(item: &'a Value, key: &str) -> Option<&'a Value> {
    if key.is_empty() {
        Some(item)
    } else {
        item.get(key)
    }
}

/// Where in a list its elements stand; of those that are told apart by nothing, the first.
fn places<'a>(list: &'a [Value], key: &str) -> HashMap<&'a Value, usize> {
    let mut out = HashMap::with_capacity(list.len());
    for (place, item) in list.iter().enumerate() {
        if let Some(value) = identity(item, key) {
            out.entry(value).or_insert(place);
        }
    }
    out
}

/// Puts the elements that the patch names in its order, and the others between them where the
/// server's order has them.
fn arrange(
    merged: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    key: &str,
) -> Result<Vec<Value>, PatchError> {
    if !key.is_empty() {
        if let Some(place) = patch_order.iter().position(|item| !item.is_object()) {
            return Err(refused(format!("value for key {place} is not a map")));
        }
        for item in merged.iter().chain(patch_order) {
            merge_key(item, key)?;
        }
    }
    let (patch_order, server_order) = (places(patch_order, key), places(server_order, key));
    let index = |order: &HashMap<&Value, usize>, item: &Value| {
        identity(item, key).and_then(|value| order.get(value).copied())
    };
    let (mut named, mut others): (Vec<Value>, Vec<Value>) = merged
        .into_iter()
        .partition(|item| index(&patch_order, item).is_some());
    named.sort_by_key(|item| index(&patch_order, item));
    others.sort_by(
        |a, b| match (index(&server_order, a), index(&server_order, b)) {
            (Some(a), Some(b)) => a.cmp(&b),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => Ordering::Equal,
        },
    );

    let mut out = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for item in named {
        let place = index(&server_order, &item);
        while let Some(other) = others.peek() {
            match (index(&server_order, other), place) {
                (Some(before), Some(place)) if before < place => out.extend(others.next()),
                _ => break,
            }
        }
        out.push(item);
    }
    out.extend(others);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn apply(document: Value, patch: Value) -> Value {
        strategic(document, patch, Type::of_kind("", "v1", "Pod")).unwrap()
    }

    fn containers(list: Value) -> Value {
        json!({"spec": {"containers": list}})
    }

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
    fn a_list_and_an_object_can_be_replaced_whole() {
        let document = containers(json!([{"name": "a"}, {"name": "b"}]));
        let patch = containers(json!([{"name": "c"}, {"$patch": "replace"}]));
        assert_eq!(apply(document, patch), containers(json!([{"name": "c"}])));
        let document = json!({"metadata": {"labels": {"a": "1", "b": "2"}}});
        let patch = json!({"metadata": {"labels": {"c": "3", "$patch": "replace"}}});
        assert_eq!(
            apply(document.clone(), patch),
            json!({"metadata": {"labels": {"c": "3"}}})
        );
        let patch = json!({"metadata": {"labels": {"$patch": "delete"}}});
        assert_eq!(apply(document, patch), json!({"metadata": {"labels": {}}}));
    }

    #[test]
    fn the_order_directive_orders_and_keeps_what_only_the_server_has() {
        let document = containers(json!([{"name": "a"}, {"name": "server"}, {"name": "b"}]));
        let patch = json!({"spec": {
            "$setElementOrder/containers": [{"name": "b"}, {"name": "a"}, {"name": "c"}],
            "containers": [{"name": "c", "image": "3"}],
        }});
        assert_eq!(
            apply(document.clone(), patch),
            containers(
                json!([{"name": "server"}, {"name": "b"}, {"name": "a"}, {"name": "c", "image": "3"}])
            )
        );
        let patch =
            json!({"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}});
        assert_eq!(
            apply(document.clone(), patch),
            containers(json!([{"name": "server"}, {"name": "b"}, {"name": "a"}]))
        );
        let patch = json!({"spec": {
            "$setElementOrder/containers": [{"name": "a"}],
            "containers": [{"name": "c"}],
        }});
        let told = strategic(document, patch, Type::of_kind("", "v1", "Pod"));
        let text = "The order in patch list:\n[map[name:c]]\n doesn't match $setElementOrder list:\n[map[name:a]]\n";
        assert_eq!(told, Err(refused(text)));
    }

    #[test]
    fn what_cannot_be_merged_is_told_in_upstream_s_words() {
        let old = "[map[name:a]]";
        for (spec, text) in [
            (
                json!({"containers": [5]}),
                format!("list element types are not identical: [{old} [5]]"),
            ),
            (
                json!({"containers": [null]}),
                format!("list element types are not identical: [{old} [<nil>]]"),
            ),
            (
                json!({"$deleteFromPrimitiveList/containers": ["a"]}),
                format!("list element types are not identical: [{old} [a]]"),
            ),
            (
                json!({"containers": [{"$patch": "delete"}]}),
                "map: map[$patch:delete] does not contain declared merge key: name".to_owned(),
            ),
            (
                json!({"containers": [{"name": "a", "$patch": 5}]}),
                "unknown patch type: %!s(int64=5) in map: map[$patch:5 name:a]".to_owned(),
            ),
            (
                json!({"$patch": null}),
                "unknown patch type: %!s(<nil>) in map: map[$patch:<nil>]".to_owned(),
            ),
            (
                json!({"$setElementOrder/containers": {}}),
                "expected a []interface {}, but received a map[string]interface {}".to_owned(),
            ),
            (
                json!({"$setElementOrder/containers": [], "containers": null}),
                "expected a []interface {}, but received a %!s(<nil>)".to_owned(),
            ),
            (
                json!({"$setElementOrder/containers": ["a"]}),
                "value for key 0 is not a map".to_owned(),
            ),
            (
                json!({"$setElementOrder/nope": []}),
                r#"unable to find api field in struct PodSpec for the json field "nope""#
                    .to_owned(),
            ),
        ] {
            let patch = json!({"spec": spec});
            let document = containers(json!([{"name": "a"}]));
            let told = strategic(document, patch.clone(), Type::of_kind("", "v1", "Pod"));
            assert_eq!(told, Err(PatchError::Refused(text)), "{patch}");
        }
        // Nothing is to be deleted from a list that is not there.
        let patch = json!({"spec": {"$deleteFromPrimitiveList/nope": 5}});
        assert_eq!(apply(json!({"spec": {}}), patch), json!({"spec": {}}));
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
    fn retained_keys_are_all_that_stays() {
        let document = json!({"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}});
        let patch = json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}});
        let ty = Type::of_kind("apps", "v1", "Deployment");
        assert_eq!(
            strategic(document.clone(), patch, ty).unwrap(),
            json!({"spec": {"strategy": {"type": "Recreate"}}})
        );
        let patch =
            json!({"spec": {"strategy": {"$retainKeys": ["rollingUpdate"], "type": "Recreate"}}});
        assert_eq!(
            strategic(document, patch, ty),
            Err(malformed("invalid patch format of retainKeys"))
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
    fn directives_do_not_end_up_in_the_object() {
        let patch = json!({"spec": {
            "$setElementOrder/containers": [{"name": "a"}],
            "containers": [{"name": "a", "env": [{"name": "x", "$patch": "delete"}], "tty": null}],
            "volumes": [{"name": "v", "$retainKeys": ["name", "emptyDir"], "emptyDir": {}}],
        }});
        assert_eq!(
            apply(json!({}), patch),
            json!({"spec": {
                "containers": [{"name": "a", "env": []}],
                "volumes": [{"name": "v", "emptyDir": {}}],
            }})
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

    fn names() -> impl Strategy<Value = Vec<String>> {
        prop::collection::btree_set("[a-f]", 0..5)
            .prop_map(|set| set.into_iter().collect())
            .prop_shuffle()
    }

    proptest! {
        #[test]
        fn what_apply_sends_leads_to_what_was_asked_for(old in names(), new in names(), server in names()) {
            // The live list has the elements of the last apply and some of the server's own.
            let live: Vec<_> = old.iter().chain(server.iter().filter(|n| !old.contains(n))).collect();
            let gone = |name: &&String| old.contains(name) && !new.contains(name);
            let live_list = json!(live.iter().map(|n| json!({"name": n})).collect::<Vec<_>>());
            let mut changes: Vec<Value> = new.iter().filter(|n| !live.contains(n)).map(|n| json!({"name": n})).collect();
            changes.extend(old.iter().filter(gone).map(|n| json!({"name": n, "$patch": "delete"})));
            let order: Vec<Value> = new.iter().map(|n| json!({"name": n})).collect();
            let patch = json!({"spec": {"$setElementOrder/containers": order, "containers": changes}});
            let result = apply(containers(live_list), patch);
            let names: Vec<&str> = result["spec"]["containers"].as_array().unwrap().iter()
                .map(|c| c["name"].as_str().unwrap()).collect();
            let asked: Vec<&str> = names.iter().copied().filter(|n| new.iter().any(|m| m == n)).collect();
            prop_assert_eq!(asked, new.iter().map(String::as_str).collect::<Vec<_>>());
            for name in &live {
                prop_assert_eq!(names.contains(&name.as_str()), !gone(name));
            }
        }

        #[test]
        fn no_patch_panics(text in r#"[\{\}\[\]",:$a-c]{0,60}"#) {
            if let Ok(patch) = serde_json::from_str(&text) {
                let _ = apply_any(patch);
            }
        }
    }

    fn apply_any(patch: Value) -> Result<Value, PatchError> {
        strategic(
            json!({"spec": {"containers": [{"name": "a"}]}}),
            patch,
            Type::of_kind("", "v1", "Pod"),
        )
    }
}
