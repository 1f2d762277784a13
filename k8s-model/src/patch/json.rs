//! JSON patches (RFC 6902).

use json_patch::{
    AddOperation, PatchErrorKind, PatchOperation, ReplaceOperation, jsonptr::PointerBuf,
};
use serde_json::Value;

use super::{MAX_JSON_PATCH_OPERATIONS, PatchError};

/// How many bytes the copies of one patch may add, as upstream has it.
const MAX_COPIED: usize = 3 << 20;

/// No document that is deeper can be read again.
const MAX_DEPTH: usize = 256;

/// Carries out a JSON patch: all of its operations or none.
///
/// # Errors
///
/// Fails if the bytes are not a JSON patch, if it has too many operations, or if one of them does
/// not fit the document; the document is then as it was.
pub fn json(document: &mut Value, patch: &[u8]) -> Result<(), PatchError> {
    let operations: Option<Vec<Value>> = serde_json::from_slice(patch)
        .map_err(|error| PatchError::Malformed(describe(patch, &error)))?;
    let operations = operations.unwrap_or_default();
    if operations.len() > MAX_JSON_PATCH_OPERATIONS {
        return Err(PatchError::TooManyOperations(operations.len()));
    }
    let operations: Vec<PatchOperation> = operations
        .into_iter()
        .map(operation)
        .collect::<Result<_, _>>()?;
    let mut patched = document.clone();
    let mut copied = 0;
    for operation in operations {
        if finds_nothing(&patched, &operation) {
            continue;
        }
        let operation = adding(&patched, operation);
        bound(&patched, &operation, &mut copied).map_err(PatchError::Unprocessable)?;
        json_patch::patch_unsafe(&mut patched, std::slice::from_ref(&operation)).map_err(
            |error| match error.kind {
                PatchErrorKind::TestFailed => PatchError::TestFailed(error.to_string()),
                _ => PatchError::Unprocessable(error.to_string()),
            },
        )?;
    }
    *document = patched;
    Ok(())
}

/// Whether an operation is a test for `null` where an object has no such field: upstream, that holds. Clients ask so
/// whether there are finalizers yet.
fn finds_nothing(document: &Value, operation: &PatchOperation) -> bool {
    let PatchOperation::Test(test) = operation else {
        return false;
    };
    test.value.is_null() && test.path.resolve(document).is_err() && is_field(document, &test.path)
}

/// The operation, which adds if it is to replace a field that an object doesn't have: upstream, that is done.
fn adding(document: &Value, operation: PatchOperation) -> PatchOperation {
    match operation {
        PatchOperation::Replace(ReplaceOperation { path, value })
            if path.resolve(document).is_err() && is_field(document, &path) =>
        {
            PatchOperation::Add(AddOperation { path, value })
        }
        other => other,
    }
}

/// Whether a path leads to a field of an object that is there, though perhaps without the field.
fn is_field(document: &Value, path: &PointerBuf) -> bool {
    let parent = path
        .split_back()
        .map(|(parent, _)| parent.resolve(document));
    parent.is_some_and(|parent| parent.is_ok_and(Value::is_object))
}

/// Refuses what makes a document too large or too deep: a patch of a few copies can double it with each of them.
fn bound(document: &Value, operation: &PatchOperation, copied: &mut usize) -> Result<(), String> {
    let depth = match operation {
        PatchOperation::Add(add) => add.path.count() + depth(&add.value),
        PatchOperation::Replace(replace) => replace.path.count() + depth(&replace.value),
        PatchOperation::Copy(copy) => {
            let source = copy.from.resolve(document).ok();
            *copied += source.map_or(0, size);
            if *copied > MAX_COPIED {
                return Err(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED}"
                ));
            }
            copy.path.count() + source.map_or(0, depth)
        }
        PatchOperation::Move(from) => {
            let source = from.from.resolve(document).ok();
            from.path.count() + source.map_or(0, depth)
        }
        PatchOperation::Remove(_) | PatchOperation::Test(_) => 0,
    };
    if depth > MAX_DEPTH {
        return Err(format!("exceeded max depth of {MAX_DEPTH}"));
    }
    Ok(())
}

/// How many bytes a value has as JSON, about.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 2 + items.iter().map(|item| 1 + size(item)).sum::<usize>(),
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| key.len() + 4 + size(value);
            2 + fields.iter().map(field).sum::<usize>()
        }
        Value::String(text) => 2 + text.len(),
        _ => 4,
    }
}

/// How many lists and objects lie in each other.
fn depth(value: &Value) -> usize {
    let inside = match value {
        Value::Array(items) => items.iter().map(depth).max(),
        Value::Object(fields) => fields.values().map(depth).max(),
        _ => return 0,
    };
    1 + inside.unwrap_or_default()
}

fn operation(value: Value) -> Result<PatchOperation, PatchError> {
    let name = value
        .get("op")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    let path = value
        .get("path")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    serde_json::from_value(value).map_err(|error| {
        PatchError::Unprocessable(match name.as_str() {
            "add" | "remove" | "replace" | "move" | "copy" | "test" => {
                format!("{name} operation does not apply: doc is missing path: {path:?}: {error}")
            }
            other => format!("Unexpected kind: {other}"),
        })
    })
}

