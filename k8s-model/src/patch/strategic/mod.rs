//! Strategic merge patches: merge patches that know which lists are maps.
//!
//! See [Update API Objects in Place](https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/)
//! and upstream's design notes on
//! [strategic merge patches](https://github.com/kubernetes/community/blob/master/contributors/devel/sig-api-machinery/strategic-merge-patch.md)
//! for the directives `$patch`, `$retainKeys`, `$setElementOrder/…` and
//! `$deleteFromPrimitiveList/…`.

mod faults;
mod lists;
mod order;
mod rules;

use std::collections::HashSet;

use serde_json::{Map, Value};

use self::{
    faults::{malformed, mixed, unknown_directive},
    lists::{are_alike, merge_list},
    order::set_orders,
    rules::Scope,
};
use super::PatchError;
use crate::schema::{Shape, Type};

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
                let gone: HashSet<Value> = new.into_iter().collect();
                Value::Array(
                    old.into_iter()
                        .filter(|item| !gone.contains(item))
                        .collect(),
                )
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
    let kept: HashSet<&str> = keys.iter().filter_map(Value::as_str).collect();
    let keeps = |key: &str| kept.contains(key);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    pub(super) fn apply(document: Value, patch: Value) -> Value {
        strategic(document, patch, Type::of_kind("", "v1", "Pod")).unwrap()
    }

    pub(super) fn containers(list: Value) -> Value {
        json!({"spec": {"containers": list}})
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
    fn long_lists_are_deleted_from_and_many_keys_retained() {
        let names: Vec<String> = (0..200_000).map(|i| format!("n{i}")).collect();
        let document = json!({"metadata": {"finalizers": names}});
        let patch = json!({"metadata": {"$deleteFromPrimitiveList/finalizers": names[1..]}});
        assert_eq!(
            apply(document, patch),
            json!({"metadata": {"finalizers": ["n0"]}})
        );
        let all: Object = names.iter().map(|name| (name.clone(), "".into())).collect();
        let document = json!({"metadata": {"labels": all}});
        let patch = json!({"metadata": {"labels": {"$retainKeys": names[1..]}}});
        let kept = apply(document, patch);
        assert_eq!(
            kept["metadata"]["labels"].as_object().unwrap().len(),
            199_999
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

    proptest! {
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
