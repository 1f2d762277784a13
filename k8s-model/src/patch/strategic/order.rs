//! The order of a list that was merged, and `$setElementOrder/…`.

use std::{cmp::Ordering, collections::HashMap};

use serde_json::Value;

use super::{
    DIRECTIVE, Object, SET_ORDER, clean,
    faults::{no_list, refused},
    lists::{merge_key, merge_list},
    rules::Scope,
};
use crate::patch::{PatchError, spell_go};

/// `$setElementOrder/…`: merges the lists it is for, and puts their elements in that order.
pub(super) fn set_orders(
    document: &mut Object,
    patch: &mut Object,
    scope: Scope,
) -> Result<(), PatchError> {
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
pub(super) fn check_order(patch: &[Value], order: &[Value], key: &str) -> Result<(), PatchError> {
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

/// What tells an element from others: its key, or itself.
pub(super) fn identity<'a>(item: &'a Value, key: &str) -> Option<&'a Value> {
    if key.is_empty() {
        Some(item)
    } else {
        item.get(key)
    }
}

/// Where in a list its elements stand; of those that are told apart by nothing, the first.
pub(super) fn places<'a>(list: &'a [Value], key: &str) -> HashMap<&'a Value, usize> {
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
pub(super) fn arrange(
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

    use super::super::{
        strategic,
        tests::{apply, containers},
    };
    use super::*;
    use crate::schema::Type;

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
    }
}
