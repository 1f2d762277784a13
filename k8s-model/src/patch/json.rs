//! JSON patches (RFC 6902).

use json_patch::PatchOperation;
use serde_json::Value;

use super::{MAX_JSON_PATCH_OPERATIONS, PatchError};

/// Carries out a JSON patch: all of its operations or none.
///
/// # Errors
///
/// Fails if the bytes are not a JSON patch, if it has too many operations, or if one of them does
/// not fit the document; the document is then as it was.
pub fn json(document: &mut Value, patch: &[u8]) -> Result<(), PatchError> {
    let operations: Vec<Value> = serde_json::from_slice(patch)
        .map_err(|error| PatchError::Malformed(describe(patch, &error)))?;
    if operations.len() > MAX_JSON_PATCH_OPERATIONS {
        return Err(PatchError::TooManyOperations(operations.len()));
    }
    let operations: Vec<PatchOperation> = operations
        .into_iter()
        .map(operation)
        .collect::<Result<_, _>>()?;
    json_patch::patch(document, &operations)
        .map_err(|error| PatchError::Unprocessable(error.to_string()))
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
    format!("json: cannot unmarshal {found} into Go value of type jsonpatch.Patch")
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
    fn what_is_no_patch_is_refused() {
        let mut document = json!({});
        assert_eq!(
            super::json(&mut document, b"{}"),
            Err(PatchError::Malformed(
                "json: cannot unmarshal object into Go value of type jsonpatch.Patch".into()
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
