//! Patches: [`json`], [`merge`] and [`strategic`], on value trees.

mod json;
mod strategic;

use serde_json::{Map, Value};

pub use self::{
    json::{json, json_fault},
    strategic::strategic,
};

/// How many operations a JSON patch may have, as upstream has it.
pub const MAX_JSON_PATCH_OPERATIONS: usize = 10_000;

/// A patch that cannot be read, or not be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatchError {
    /// Not a patch: upstream answers 400.
    #[error("{0}")]
    Malformed(String),
    /// A patch that does not fit the object: upstream answers 422.
    #[error("{0}")]
    Unprocessable(String),
    /// A JSON patch with a test that does not hold: upstream answers 422.
    #[error("{0}")]
    TestFailed(String),
    /// A patch that does not fit the object, which the client is told why. Upstream calls that an internal error, in
    /// the same words: here it is 422.
    #[error("{0}")]
    Refused(String),
    /// A JSON patch with too many operations: upstream answers 413.
    #[error(
        "The allowed maximum operations in a JSON patch is {MAX_JSON_PATCH_OPERATIONS}, got {0}"
    )]
    TooManyOperations(usize),
}

impl PatchError {
    /// The answer to the client.
    pub fn to_status(&self) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::Status {
        use crate::status;
        match self {
            PatchError::Malformed(text) => status::bad_request(text),
            PatchError::Unprocessable(_) | PatchError::TestFailed(_) => {
                status::unprocessable_patch()
            }
            PatchError::Refused(text) => status::failure(422, "Invalid", text),
            PatchError::TooManyOperations(_) => status::too_large(&self.to_string()),
        }
    }
}

/// A value as Go's `%v` prints it, which is how upstream quotes patches: `map[data:map[a:1]]`.
pub fn spell_go(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(spell_go).collect();
            format!("[{}]", items.join(" "))
        }
        Value::Object(object) => {
            let members: Vec<String> = object
                .iter()
                .map(|(k, v)| format!("{k}:{}", spell_go(v)))
                .collect();
            format!("map[{}]", members.join(" "))
        }
        other => other.to_string(),
    }
}

/// Carries out a merge patch (RFC 7386): objects merge, `null` removes, all else replaces.
///
/// What comes to be where no object was loses its fields that are `null`. As upstream has it, those of objects in lists
/// too, while an element that is `null` stays; and a list in the place of an object stays as it is.
pub fn merge(document: &mut Value, patch: &Value) {
    match (document, patch) {
        (Value::Object(fields), Value::Object(changes)) => merge_fields(fields, changes),
        (document, patch) => *document = without_null_fields(patch),
    }
}

fn merge_fields(fields: &mut Map<String, Value>, changes: &Map<String, Value>) {
    for (name, change) in changes {
        if change.is_null() {
            fields.remove(name);
            continue;
        }
        match (fields.get_mut(name), change) {
            (Some(Value::Object(fields)), Value::Object(changes)) => merge_fields(fields, changes),
            (Some(found @ Value::Object(_)), change) => *found = change.clone(),
            (_, change) => {
                fields.insert(name.clone(), without_null_fields(change));
            }
        }
    }
}

fn without_null_fields(value: &Value) -> Value {
    match value {
        Value::Object(fields) => (fields.iter())
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), without_null_fields(value)))
            .collect(),
        Value::Array(elements) => elements.iter().map(without_null_fields).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_merge_patch_removes_nulls_and_replaces_lists() {
        let mut document = json!({"a": {"b": 1, "c": 2}, "d": [1, 2]});
        merge(
            &mut document,
            &json!({"a": {"b": null, "e": {"f": null}}, "d": [3]}),
        );
        assert_eq!(document, json!({"a": {"c": 2, "e": {}}, "d": [3]}));
    }

    #[test]
    fn fields_that_are_null_do_not_come_to_be() {
        for (document, patch, expected) in [
            // Where nothing was, or no object.
            (
                json!({}),
                json!({"l": [{"a": null, "b": 1}]}),
                json!({"l": [{"b": 1}]}),
            ),
            (
                json!({"l": null}),
                json!({"l": [[{"a": null}], null]}),
                json!({"l": [[{}], null]}),
            ),
            (
                json!({"l": [1]}),
                json!({"l": [{"a": {"b": null}}]}),
                json!({"l": [{"a": {}}]}),
            ),
            (json!({"l": 1}), json!({"l": {"a": null}}), json!({"l": {}})),
            // In the place of an object.
            (
                json!({"l": {"b": 1}}),
                json!({"l": [{"a": null}]}),
                json!({"l": [{"a": null}]}),
            ),
            (json!({"l": {"b": 1}}), json!({"l": 1}), json!({"l": 1})),
            // As a whole.
            (
                json!({"a": 1}),
                json!([null, {"a": null}]),
                json!([null, {}]),
            ),
            (json!([1]), json!({"a": null, "b": 1}), json!({"b": 1})),
        ] {
            let mut merged = document.clone();
            merge(&mut merged, &patch);
            assert_eq!(merged, expected, "{document} {patch}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn maps() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from)];
        let object = |inner| {
            prop::collection::btree_map("[a-c]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect()))
        };
        object(
            leaf.prop_recursive(3, 32, 4, move |inner| object(inner.boxed()))
                .boxed(),
        )
    }

    fn without_nulls(value: &Value) -> bool {
        match value {
            Value::Null => false,
            Value::Object(map) => map.values().all(without_nulls),
            Value::Array(list) => list
                .iter()
                .all(|item| item.is_null() || without_nulls(item)),
            _ => true,
        }
    }

    fn with_lists_without_nulls(value: &Value) -> bool {
        match value {
            Value::Object(map) => map.values().all(with_lists_without_nulls),
            Value::Array(_) => without_nulls(value),
            _ => true,
        }
    }

    proptest! {
        #[test]
        fn a_merge_patch_twice_is_a_merge_patch_once(mut document in value(), patch in value()) {
            prop_assume!(with_lists_without_nulls(&patch));
            merge(&mut document, &patch);
            let once = document.clone();
            merge(&mut document, &patch);
            prop_assert_eq!(document, once);
        }

        #[test]
        fn a_merge_patch_onto_nothing_gives_the_patch(patch in value()) {
            prop_assume!(without_nulls(&patch));
            let mut document = Value::Null;
            merge(&mut document, &patch);
            prop_assert_eq!(document, patch);
        }

        #[test]
        fn without_a_schema_a_strategic_patch_of_maps_is_a_merge_patch(document in maps(), patch in maps()) {
            let mut merged = document.clone();
            merge(&mut merged, &patch);
            prop_assert_eq!(strategic(document, patch, None).unwrap(), merged);
        }
    }
}