fn describe(patch: &[u8], error: &serde_json::Error) -> String {
    let found = match serde_json::from_slice::<Value>(patch) {
        Ok(Value::Object(_)) => "object",
        Ok(Value::String(_)) => "string",
        Ok(Value::Number(_)) => "number",
        Ok(Value::Bool(_)) => "bool",
        Ok(Value::Array(_)) => "array",
        Ok(Value::Null) => "null",
        Err(_) => return crate::decode::syntax_error(patch).unwrap_or_else(|| error.to_string()),
    };
    format!(
        "error decoding patch: json: cannot unmarshal {found} into Go value of type []handlers.jsonPatchOp"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_apply_in_order() {
        let mut document = json!({"a": [1, 2], "b": {"c": "d"}});
        let patch = br#"[
            {"op": "test", "path": "/b/c", "value": "d"},
            {"op": "add", "path": "/a/-", "value": 3},
            {"op": "remove", "path": "/a/0"},
            {"op": "replace", "path": "/b/c", "value": "e"},
            {"op": "copy", "from": "/b/c", "path": "/f"},
            {"op": "move", "from": "/f", "path": "/b/x~1y"}
        ]"#;
        super::json(&mut document, patch).unwrap();
        assert_eq!(document, json!({"a": [2, 3], "b": {"c": "e", "x/y": "e"}}));
    }

    #[test]
    fn what_is_not_there_is_null_to_a_test() {
        let patch = |path: &str| {
            let test = json!({"op": "test", "path": path, "value": null});
            let add = json!({"op": "add", "path": "/metadata/finalizers", "value": ["a/b"]});
            let mut document = json!({"metadata": {"name": "x"}});
            super::json(&mut document, json!([test, add]).to_string().as_bytes()).map(|()| document)
        };
        let patched = patch("/metadata/finalizers").unwrap();
        assert_eq!(patched["metadata"]["finalizers"], json!(["a/b"]));
        assert!(patch("/metadata/name").is_err());
        assert!(patch("/spec/finalizers").is_err());
    }

    #[test]
    fn replacing_a_field_that_is_not_there_adds_it() {
        let replace = |path: &str| {
            let mut document = json!({"metadata": {"annotations": {}}, "list": [1]});
            let patch = json!([{"op": "replace", "path": path, "value": "v"}]).to_string();
            super::json(&mut document, patch.as_bytes()).map(|()| document)
        };
        let patched = replace("/metadata/annotations/a~1b").unwrap();
        assert_eq!(patched["metadata"]["annotations"], json!({"a/b": "v"}));
        for path in ["/nope/a", "/list/1", "/list/x"] {
            assert!(replace(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_patch_that_does_not_fit_changes_nothing() {
        let mut document = json!({"a": 1});
        let patch =
            br#"[{"op": "remove", "path": "/a"}, {"op": "test", "path": "/b", "value": 1}]"#;
        assert!(matches!(
            super::json(&mut document, patch),
            Err(PatchError::Unprocessable(_))
        ));
        assert_eq!(document, json!({"a": 1}));
    }

    #[test]
    fn a_patch_cannot_make_a_document_grow_without_end() {
        let mut document = json!({"list": ["x".repeat(1000)], "a": {}});
        let doubles = json!({"op": "copy", "from": "/list", "path": "/list/-"});
        let nests = json!({"op": "copy", "from": "/a", "path": "/a/x"});
        let moves = [
            json!({"op": "add", "path": "/b", "value": {}}),
            json!({"op": "move", "from": "/a", "path": "/b/x"}),
            json!({"op": "move", "from": "/b", "path": "/a"}),
        ];
        for patch in [
            vec![doubles; 60],
            vec![nests; 1000],
            moves.iter().cloned().cycle().take(3000).collect(),
        ] {
            let patch = Value::from(patch).to_string();
            let before = document.clone();
            assert!(matches!(
                super::json(&mut document, patch.as_bytes()),
                Err(PatchError::Unprocessable(_))
            ));
            assert_eq!(document, before);
        }
    }

    #[test]
    fn what_is_no_patch_is_refused() {
        let mut document = json!({});
        assert_eq!(
            super::json(&mut document, b"{}"),
            Err(PatchError::Malformed(
                "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp".into()
            ))
        );
        assert!(matches!(
            super::json(&mut document, b"[{"),
            Err(PatchError::Malformed(_))
        ));
        assert!(matches!(
            super::json(&mut document, br#"[{"op": "dance", "path": "/a"}]"#),
            Err(PatchError::Unprocessable(_))
        ));
        let many = format!(
            "[{}]",
            vec![r#"{"op":"add","path":"/a","value":1}"#; 10_001].join(",")
        );
        assert_eq!(
            super::json(&mut document, many.as_bytes()),
            Err(PatchError::TooManyOperations(10_001))
        );
    }
}
